//! What the backend asks of a device, and who answers: a GPU through its driver, or the emulator.
//!
//! Layout, launch geometry and the order of arguments are the backend's, shared by both.

mod buffer;
#[cfg(feature = "emulator")]
pub(crate) mod emulated;
pub(crate) mod nvidia;

use std::fmt::Debug;
use std::sync::Arc;

use residua_backend::BackendError;

use crate::launch::Launch;

pub(crate) use buffer::Buffer;

/// The backend's name in errors.
pub(crate) const NAME: &str = "cuda";

/// An address in the device's memory; 0 where there is none.
pub(crate) type Address = u64;

/// A stream of work on a device. What is asked for happens in order; addresses must be live allocations of the
/// same device, large enough for what is asked.
pub(crate) trait Driver: Debug + Send + Sync {
    /// The device, for people.
    fn device(&self) -> String;

    /// A number that streams of one open device share, and no others.
    fn identity(&self) -> usize;

    /// `bytes` (at least 1) of device memory; `what` they are for is named in errors.
    fn allocate(&self, bytes: usize, what: &'static str) -> Result<Address, BackendError>;

    /// Gives an allocation back, after everything that uses it. Cannot fail in a way that a caller could mend.
    fn free(&self, address: Address);

    /// Free and total bytes of device memory.
    fn memory(&self) -> Result<(u64, u64), BackendError>;

    /// Sets bytes to 0.
    fn clear(&self, address: Address, bytes: usize) -> Result<(), BackendError>;

    /// Copies to the device; `bytes` may change once this returns.
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), BackendError>;

    /// Copies from the device, after everything that was asked for.
    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), BackendError>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), BackendError>;

    /// Prepares launches to be started together.
    fn record(self: Arc<Self>, launches: Vec<Launch>) -> Result<Box<dyn Recorded>, BackendError>;

    /// Waits until everything asked for is done.
    fn synchronize(&self) -> Result<(), BackendError>;

    /// Another stream on the same device.
    fn stream(&self) -> Result<Arc<dyn Driver>, BackendError>;
}

/// Launches that start together.
pub(crate) trait Recorded: Debug + Send + Sync {
    /// Starts them on the stream that they were recorded for.
    fn replay(&self) -> Result<(), BackendError>;
}

/// A failure that only a message describes.
pub(crate) fn failed(message: impl Into<String>) -> BackendError {
    BackendError::Device { backend: NAME, message: message.into() }
}
