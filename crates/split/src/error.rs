//! Errors of this crate.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_format::FormatError;
use residua_format::file::FileError;
use residua_memory::{BudgetError, ErrorKind};

/// A job that failed. Its output is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// Options that contradict each other or the input.
    #[error("{0}")]
    Usage(String),
    /// The budget does not allow the job.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A file that cannot be read or written, or breaks a rule of its format.
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
    /// A result that is too large for its type.
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
    /// A tensor that does not fit the job.
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
    TemporaryFile {
        /// The directory of the file.
        directory: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The base of a layer is another checkpoint, and that checkpoint was not found.
    #[error(
        "{}: layer {layer} needs another checkpoint as its base (BLAKE3 {expected}), but {}; name the base checkpoint",
        .file.display(), reason(.tried.as_deref(), .source.as_deref())
    )]
    BaseNotFound {
        /// The split file.
        file: PathBuf,
        /// The layer.
        layer: String,
        /// The path that the split file stores, if it stores one.
        tried: Option<PathBuf>,
        /// The hash of the base's bytes, in lower-case hexadecimal.
        expected: String,
        /// Why the stored path does not lead to a checkpoint; `None` if no path is stored or the path was not followed.
        source: Option<Arc<FileError>>,
    },
    /// The caller asked the job to stop ([`Progress::stop`](crate::Progress::stop)).
    #[error("interrupted; nothing was written")]
    Interrupted,
}

/// Why a base was not found.
fn reason(tried: Option<&Path>, source: Option<&FileError>) -> String {
    let Some(tried) = tried else { return "no path to it is stored".to_owned() };
    let tried = tried.display().to_string();
    let Some(source) = source.map(ToString::to_string) else {
        return format!("the stored path {tried} leads out of the file's folder and was not followed");
    };
    match source.contains(&tried) {
        true => format!("the stored path fails: {source}"),
        false => format!("the stored path {tried} fails: {source}"),
    }
}

impl SplitError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Usage(_) => ErrorKind::Usage,
            Self::Budget(error) => error.kind(),
            Self::File(error) => error.kind(),
            Self::TemporaryFile { .. } => ErrorKind::Io,
            Self::BaseNotFound { source, .. } => {
                source.as_ref().map_or(ErrorKind::Usage, |source| source.kind())
            }
            Self::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Input,
        }
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }
}
