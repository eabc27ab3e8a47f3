//! What can go wrong on a backend.

use residua_format::FormatError;
use residua_memory::{BudgetError, ErrorKind};

/// Why a backend could not do what was asked.
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
        /// What was asked for.
        operation: &'static str,
        /// The first operand.
        left_name: &'static str,
        /// Its shape.
        left: [usize; 2],
        /// The second operand.
        right_name: &'static str,
        /// Its shape.
        right: [usize; 2],
        /// What had to hold.
        rule: &'static str,
    },
    /// A shape with more places than can be addressed, or more than the device holds in one buffer.
    #[error("{what} of shape {shape:?} is too large; the most is {limit} {unit}")]
    TooLarge {
        /// What was asked for.
        what: &'static str,
        /// Its shape.
        shape: [usize; 2],
        /// The limit.
        limit: u64,
        /// What the limit counts.
        unit: &'static str,
    },
    /// A device that was asked for by name or number is not there.
    #[error("{backend}: there is no device {wanted:?}; there are: {present}")]
    NoSuchDevice {
        /// Its name.
        backend: &'static str,
        /// What was asked for.
        wanted: String,
        /// The devices that are there, for people.
        present: String,
    },
    /// Something needs more than a device offers, whatever memory it has.
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
    /// The device's memory has no room.
    #[error("{backend}: {asked} bytes for {what} do not fit the device's memory{}", free_text(*free))]
    OutOfMemory {
        /// Its name.
        backend: &'static str,
        /// What the memory was for.
        what: String,
        /// Bytes asked for.
        asked: u64,
        /// Bytes that were free, where the driver says so.
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
    /// A matrix or vector that another backend, or another device of this one, holds.
    #[error("{backend}: {what} is held by another backend; upload it here")]
    Foreign {
        /// The backend that was asked.
        backend: String,
        /// Which operand.
        what: &'static str,
    },
    /// It does not fit the memory budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A matrix could not be converted.
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
    /// What kind of failure it is.
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
