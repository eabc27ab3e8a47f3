//! Recorded work.

use std::sync::Arc;

use residua_backend::BackendError;

use crate::driver::{Driver, Recorded};
use crate::launch::Launch;

/// A sequence of products and layers, recorded by [`CudaBackend::record`](crate::CudaBackend::record).
///
/// It keeps the memory of its operands alive, and a replay reads and writes that memory. To compute with other numbers,
/// overwrite an input vector with [`write`](residua_backend::Backend::write), replay, and download the result.
#[derive(Debug)]
pub struct CudaGraph {
    /// `None` if nothing was recorded.
    recorded: Option<Box<dyn Recorded>>,
}

impl CudaGraph {
    pub(crate) fn new(driver: Arc<dyn Driver>, launches: Vec<Launch>) -> Result<Self, BackendError> {
        let recorded = if launches.is_empty() { None } else { Some(driver.record(launches)?) };
        Ok(Self { recorded })
    }

    /// Starts the work on the stream that recorded it.
    ///
    /// # Errors
    /// [`BackendError::Device`] if the driver fails.
    pub fn replay(&self) -> Result<(), BackendError> {
        self.recorded.as_ref().map_or(Ok(()), |recorded| recorded.replay())
    }
}
