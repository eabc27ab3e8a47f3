//! What can go wrong.

use std::path::{Path, PathBuf};

use residua_format::FormatError;
use residua_format::file::FileError;
use residua_memory::{BudgetError, ErrorKind};

/// A job of this crate that could not be done. Outputs are as they were before it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// Options that contradict themselves or the input.
    #[error("{0}")]
    Usage(String),
    /// The budget does not allow the job.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A file that cannot be read or written, or is not what its format prescribes.
    #[error(transparent)]
    File(#[from] FileError),
    /// A residual that does not fit the sparse format.
    #[error("tensor {tensor}: {source}")]
    Format {
        /// The tensor.
        tensor: String,
        /// What does not fit.
        source: FormatError,
    },
    /// NaN or infinity in the input.
    #[error("{}: tensor {tensor} at [{row}, {col}]: {value} is not a finite number", .file.display())]
    NotFinite {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A result that its type cannot hold.
    #[error("tensor {tensor} at [{row}, {col}]: {value:e} overflows {dtype}")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// The value to be stored.
        value: f64,
        /// The type.
        dtype: String,
    },
    /// A tensor that is not what the job calls for.
    #[error("{}: tensor {tensor}: {problem}", .file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A temporary file that could not be written or read back.
    #[error("{}: temporary file: {source}", .directory.display())]
    Spool {
        /// Where it lies.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SplitError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Budget(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::Spool { .. } => ErrorKind::Io,
            _ => ErrorKind::Input,
        }
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }
}
