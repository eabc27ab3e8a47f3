//! Errors of files.

use std::io;
use std::path::{Path, PathBuf};

use residua_memory::{BudgetError, ErrorKind};

use crate::FormatError;

/// A file that cannot be read or written. The text names the file and, if there is one, the tensor and the position.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "open", "read tensor w".
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The file breaks a rule of its format.
    #[error("{}: {problem}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// One tensor of the file breaks a rule of its format.
    #[error("{}: tensor {tensor}: {problem}", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// One line of a text file breaks a rule of its format.
    #[error("{}: line {line}: {problem}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// The file ends too early.
    #[error("{}: {what} needs {needed} bytes, {found} are there", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes found.
        found: u64,
    },
    /// A matrix breaks an invariant of its type.
    #[error("{}: tensor {tensor}: {source}", .path.display())]
    Matrix {
        /// The file.
        path: PathBuf,
        /// The matrix.
        tensor: String,
        /// The invariant.
        source: FormatError,
    },
    /// An element type that the reader does not support.
    #[error("{}: tensor {tensor}: element type {dtype}, but {wanted}", .path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its element type.
        dtype: String,
        /// What the reader needs.
        wanted: String,
    },
    /// A missing tensor.
    #[error("{}: there is no tensor {tensor}{}", .path.display(), listed(.others))]
    MissingTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Names of some tensors that are there.
        others: Vec<String>,
    },
    /// Content with another hash than the stored one.
    #[error("{}: {what} has hash {found}, expected {expected}", .path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// What was hashed.
        what: String,
        /// The stored hash.
        expected: String,
        /// The hash of the content.
        found: String,
    },
    /// The budget does not allow the content of the file.
    #[error("{}: {source}", .path.display())]
    Budget {
        /// The file.
        path: PathBuf,
        /// The request that was refused.
        source: BudgetError,
    },
    /// An output that is one of the files that the job reads.
    #[error("{}: the output is the input {}; name another file", .path.display(), .input.display())]
    OutputIsInput {
        /// The output.
        path: PathBuf,
        /// The input, as the caller or the checkpoint's index names it.
        input: PathBuf,
    },
}

/// Names of tensors that an error lists.
const LISTED: usize = 8;

fn listed(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [..] if names.len() > LISTED => format!(", but {}, ...", names[..LISTED].join(", ")),
        [..] => format!(", but {}", names.join(", ")),
    }
}

impl FileError {
    /// What kind of failure it is: [`Io`](ErrorKind::Io), [`Budget`](ErrorKind::Budget),
    /// [`Usage`](ErrorKind::Usage) for an output that is an input, and [`Input`](ErrorKind::Input) for wrong content.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { .. } => ErrorKind::Io,
            Self::Budget { .. } => ErrorKind::Budget,
            Self::OutputIsInput { .. } => ErrorKind::Usage,
            _ => ErrorKind::Input,
        }
    }

    /// For `map_err`: an error of the operating system. `action` completes "cannot …".
    pub fn io(path: &Path, action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let (path, action) = (path.to_owned(), action.into());
        move |source| Self::Io { path, action, source }
    }

    /// A file that breaks a rule of its format.
    pub fn malformed(path: &Path, problem: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into() }
    }

    /// A tensor that breaks a rule of its format.
    pub fn tensor(path: &Path, tensor: &str, problem: impl Into<String>) -> Self {
        Self::Tensor { path: path.to_owned(), tensor: tensor.to_owned(), problem: problem.into() }
    }

    /// A missing tensor; `others` are there.
    pub fn missing<'a>(path: &Path, tensor: &str, others: impl IntoIterator<Item = &'a str>) -> Self {
        let others = others.into_iter().take(LISTED + 1).map(str::to_owned).collect();
        Self::MissingTensor { path: path.to_owned(), tensor: tensor.to_owned(), others }
    }

    /// For `map_err`: an error of a matrix.
    pub fn matrix(path: &Path, tensor: &str) -> impl FnOnce(FormatError) -> Self {
        let (path, tensor) = (path.to_owned(), tensor.to_owned());
        move |source| Self::Matrix { path, tensor, source }
    }

    /// For `map_err`: a refused reservation.
    pub fn budget(path: &Path) -> impl FnOnce(BudgetError) -> Self {
        let path = path.to_owned();
        move |source| Self::Budget { path, source }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Malformed { path, .. }
            | Self::Tensor { path, .. }
            | Self::Line { path, .. }
            | Self::Truncated { path, .. }
            | Self::Matrix { path, .. }
            | Self::Dtype { path, .. }
            | Self::MissingTensor { path, .. }
            | Self::Hash { path, .. }
            | Self::Budget { path, .. }
            | Self::OutputIsInput { path, .. } => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tensor_is_told_with_some_that_are_there() {
        let text =
            |others: &[&str]| FileError::missing("f".as_ref(), "w", others.iter().copied()).to_string();
        assert_eq!(text(&[]), "f: there is no tensor w");
        assert_eq!(text(&["a", "b"]), "f: there is no tensor w, but a, b");
        assert_eq!(text(&["a"; 9]), "f: there is no tensor w, but a, a, a, a, a, a, a, a, ...");
    }
}
