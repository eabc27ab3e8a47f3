//! Failures of a backend.

use residua_format::FormatError;
use residua_memory::{BudgetError, ErrorKind};

/// A failure of a backend.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The backend cannot run on this machine.
    #[error("{backend} is not available: {missing} is missing; {install}")]
    Unavailable {
        /// Its name.
        backend: &'static str,
        /// What is missing: a driver, a library, a device, a processor feature.
        missing: String,
        /// What to install or change, as an instruction.
        install: String,
    },
    /// Two operands do not fit together.
    #[error("{operation}: {left_name} is {left:?}, {right_name} is {right:?}; {rule}")]
    Shape {
        /// The operation.
        operation: &'static str,
        /// The first operand.
        left_name: &'static str,
        /// Its shape.
        left: [usize; 2],
        /// The second operand.
        right_name: &'static str,
        /// Its shape.
        right: [usize; 2],
        /// The rule that is broken.
        rule: &'static str,
    },
    /// A shape has more places than an index can address, or than the device holds in one buffer.
    #[error("{what} of shape {shape:?} is too large; the limit is {limit} {unit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its shape.
        shape: [usize; 2],
        /// The limit.
        limit: u64,
        /// What the limit counts.
        unit: &'static str,
    },
    /// There is no device of that name or number.
    #[error("{backend}: there is no device {wanted:?}; there are: {present}")]
    NoSuchDevice {
        /// Its name.
        backend: &'static str,
        /// The name or number.
        wanted: String,
        /// The devices of this machine, for people.
        present: String,
    },
    /// Something needs more than a limit of the device allows; more memory would not help.
    #[error("{backend}: {what} needs {needed} {name}; this device's limit is {limit}")]
    DeviceLimit {
        /// Its name.
        backend: &'static str,
        /// What needs it.
        what: String,
        /// How much it needs.
        needed: u64,
        /// How much there is.
        limit: u64,
        /// What the limit counts.
        name: &'static str,
    },
    /// The device's memory is full.
    #[error("{backend}: {asked} bytes for {what} do not fit the device's memory{}", free_text(*free))]
    OutOfMemory {
        /// Its name.
        backend: &'static str,
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        asked: u64,
        /// Free bytes, where the driver tells.
        free: Option<u64>,
    },
    /// The device is gone: unplugged, reset or destroyed. Open the backend again.
    #[error("{backend}: the device is lost ({message}); open the backend again")]
    DeviceLost {
        /// Its name.
        backend: &'static str,
        /// What the driver said.
        message: String,
    },
    /// Another backend, or another device of this backend, holds the matrix or vector.
    #[error("{backend}: {what} is held by another backend; upload it here")]
    Foreign {
        /// The backend that was asked.
        backend: String,
        /// Which operand.
        what: &'static str,
    },
    /// The memory budget is too small.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A conversion of a matrix failed.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The driver or the device reported a failure.
    #[error("{backend}: {message}")]
    Device {
        /// Its name.
        backend: &'static str,
        /// What the driver said.
        message: String,
    },
}

impl BackendError {
    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Shape { .. } | Self::TooLarge { .. } | Self::Foreign { .. } => ErrorKind::Usage,
            Self::Budget(error) => error.kind(),
            Self::Format(error) => error.kind(),
            Self::Unavailable { .. }
            | Self::NoSuchDevice { .. }
            | Self::DeviceLimit { .. }
            | Self::OutOfMemory { .. }
            | Self::DeviceLost { .. }
            | Self::Device { .. } => ErrorKind::Device,
        }
    }
}

fn free_text(free: Option<u64>) -> String {
    free.map_or(String::new(), |free| format!(", of which {free} are free"))
}
