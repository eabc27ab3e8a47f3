//! Row and column of a triplet in one integer.

use bytemuck::Zeroable;

/// How a key is divided: the column in the low bits, the row inside its bucket above.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) row_bits: u32,
    pub(super) col_bits: u32,
}

/// `u32` where row and column fit, to move half the bytes; otherwise `u64` or `u128`. A key needs one bit more than
/// row and column together, so that no shift is as wide as the type.
pub(super) trait Key: Zeroable + Copy + Default + Ord + Send + Sync {
    fn new(row: usize, col: usize, layout: Layout) -> Self;
    fn row(self, layout: Layout) -> usize;
    fn col(self, layout: Layout) -> usize;
}

macro_rules! key {
    ($($type:ty),*) => {$(
        impl Key for $type {
            #[inline(always)]
            fn new(row: usize, col: usize, layout: Layout) -> Self {
                (row as $type) << layout.col_bits | col as $type
            }
            #[inline(always)]
            fn row(self, layout: Layout) -> usize {
                (self >> layout.col_bits) as usize
            }
            #[inline(always)]
            fn col(self, layout: Layout) -> usize {
                (self & ((1 << layout.col_bits) - 1)) as usize
            }
        }
    )*};
}

key!(u32, u64, u128);

/// A triplet during the sort.
#[derive(Clone, Copy, Default, Zeroable)]
pub(super) struct Placed<K, V> {
    pub(super) key: K,
    pub(super) value: V,
}

impl Layout {
    /// Bits of a key.
    pub(super) fn bits(self) -> u32 {
        self.row_bits + self.col_bits
    }
}

/// The bits that hold every number below `bound`.
pub(super) fn bits_below(bound: usize) -> u32 {
    usize::BITS - bound.saturating_sub(1).leading_zeros()
}
