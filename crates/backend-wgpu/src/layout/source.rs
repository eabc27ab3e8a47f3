//! What a layout needs to know about a matrix before it writes anything.

use half::{bf16, f16};
use rayon::prelude::*;
use residua_backend::source::Source;
use residua_format::ValueType;

/// A type of stored values.
pub(crate) trait Stored: Copy + Sync {
    const TYPE: ValueType;
    /// Words that hold the values of four entries.
    const WORDS: usize = size_of::<Self>();

    /// The value as it is stored, in the lowest bits.
    fn bits(self) -> u32;
}

impl Stored for f32 {
    const TYPE: ValueType = ValueType::F32;

    fn bits(self) -> u32 {
        self.to_bits()
    }
}

impl Stored for f16 {
    const TYPE: ValueType = ValueType::F16;

    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Stored for bf16 {
    const TYPE: ValueType = ValueType::Bf16;

    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Stored for i8 {
    const TYPE: ValueType = ValueType::I8;

    fn bits(self) -> u32 {
        u32::from(self as u8)
    }
}

/// Entries of a row, and the fillers that it needs with gaps of 8 and of 16 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) entries: u64,
    pub(crate) narrow: u64,
    pub(crate) wide: u64,
}

/// Entries and fillers of every row.
pub(crate) fn counts<V: Stored>(source: &impl Source<V>) -> Vec<Counts> {
    let count = |row| {
        let (mut counts, mut last) = (Counts::default(), u32::MAX);
        source.for_each(row, |column, _| {
            let gap = column.wrapping_sub(last);
            counts.entries += 1;
            counts.narrow += u64::from(fillers(gap, 8));
            counts.wide += u64::from(fillers(gap, 16));
            last = column;
        });
        counts
    };
    (0..source.shape()[0]).into_par_iter().with_min_len(16).map(count).collect()
}

/// Fillers before an entry at distance `gap`, at least 1.
pub(super) fn fillers(gap: u32, bits: u32) -> u32 {
    let most = (1 << bits) - 1;
    if gap <= most { 0 } else { (gap - 1) / most }
}
