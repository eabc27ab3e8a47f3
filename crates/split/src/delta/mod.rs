//! Deltas: the file that [`diff`](crate::diff()) writes and [`patch`](crate::patch()) applies.
//!
//! A tensor of any rank is flattened and cut into rows of 65,536 elements; the last row may be shorter. Elements of
//! less than a byte (F4, F6) are taken as bytes. Rows are hashed, compared and patched one by one, several at a time
//! on all threads.
//!
//! `docs/delta.md` describes the file byte by byte.

pub(crate) mod file;
pub(crate) mod report;
pub(crate) mod row;
pub(crate) mod sizes;
pub(crate) mod target;
pub(crate) mod tree_hash;
pub(crate) mod workers;

use std::fmt;
use std::str::FromStr;

use residua_format::file::Op;
use residua_memory::ErrorKind;
use serde::{Deserialize, Serialize};

pub use file::{read_delta, report_delta};
pub use report::{DiffReport, DiffTensor, PatchReport, PatchedTensor, Stored};
pub use sizes::delta_sizes;

use crate::passed::BLOCK;

/// Memory that writing takes: a block of the input, and a buffer of the output.
pub(crate) const OUTPUT_MEMORY: u64 = 2 * BLOCK as u64;

/// How a delta stores a changed element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaOp {
    /// Its new bits. They can be read without the old checkpoint.
    #[default]
    Overwrite,
    /// Its old bits xor its new bits. Where values moved little the leading bits are zero, so a general compressor
    /// shrinks the delta further.
    Xor,
}

/// A text that names no [`DeltaOp`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no op of a delta; there are {}", DeltaOp::ALL.map(DeltaOp::name).join(" and "))]
pub struct ParseDeltaOpError {
    text: String,
}

impl ParseDeltaOpError {
    /// What kind of failure it is: [`ErrorKind::Usage`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }
}

impl DeltaOp {
    /// Every op.
    pub const ALL: [Self; 2] = [Self::Overwrite, Self::Xor];

    /// Its name, as files spell it.
    pub const fn name(self) -> &'static str {
        self.op().name()
    }

    pub(crate) const fn op(self) -> Op {
        match self {
            Self::Overwrite => Op::Overwrite,
            Self::Xor => Op::Xor,
        }
    }
}

impl fmt::Display for DeltaOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DeltaOp {
    type Err = ParseDeltaOpError;

    fn from_str(name: &str) -> Result<Self, ParseDeltaOpError> {
        let op = Self::ALL.into_iter().find(|op| op.name() == name);
        op.ok_or_else(|| ParseDeltaOpError { text: name.to_owned() })
    }
}
