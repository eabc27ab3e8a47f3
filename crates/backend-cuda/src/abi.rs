//! What host and kernels agree on: sizes, and the operands that kernels take by value.
//!
//! `kernels/cuda/operands.cuh` has the same, field by field.

use bytemuck::{Pod, Zeroable};

/// An address in a device's memory; 0 stands for no memory.
pub(crate) type Address = u64;

/// Threads of a block in every kernel: `THREADS`.
pub(crate) const THREADS: usize = 256;
/// Lanes of a warp: `LANES`.
pub(crate) const LANES: usize = 32;
/// Rows that a block computes in `gap.cu` and `dense.cu`: `ROWS`.
pub(crate) const ROWS: usize = 16;
/// Rows that a block computes in `csr.cu`, one per warp.
pub(crate) const CSR_ROWS: usize = 8;
/// Vectors of a larger batch that a block computes at once.
pub(crate) const BATCH: usize = 8;
/// The maximum number of blocks in a launch.
pub(crate) const MOST_BLOCKS: usize = i32::MAX as usize;

/// `Gap`: a residual in slices.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Gap {
    pub(crate) blocks: Address,
    pub(crate) slices: Address,
    pub(crate) starts: Address,
    pub(crate) gaps: Address,
    pub(crate) values: Address,
    pub(crate) scales: Address,
}

/// `Base`: a quantised or dense base in tiles.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Base {
    pub(crate) codes: Address,
    pub(crate) scales: Address,
    pub(crate) tiles: u32,
    pub(crate) groups: u32,
    pub(crate) group_shift: u32,
    pub(crate) padding: u32,
}

/// `Product`: the vectors and factors of a product or layer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Product {
    pub(crate) x: Address,
    pub(crate) y: Address,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) stride: u32,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) padding: u32,
}

impl Product {
    /// Whether the kernels for a single vector compute it.
    pub(crate) fn is_single(&self) -> bool {
        self.stride == 1
    }

    /// Number of blocks, where a block computes `rows` rows and, in a larger batch, [`BATCH`] vectors.
    pub(crate) fn blocks(&self, rows: usize) -> usize {
        let tiles = if self.is_single() { 1 } else { self.stride as usize / BATCH };
        (self.rows as usize).div_ceil(rows) * tiles
    }
}

/// `CsrArrays`: plain CSR.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct CsrArrays {
    pub(crate) row_ptr: Address,
    pub(crate) columns: Address,
    pub(crate) values: Address,
}
