//! How sparse matrices lie on a device: slices of 64 lanes, each lane with a run of one row's entries.
//!
//! `kernels/wgsl/gap_slice.wgsl` gives the words of a slice. A GPU reads fast what neighbouring threads find side
//! by side, and keeps busy only with tens of thousands of threads. So a row is dealt to a team of lanes, as many
//! as it takes to keep lanes short, and every lane knows the column before its first entry: no thread waits for
//! another's columns (a prefix sum over the gaps of a row, which the plain format would need, costs more than
//! these four bytes a lane). Rows of like length share a slice, short rows many to one, and a row too long for
//! the 64 lanes of a slice is cut into segments that a second kernel adds up in order.

mod fill;
mod plan;
mod source;

pub(crate) use fill::fill;
pub(crate) use plan::{Plan, Slice, plan};
pub(crate) use source::{Counts, CsrSource, GapSource, Source, ValueWords};

use crate::gpu::AdapterInfo;

/// Lanes of a slice; `LANES` of the kernels.
pub(crate) const LANES: usize = 64;
/// Words of a team: row, part, scale.
pub(crate) const TEAM_WORDS: usize = 3;
/// The row of a team that does not exist.
pub(crate) const NO_ROW: u32 = u32::MAX;
/// Set in the part of a row's first segment.
pub(crate) const FIRST_SEGMENT: u32 = 1 << 31;

/// What a layout is fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Lanes that a matrix should have at least, so that the device is busy.
    pub(crate) lanes: usize,
    /// Entries of a lane: no fewer for the sake of more lanes, and no more before a row gets more of them.
    pub(crate) shortest: usize,
    pub(crate) longest: usize,
    /// Chunks of the batch that one workgroup works on at most.
    pub(crate) chunks: u32,
    /// Threads of a workgroup that multiplies rows of a base, at least.
    pub(crate) base_threads: u32,
}

impl Tuning {
    pub(crate) fn of(info: &AdapterInfo) -> Self {
        // A processor that plays a GPU runs a few lanes at once, and threads that wait for each other are slow there.
        if info.is_software() {
            Self { chunks: 1, base_threads: 64, ..Self::for_lanes(1 << 10) }
        } else {
            Self::for_lanes(1 << 16)
        }
    }

    pub(crate) fn for_lanes(lanes: usize) -> Self {
        Self { lanes, shortest: 32, longest: 256, chunks: 4, base_threads: 256 }
    }
}
