//! Deltas: what changed from one checkpoint to another of the same model, restored bit for bit.
//!
//! [`diff`](diff()) compares two checkpoints and stores what differs; [`patch`](patch()) makes the new one from
//! the old one and the delta. Both compare and move bits, never numbers: a NaN's payload and the sign of a
//! zero are restored like everything else, for every element type of safetensors. Either side may be one file
//! or sharded; a patch writes one file. Where the new checkpoint was one file, the patched one equals it byte
//! by byte, header and metadata included.
//!
//! # What is stored
//!
//! A tensor of any rank is flattened and cut into rows of 65,536 elements, the last one short; elements of less
//! than a byte (F4, F6) are taken as bytes. The changed elements of all rows form a gap-encoded sparse matrix
//! ([`GapPattern`](residua_format::GapPattern)), with the new bits ([`DeltaOp::Overwrite`]) or old xor new
//! ([`DeltaOp::Xor`]) as values. Of a tensor that did not change only the hash is kept. A tensor whose sparse
//! form would be larger than itself, or whose shape or element type changed, or which is new, is stored whole;
//! one that is gone, by name.
//!
//! # What is checked
//!
//! The delta holds the BLAKE3 hash of every tensor of both checkpoints. A patch refuses a base that is not the
//! delta's own, naming the first tensor that differs, and a delta whose result is not the new checkpoint; the
//! output file is then as it was before. The hashes protect against mistakes and damage; they do not say who
//! made a delta.
//!
//! # Memory
//!
//! Rows are streamed, a few per thread at a time, as the budget allows; the least is one row of the widest
//! element type, about 0.8 MiB for 16-bit and 1.9 MiB for 64-bit elements. The delta is the same, bit for
//! bit, whatever the budget and the number of threads.

mod compare;
mod delta;
mod patch;
mod report;
mod row;
mod scan;
mod spool;
mod target;
mod tree_hash;
mod workers;
mod write;

use std::fmt;
use std::str::FromStr;

use residua_format::file::Op;
use serde::{Deserialize, Serialize};

pub use compare::diff;
pub use delta::read_delta;
pub use patch::patch;
pub use report::{DiffReport, DiffTensor, PatchReport, PatchedTensor, Stored};

/// How a delta holds a changed element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeltaOp {
    /// Its new bits. They are there to be read without the old checkpoint.
    #[default]
    Overwrite,
    /// Its old bits xor its new ones: mostly zeros in front where values moved little, so that a general
    /// compressor behind this format gains more.
    Xor,
}

impl DeltaOp {
    /// Every op.
    pub const ALL: [Self; 2] = [Self::Overwrite, Self::Xor];

    /// Its name in files and on the command line.
    pub const fn name(self) -> &'static str {
        self.op().name()
    }

    pub(self) const fn op(self) -> Op {
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
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let op = Self::ALL.into_iter().find(|op| op.name() == name);
        op.ok_or_else(|| format!("{name:?} is no op of a delta: write overwrite or xor"))
    }
}
