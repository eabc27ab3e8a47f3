//! Recorded work.

use std::sync::Arc;

use residua_backend::BackendError;

use crate::driver::{Driver, Recorded};
use crate::launch::Launch;

/// A sequence of products and layers, recorded by [`CudaBackend::record`](crate::CudaBackend::record).
///
/// It holds on to the operands it was recorded with. A replay reads and writes their memory: write an input vector
/// with [`CudaBackend::write`](crate::CudaBackend::write), replay, download the result.
#[derive(Debug)]
pub struct CudaGraph {
    /// `None` for no work at all.
    recorded: Option<Box<dyn Recorded>>,
}

impl CudaGraph {
    pub(crate) fn new(driver: Arc<dyn Driver>, launches: Vec<Launch>) -> Result<Self, BackendError> {
        let recorded = if launches.is_empty() { None } else { Some(driver.record(launches)?) };
        Ok(Self { recorded })
    }

    /// Starts the recorded work on the stream that it was recorded on.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the driver refuses.
    pub fn replay(&self) -> Result<(), BackendError> {
        self.recorded.as_ref().map_or(Ok(()), |recorded| recorded.replay())
    }
}
