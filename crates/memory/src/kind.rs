//! What kind of failure an error is.

use std::fmt;

/// The kinds of failure that a caller can tell apart. Every error of the workspace has one (`error.kind()`);
/// the exit codes of the command follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request makes no sense: options contradict each other, or shapes do not fit together.
    Usage,
    /// An input is not what it should be.
    Input,
    /// The memory budget is too small.
    Budget,
    /// The operating system refused to read or write.
    Io,
    /// A device is missing, lost or out of memory.
    Device,
    /// The caller asked the job to stop.
    Interrupted,
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Usage => "usage",
            Self::Input => "input",
            Self::Budget => "budget",
            Self::Io => "io",
            Self::Device => "device",
            Self::Interrupted => "interrupted",
        })
    }
}
