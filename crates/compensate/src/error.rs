//! What can be wrong with features, statistics and what is made of them.

use std::fmt;
use std::path::{Path, PathBuf};

use residua_format::file::{Checkpoint, FileError};
use residua_memory::{BudgetError, ErrorKind};

/// Result of this crate.
pub type Result<T, E = CompensateError> = std::result::Result<T, E>;

/// A job that cannot be done with what it was given. The text says what to change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompensateError {
    /// Vectors or matrices of different dimensions.
    #[error("{what} has dimension {found}, expected {expected}")]
    Dimension {
        /// The object.
        what: String,
        /// Its dimension.
        found: usize,
        /// The dimension that it should have.
        expected: usize,
    },
    /// Arrays that belong together differ in their number of rows.
    #[error("{what}: {found} rows where {expected} belong")]
    Rows {
        /// The array.
        what: String,
        /// Its rows.
        found: u64,
        /// The rows of the arrays that belong to it.
        expected: u64,
    },
    /// NaN or infinity.
    #[error("{what}: row {row}, column {column}: {value} is not a finite number")]
    NotFinite {
        /// The array; in a file, with the name of the file.
        what: String,
        /// The row, from 0.
        row: u64,
        /// The column, from 0.
        column: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// Nothing to work on.
    #[error("{0} is empty")]
    Empty(String),
    /// The source lacks an array that the job needs.
    #[error("the source has no {0}, but this job needs it")]
    Missing(&'static str),
    /// A setting outside its range.
    #[error("{name} is {value}, but has to be {rule}")]
    Setting {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
        /// Its range.
        rule: &'static str,
    },
    /// A matrix that has to be positive definite is not.
    #[error("{what} is not positive definite; {remedy}")]
    Singular {
        /// Which matrix.
        what: String,
        /// What would make it positive definite.
        remedy: &'static str,
    },
    /// A file that holds something else.
    #[error("{}: holds {}", .path.display(), other_content(*.found, *.wanted))]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: Content,
        /// What it has to hold.
        wanted: Content,
    },
    /// A task with the samples of a finished one.
    #[error("these are the samples of task {task}, and the state has them already: they would count twice")]
    Repeated {
        /// The finished task, from 1.
        task: u64,
    },
    /// Statistics and features of different feature spaces, or the same samples twice.
    #[error("{problem}")]
    Space {
        /// What does not fit together.
        problem: String,
    },
    /// A task that cannot be taken back.
    #[error("{problem}")]
    Undo {
        /// Why.
        problem: String,
    },
    /// A class that is not there.
    #[error("there is no class {0}")]
    NoClass(u32),
    /// Statistics that break an invariant.
    #[error("{problem}")]
    Statistics {
        /// What is wrong, and where.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The job does not fit its memory budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

impl CompensateError {
    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Budget(error) => error.kind(),
            Self::Setting { .. } | Self::Repeated { .. } | Self::Space { .. } | Self::Undo { .. } => {
                ErrorKind::Usage
            }
            _ => ErrorKind::Input,
        }
    }

    /// The error with the file that the statistics are in.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Statistics { problem } => {
                Self::Statistics { problem: format!("{}: {problem}", path.display()) }
            }
            Self::Dimension { what, found, expected } => {
                Self::Dimension { what: format!("{}: {what}", path.display()), found, expected }
            }
            other => other,
        }
    }

    /// The error with the class that the statistics are of.
    pub(crate) fn of_class(self, label: u32) -> Self {
        match self {
            Self::Statistics { problem } => Self::Statistics { problem: format!("class {label}: {problem}") },
            other => other,
        }
    }
}

/// An error unless a setting keeps its rule.
pub(crate) fn check(ok: bool, name: &'static str, value: f64, rule: &'static str) -> Result<()> {
    if ok { Ok(()) } else { Err(CompensateError::Setting { name, value, rule }) }
}

/// An error unless dimensions agree.
pub(crate) fn same_dimension(what: &str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(CompensateError::Dimension { what: what.into(), found, expected })
}

/// What a file of this crate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// [`ClassStatistics`](crate::ClassStatistics).
    Statistics,
    /// The state of a [`StatisticsBuilder`](crate::StatisticsBuilder).
    Partial,
    /// A fitted [`Compensator`](crate::Compensator).
    Compensator,
    /// The state of a [`TaskSequence`](crate::TaskSequence).
    Tasks,
    /// Neither.
    Other,
}

impl Content {
    /// What a file holds, from its metadata.
    pub fn of(file: &Checkpoint) -> Self {
        let has = |key| file.metadata().contains_key(key);
        match () {
            () if has(crate::statistics::KEY) => Self::Statistics,
            () if has(crate::statistics::PARTIAL_KEY) => Self::Partial,
            () if has(crate::compensator::KEY) => Self::Compensator,
            () if has(crate::tasks::KEY) => Self::Tasks,
            () => Self::Other,
        }
    }

    /// The metadata entry of a file that has to hold this.
    pub(crate) fn expect_in(self, file: &Checkpoint) -> Result<&str> {
        let key = match self {
            Self::Tasks => crate::tasks::KEY,
            Self::Partial => crate::statistics::PARTIAL_KEY,
            Self::Compensator => crate::compensator::KEY,
            _ => crate::statistics::KEY,
        };
        file.metadata().get(key).map(String::as_str).ok_or_else(|| CompensateError::Content {
            path: file.path().to_owned(),
            found: Self::of(file),
            wanted: self,
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statistics => "class statistics",
            Self::Partial => "partial class statistics",
            Self::Compensator => "a fitted compensator",
            Self::Tasks => "the state of tasks",
            Self::Other => "something else",
        })
    }
}

fn other_content(found: Content, wanted: Content) -> String {
    match (found, wanted) {
        (Content::Other, Content::Tasks) => "no state of tasks".into(),
        (Content::Other, Content::Compensator) => "no fitted compensator".into(),
        (Content::Other, _) => format!("no {wanted}"),
        _ => format!("{found}, not {wanted}"),
    }
}
