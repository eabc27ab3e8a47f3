//! Errors that the driver reports outside of calls.

use std::sync::{Arc, Mutex, PoisonError};

use residua_backend::BackendError;

use crate::NAME;

/// Written by the device's callbacks, read before and after every call.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Why the device is lost.
    lost: Mutex<Option<String>>,
    /// The first error that no scope caught.
    stray: Mutex<Option<String>>,
}

impl Health {
    /// Listens to a device. Otherwise an error outside a scope would end the process.
    pub(crate) fn watch(device: &wgpu::Device) -> Arc<Self> {
        let health = Arc::new(Self::default());
        let listener = health.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut stray = listener.stray.lock().unwrap_or_else(PoisonError::into_inner);
            stray.get_or_insert_with(|| error.to_string());
        }));
        let listener = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { message };
            listener.lose(&message);
        });
        health
    }

    /// Records that the device is lost.
    pub(crate) fn lose(&self, message: &str) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(|| message.trim().to_owned());
    }

    /// # Errors
    /// When the device is lost, or reported an error that no scope caught.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        if let Some(message) = &*self.lost.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(BackendError::DeviceLost { backend: NAME, message: message.clone() });
        }
        match self.stray.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(message) => Err(BackendError::Device { backend: NAME, message }),
            None => Ok(()),
        }
    }
}
