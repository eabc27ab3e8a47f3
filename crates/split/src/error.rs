//! What can go wrong.

use std::path::PathBuf;

use residua_format::FormatError;
use residua_memory::BudgetError;

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
    /// A tensor that breaks the sparse format's rules.
    #[error("{file}: tensor {tensor}: {source}")]
    Format {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        source: FormatError,
    },
    /// NaN or infinity in the input.
    #[error("{file}: tensor {tensor} at [{row}, {col}]: {value} is not a finite number")]
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
    /// A result that the tensor's dtype cannot hold.
    #[error("tensor {tensor} at [{row}, {col}]: {value} overflows {dtype}")]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// The value to be stored.
        value: f64,
        /// The dtype.
        dtype: String,
    },
    /// A tensor that is missing, or not what the job calls for.
    #[error("{file}: tensor {tensor}: {problem}")]
    Tensor {
        /// The file.
        file: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// A file that could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The four ways to fail that a caller may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense.
    Usage,
    /// The input is not what it should be.
    Input,
    /// The memory budget is too small.
    Budget,
    /// The operating system refused to read or write.
    Io,
}

impl SplitError {
    /// Which way it failed.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Budget(_) => ErrorKind::Budget,
            Self::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Input,
        }
    }
}
