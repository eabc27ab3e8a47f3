//! The kinds of failure.

use std::fmt;

/// The kind of a failure. Every error of these crates has one (`error.kind()`), so that a caller can decide what to
/// do without matching on the error itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong: options contradict each other, or shapes do not fit together.
    Usage,
    /// An input is wrong: a file is malformed, or its content does not fit the request.
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
