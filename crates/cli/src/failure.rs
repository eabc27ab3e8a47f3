//! Errors as the shell sees them: one line and an exit code.

use std::error::Error;
use std::fmt;
use std::path::Path;

use residua::backend::BackendError;
use residua::compensate::CompensateError;
use residua::format::FormatError;
use residua::format::file::FileError;
use residua::memory::{BudgetError, ErrorKind};
use residua::split::SplitError;

/// For `--help` and the README; the codes are those of [`Kind`].
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  file and checkpoint of verify --against do not match, or something unforeseen
  2  bad usage
  3  bad input: a file that is not what it should be
  4  the memory budget is too small
  5  a file could not be read or written
  6  a device is missing, lost or out of memory
130  interrupted; nothing half-written is left behind";

/// Why a command failed; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The reader of our output has gone: this is no failure, and we print nothing.
    BrokenPipe = 0,
    /// A check failed, or something unforeseen.
    Other = 1,
    /// The request makes no sense.
    Usage = 2,
    /// The input is not what it should be.
    Input = 3,
    /// The memory budget is too small.
    Budget = 4,
    /// The operating system refused to read or write.
    Io = 5,
    /// A device is missing, lost or out of memory.
    Device = 6,
    /// A signal asked the job to stop.
    Interrupted = 130,
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    error: Box<dyn Error>,
}

pub(crate) type Result<T = (), E = Failure> = std::result::Result<T, E>;

impl Failure {
    pub(crate) fn new(kind: Kind, error: impl Into<Box<dyn Error>>) -> Self {
        Self { kind, error: error.into() }
    }

    /// The request makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message.into())
    }

    /// The input is not what it should be.
    pub(crate) fn input(file: &Path, problem: impl fmt::Display) -> Self {
        Self::new(Kind::Input, format!("{}: {problem}", file.display()))
    }

    /// The same failure with `subject` in front.
    pub(crate) fn about(self, subject: impl fmt::Display) -> Self {
        Self::new(self.kind, format!("{subject}: {self}"))
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn exit_code(&self) -> u8 {
        self.kind as u8
    }
}

/// The error and its causes in one line. A cause that the line already contains is not repeated.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !line.contains(&text) {
                line = format!("{line}: {text}");
            }
            cause = error.source();
        }
        f.write_str(&line)
    }
}

impl From<ErrorKind> for Kind {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Usage => Self::Usage,
            ErrorKind::Input => Self::Input,
            ErrorKind::Budget => Self::Budget,
            ErrorKind::Io => Self::Io,
            ErrorKind::Device => Self::Device,
            ErrorKind::Interrupted => Self::Interrupted,
            _ => Self::Other,
        }
    }
}

macro_rules! from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.kind().into(), error)
            }
        }
    )*};
}

impl From<SplitError> for Failure {
    fn from(error: SplitError) -> Self {
        let how = match &error {
            SplitError::BaseNotFound { tried: Some(_), source: None, .. } => {
                " with --base CHECKPOINT, or follow that path with --follow-base"
            }
            SplitError::BaseNotFound { .. } => " with --base CHECKPOINT",
            _ => return Self::new(error.kind().into(), error),
        };
        Self::new(error.kind().into(), format!("{error}{how}"))
    }
}

from!(residua::Error, BudgetError, FileError, BackendError, CompensateError, FormatError);

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl fmt::Display for Layer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|layer| layer as _)
        }
    }

    #[test]
    fn causes_are_told_once() {
        let inner = Layer("row 3 is broken", None);
        let middle = Layer("tensor w: row 3 is broken", Some(Box::new(inner)));
        let outer = Layer("a.safetensors", Some(Box::new(middle)));
        let failure = Failure::new(Kind::Input, outer);
        assert_eq!(failure.to_string(), "a.safetensors: tensor w: row 3 is broken");
    }
}
