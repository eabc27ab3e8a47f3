//! The work that the backend asks of a device: a GPU through its driver, or the emulator.
//!
//! Layouts, launches and arguments come from the backend and are the same for both.

mod buffer;
#[cfg(feature = "emulator")]
pub(crate) mod emulated;
pub(crate) mod nvidia;

use std::fmt::Debug;
use std::sync::Arc;

use residua_backend::BackendError;

use crate::abi::Address;
use crate::launch::Launch;

pub(crate) use buffer::Buffer;

/// The name of the backend.
pub(crate) const NAME: &str = "cuda";

/// A stream of work on a device. The work runs in order. Addresses must lie in live allocations of the same device that
/// are large enough.
pub(crate) trait Driver: Debug + Send + Sync {
    /// A description of the device for people.
    fn device(&self) -> String;

    /// A number that all streams of one open device share. Other devices have other numbers.
    fn identity(&self) -> usize;

    /// Allocates `bytes` of device memory, at least 1. Errors name `what` the memory is for.
    fn allocate(&self, bytes: usize, what: &'static str) -> Result<Address, BackendError>;

    /// Frees an allocation after all work that uses it. A caller could not repair a failure, so none is reported.
    fn free(&self, address: Address);

    /// Free and total bytes of device memory.
    fn memory(&self) -> Result<(u64, u64), BackendError>;

    /// Sets bytes to 0.
    fn clear(&self, address: Address, bytes: usize) -> Result<(), BackendError>;

    /// Copies to the device. The caller may change `bytes` after the call.
    fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), BackendError>;

    /// Copies from the device, after all work before.
    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), BackendError>;

    /// Starts a kernel.
    fn launch(&self, launch: &Launch) -> Result<(), BackendError>;

    /// Prepares launches that start together.
    fn record(self: Arc<Self>, launches: Vec<Launch>) -> Result<Box<dyn Recorded>, BackendError>;

    /// Waits until all work is done.
    fn synchronize(&self) -> Result<(), BackendError>;

    /// Another stream on the same device.
    fn stream(&self) -> Result<Arc<dyn Driver>, BackendError>;
}

/// Launches that start together.
pub(crate) trait Recorded: Debug + Send + Sync {
    /// Starts them on the stream that recorded them.
    fn replay(&self) -> Result<(), BackendError>;
}

/// A driver failure that no other error describes.
pub(crate) fn failed(message: impl Into<String>) -> BackendError {
    BackendError::Device { backend: NAME, message: message.into() }
}
