//! A stream of a GPU as the backend uses it.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::CUresult;
use residua_backend::BackendError;

use super::device::Device;
use super::graph::Graph;
use super::queue::Queue;
use super::staging::Staging;
use super::status::{self, Named};
use crate::abi::Address;
use crate::driver::{Driver, NAME, Recorded};
use crate::launch::Launch;

/// A queue with pinned memory for its small copies.
#[derive(Debug)]
pub(super) struct Stream {
    queue: Arc<Queue>,
    staging: Mutex<Option<Staging>>,
}

impl Stream {
    pub(super) fn new(device: Arc<Device>) -> Result<Self, BackendError> {
        Ok(Self { queue: Arc::new(Queue::new(device)?), staging: Mutex::default() })
    }

    /// The device, entered.
    fn enter(&self) -> Result<&Arc<Device>, BackendError> {
        self.queue.device.enter()?;
        Ok(&self.queue.device)
    }
}

impl Driver for Stream {
    fn device(&self) -> String {
        self.queue.device.description().into()
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.queue.device).addr()
    }

    fn allocate(&self, bytes: usize, what: &'static str) -> Result<Address, BackendError> {
        let device = self.enter()?;
        // SAFETY: nothing reads the memory before it is written.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(address),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let free = device.memory().ok().map(|(free, _)| free);
                Err(BackendError::OutOfMemory { backend: NAME, what: what.into(), asked: bytes as u64, free })
            }
            Err(error) => Err(status::error(&format!("cuMemAlloc of {bytes} bytes"), error)),
        }
    }

    fn free(&self, address: Address) {
        if self.enter().is_ok() {
            let _ = self.queue.wait();
            // SAFETY: an allocation of this device, freed once. This stream no longer uses it; the call waits for other
            // streams.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn memory(&self) -> Result<(u64, u64), BackendError> {
        self.queue.device.memory()
    }

    fn clear(&self, address: Address, bytes: usize) -> Result<(), BackendError> {
        self.enter()?;
        // SAFETY: the caller's allocation has that many bytes.
        unsafe { result::memset_d8_async(address, 0, bytes, self.queue.handle) }.named("cuMemsetD8Async")
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), BackendError> {
        self.enter()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match Staging::first(&mut staging, bytes.len()) {
            Some(pinned) => {
                pinned.copy_from_slice(bytes);
                &*pinned
            }
            None => bytes,
        };
        // SAFETY: the caller's allocation has that many bytes, and this call waits until the copy is done.
        let copied =
            unsafe { result::memcpy_htod_async(to, from, self.queue.handle) }.named("cuMemcpyHtoDAsync");
        copied.and(self.queue.wait())
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), BackendError> {
        self.enter()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = Staging::first(&mut staging, bytes.len());
        let (to, rest) = match pinned {
            Some(pinned) => (pinned, Some(bytes)),
            None => (bytes, None),
        };
        // SAFETY: as in `upload`.
        let copied =
            unsafe { result::memcpy_dtoh_async(to, from, self.queue.handle) }.named("cuMemcpyDtoHAsync");
        copied.and(self.queue.wait())?;
        if let Some(bytes) = rest {
            bytes.copy_from_slice(to);
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        self.enter()?;
        self.queue.start(launch)
    }

    fn record(self: Arc<Self>, launches: Vec<Launch>) -> Result<Box<dyn Recorded>, BackendError> {
        Ok(Box::new(Graph::new(self.queue.clone(), launches)?))
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        self.enter()?;
        self.queue.wait()
    }

    fn stream(&self) -> Result<Arc<dyn Driver>, BackendError> {
        Ok(Arc::new(Self::new(self.queue.device.clone())?))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Pinned memory can only be freed while the device is entered.
        if self.enter().is_ok() {
            *self.staging.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
