//! How sparse matrices lie in memory: sliced rows with gaps.
//!
//! This is SELL-C-σ (M. Kreutzer et al., *A unified sparse matrix data format for efficient general sparse
//! matrix-vector multiplication on modern processors with wide SIMD units*, SIAM J. Sci. Comput. 36, 2014)
//! with C = 8, columns stored as gaps, and rows cut at panels of columns:
//!
//! - A [`Chunk`] is a run of up to 96 rows with about 64 Ki entries at most. It is the unit of work of a thread, and σ: rows
//!   are sorted inside it.
//! - A chunk's rows are cut into **segments** where a panel of about 3,072 columns ends. The `x` of a panel stays in the
//!   first-level cache (SpMV) or the second (SpMM) while kernels work on the panel. A row that is far longer than the
//!   others is cut further, so that it cannot pad a slice.
//! - Eight segments of one panel form a [`Slice`], longest first. Step `j` of a slice is one gap and one value for each of
//!   its eight lanes, side by side.
//!
//! A lane starts at a column and adds a gap at every step. **Fillers** bridge a gap wider than the gap type: a filler is
//! the type's largest gap with value 0. A stored 0 never has the largest gap: a filler and a gap of 0 encode it. So gap
//! and value together tell fillers from entries. A lane shorter than its slice is padded with gap 0 and value 0: it stays
//! on a column that exists.

mod build;
mod segment;

use bytemuck::Pod;
use half::{bf16, f16};
use residua_memory::{AlignedVec, Reservation};

pub(crate) use build::build;

/// Lanes of a slice.
pub(crate) const LANES: usize = 8;

/// A stored value.
pub(crate) trait Stored: Pod + Send + Sync {
    fn to_f32(self) -> f32;
    fn is_zero(self) -> bool {
        self.to_f32() == 0.0
    }
}

impl Stored for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Stored for f16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // The library's version is a call. Shifted into place, the exponent is 112 too small. A multiplication corrects
        // it, for subnormals too; infinities and NaN get all exponent bits set instead.
        let magnitude = u32::from(self.to_bits() & 0x7FFF) << 13;
        let bits = match magnitude < 0x0F80_0000 {
            true => (f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23)).to_bits(),
            false => magnitude | 0x7F80_0000,
        };
        f32::from_bits(bits | u32::from(self.to_bits() & 0x8000) << 16)
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        // The library's version also quiets NaN; a shift is enough.
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Stored for i8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
}

/// An integer that holds the gap between two columns.
pub(crate) trait Gap: Pod + Send + Sync {
    /// The largest gap: what a filler bridges.
    const MAX: u32;
    fn get(self) -> u32;
    /// A gap of at most [`MAX`](Self::MAX).
    fn new(gap: u32) -> Self;
}

impl Gap for u8 {
    const MAX: u32 = u8::MAX as u32;
    #[inline(always)]
    fn get(self) -> u32 {
        self.into()
    }
    fn new(gap: u32) -> Self {
        gap as Self
    }
}

impl Gap for u16 {
    const MAX: u32 = u16::MAX as u32;
    #[inline(always)]
    fn get(self) -> u32 {
        self.into()
    }
    fn new(gap: u32) -> Self {
        gap as Self
    }
}

/// Eight row segments side by side.
#[derive(Debug, Clone)]
pub(crate) struct Slice {
    /// Steps of the longest lane.
    pub(crate) steps: u32,
    /// Steps of each lane, fillers counted; 0 for a lane without a segment.
    pub(crate) lens: [u16; LANES],
    /// Row of each lane, counted from the chunk's first.
    pub(crate) rows: [u16; LANES],
    /// Column before each lane's first gap.
    pub(crate) starts: [u32; LANES],
}

/// A chunk's slices with their gaps and values.
///
/// The kernels trust what `build` guarantees: both planes hold `8 · Σ steps` elements; every lane of every
/// slice stands below `cols` after each of its steps; `rows` of used lanes are below the chunk's rows.
#[derive(Debug)]
pub(crate) struct Planes<V: Stored, G: Gap> {
    pub(crate) cols: usize,
    pub(crate) slices: Vec<Slice>,
    pub(crate) gaps: AlignedVec<G>,
    pub(crate) values: AlignedVec<V>,
}

/// The planes in whichever gap type makes them smaller.
#[derive(Debug)]
pub(crate) enum AnyPlanes<V: Stored> {
    Narrow(Planes<V, u8>),
    Wide(Planes<V, u16>),
}

/// A run of rows.
#[derive(Debug)]
pub(crate) struct Chunk<V: Stored> {
    pub(crate) rows: std::ops::Range<usize>,
    pub(crate) planes: AnyPlanes<V>,
    _held: Reservation,
}

/// A sparse matrix whose chunks cover all rows in order.
#[derive(Debug)]
pub(crate) struct Sparse<V: Stored> {
    pub(crate) shape: [usize; 2],
    pub(crate) nnz: usize,
    pub(crate) chunks: Vec<Chunk<V>>,
    /// What each row's sum is multiplied by; empty where that is 1.
    pub(crate) scales: AlignedVec<f32>,
    _held: Reservation,
}

impl<V: Stored> Sparse<V> {
    /// Bytes of all planes.
    pub(crate) fn bytes(&self) -> usize {
        let chunk = |chunk: &Chunk<V>| match &chunk.planes {
            AnyPlanes::Narrow(planes) => planes.bytes(),
            AnyPlanes::Wide(planes) => planes.bytes(),
        };
        self.chunks.iter().map(chunk).sum::<usize>() + self.scales.as_bytes().len()
    }
}

impl<V: Stored, G: Gap> Planes<V, G> {
    fn bytes(&self) -> usize {
        size_of_val(&*self.slices) + self.gaps.as_bytes().len() + self.values.as_bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_widen_exactly() {
        for bits in 0..=u16::MAX {
            let (half, brain) = (f16::from_bits(bits), bf16::from_bits(bits));
            let pairs = [(Stored::to_f32(half), half.to_f32()), (Stored::to_f32(brain), brain.to_f32())];
            for (found, expected) in pairs {
                let same = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
                assert!(same, "{bits:#x}: {found} for {expected}");
            }
        }
    }
}
