//! The layout of a sparse matrix on a device: slices of 64 lanes, each lane with a run of one row's entries.
//!
//! `gap_slice.wgsl` lists the words of a slice. A GPU reads fast when neighbouring threads read neighbouring words,
//! and needs tens of thousands of threads to be busy. So a team of lanes shares a row, with enough lanes to keep
//! each one short. Every lane stores the column before its first entry: no thread waits for the columns of another.
//! (The plain format needs a prefix sum over the gaps of a row. It costs more than these four bytes a lane.) Rows of
//! similar length share a slice, and short rows share it with many others. A row too long for 64 lanes is cut into
//! segments; a second kernel adds up their sums in order.

mod fill;
mod plan;
mod source;

pub(crate) use fill::fill;
pub(crate) use plan::{Plan, Slice, plan};
pub(crate) use source::{Counts, Stored, counts};

/// Lanes of a slice; `LANES` of the kernels.
pub(crate) const LANES: usize = 64;
/// Words that describe a team: row, part, scale.
pub(crate) const TEAM_WORDS: usize = 3;
/// Row of a team that does not exist.
pub(crate) const NO_ROW: u32 = u32::MAX;
/// Bit in the part of a row's first segment.
pub(crate) const FIRST_SEGMENT: u32 = 1 << 31;

/// The device that a layout is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// Lanes that keep the device busy.
    pub(crate) lanes: usize,
    /// Fewest entries of a lane that are worth another lane.
    pub(crate) shortest: usize,
    /// Most entries of a lane, before its row gets more lanes.
    pub(crate) longest: usize,
    /// Most chunks of the batch for one workgroup.
    pub(crate) chunks: u32,
    /// Fewest threads in a workgroup that multiplies rows of a base.
    pub(crate) base_threads: u32,
}

impl Tuning {
    /// For a GPU, or for software that emulates one.
    pub(crate) fn of(software: bool) -> Self {
        // A processor runs a few lanes at once, and its threads lose time when they wait for each other.
        if software {
            Self { chunks: 1, base_threads: 64, ..Self::for_lanes(1 << 10) }
        } else {
            Self::for_lanes(1 << 16)
        }
    }

    /// For a GPU that needs so many lanes to be busy.
    pub(crate) fn for_lanes(lanes: usize) -> Self {
        Self { lanes, shortest: 32, longest: 256, chunks: 4, base_threads: 256 }
    }
}
