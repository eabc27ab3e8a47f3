//! One error for everything.

use residua_backend::BackendError;
#[cfg(feature = "compensate")]
use residua_compensate::CompensateError;
use residua_format::FormatError;
use residua_format::file::FileError;
use residua_memory::{BudgetError, ErrorKind};
use residua_split::SplitError;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any failure of this workspace. The text names the file, the tensor and the position where there is one;
/// [`kind`](Self::kind) says what kind of failure it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that no device can have.
    #[error("{name:?} names no device; write auto, cpu, cuda, cuda:1, wgpu, wgpu:0 or wgpu:part of its name")]
    DeviceName {
        /// The name.
        name: String,
    },
    /// A slice whose length does not fit the layer and the batch.
    #[error(
        "layer {layer}: {operand} has {found} values, but [{batch}, {features}] row-major has {expected}"
    )]
    Operand {
        /// The layer.
        layer: String,
        /// `x` or `y`.
        operand: &'static str,
        /// Values of the slice.
        found: usize,
        /// Rows that the caller asked for.
        batch: usize,
        /// Features of the layer.
        features: usize,
        /// Values that the slice must have.
        expected: usize,
    },
    /// A job on a checkpoint failed.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A matrix breaks an invariant of its type.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The memory budget is too small.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Statistics, a compensator or a classifier failed.
    #[cfg(feature = "compensate")]
    #[error(transparent)]
    Compensate(#[from] CompensateError),
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DeviceName { .. } | Self::Operand { .. } => ErrorKind::Usage,
            Self::Split(error) => error.kind(),
            Self::Backend(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Format(error) => error.kind(),
            Self::Budget(error) => error.kind(),
            #[cfg(feature = "compensate")]
            Self::Compensate(error) => error.kind(),
        }
    }
}
