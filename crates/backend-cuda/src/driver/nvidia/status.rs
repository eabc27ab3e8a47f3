//! The driver's status codes as errors.

use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;
use residua_backend::BackendError;

use crate::driver::{NAME, failed};

/// `CUDA_ERROR_ILLEGAL_ADDRESS (700)`, as the driver names it.
pub(super) fn name(error: DriverError) -> String {
    let name = error.error_name().map(|name| name.to_string_lossy().into_owned());
    format!("{} ({})", name.unwrap_or_else(|_| "an unknown status".into()), error.0 as u32)
}

/// The error for a failed call.
pub(super) fn error(call: &str, error: DriverError) -> BackendError {
    use CUresult::*;
    let message = format!("{call}: {}", name(error));
    match error.0 {
        // The context cannot be used after these.
        CUDA_ERROR_DEINITIALIZED
        | CUDA_ERROR_DEVICE_UNAVAILABLE
        | CUDA_ERROR_ECC_UNCORRECTABLE
        | CUDA_ERROR_NVLINK_UNCORRECTABLE
        | CUDA_ERROR_CONTEXT_IS_DESTROYED
        | CUDA_ERROR_ILLEGAL_ADDRESS
        | CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUDA_ERROR_MISALIGNED_ADDRESS
        | CUDA_ERROR_INVALID_ADDRESS_SPACE
        | CUDA_ERROR_INVALID_PC
        | CUDA_ERROR_HARDWARE_STACK_ERROR
        | CUDA_ERROR_LAUNCH_TIMEOUT
        | CUDA_ERROR_ASSERT
        | CUDA_ERROR_LAUNCH_FAILED => BackendError::DeviceLost { backend: NAME, message },
        _ => failed(message),
    }
}

/// Adds the name of the call to an error.
pub(super) trait Named<T> {
    fn named(self, call: &str) -> Result<T, BackendError>;
}

impl<T> Named<T> for Result<T, DriverError> {
    fn named(self, call: &str) -> Result<T, BackendError> {
        self.map_err(|status| error(call, status))
    }
}
