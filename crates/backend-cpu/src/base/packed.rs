//! Codes packed for integer products.

use std::ops::Range;

use residua_backend::BackendError;
use residua_format::QuantizedBase;
use residua_memory::{ALIGNMENT, AlignedVec, Budget, Reservation};

use super::too_large;
use crate::pool::Pool;

/// Rows whose codes lie side by side: the lanes of a sum.
pub(crate) const ROWS: usize = 16;
/// Columns of an input that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Columns of a step: those of two words of codes in each lane.
pub(crate) const STEP: usize = 8;

/// How the codes of 16 rows and 8 columns lie. Lanes are rows, 4 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// 64 bytes. Byte `i` of a lane has column `i` in its low nibble and column `4 + i` in its high one: the code plus 8.
    Nibbles,
    /// The same; nibbles are places in a table of levels plus 128.
    Levels([u8; 16]),
    /// 128 bytes: columns 0 to 3 of all lanes, then columns 4 to 7. A byte is the code plus 128.
    Bytes,
}

impl Order {
    /// Bytes of a step of nibbles.
    pub(crate) const STEP_NIBBLES: usize = ROWS * STEP / 2;
    /// Bytes of a step of bytes.
    pub(crate) const STEP_BYTES: usize = ROWS * STEP;

    /// Bytes of a step.
    pub(crate) fn step(self) -> usize {
        if self == Self::Bytes { Self::STEP_BYTES } else { Self::STEP_NIBBLES }
    }

    /// What is added to a code to make it unsigned.
    pub(crate) fn offset(self) -> i32 {
        if self == Self::Nibbles { 8 } else { 128 }
    }
}

/// A quantised base for inputs of 8-bit integers. Rows are padded to a multiple of 16, columns to a multiple of 32.
#[derive(Debug)]
pub(super) struct Packed {
    shape: [usize; 2],
    order: Order,
    codes: AlignedVec<u8>,
    /// `[rows / 16, groups, 16]`.
    scales: AlignedVec<f32>,
    groups: usize,
    /// Columns that share a scale.
    group: usize,
    _held: Reservation,
}

impl Packed {
    pub(super) fn new(pool: &Pool, base: &QuantizedBase, budget: &Budget) -> Result<Self, BackendError> {
        let (rows, cols, kind) = (base.rows(), base.cols(), base.kind());
        // Without columns there are no scales in the file; here a row has one.
        let (groups, group) = (kind.groups(cols).max(1), kind.group(cols));
        let order = order(base);
        let strips = rows.div_ceil(ROWS);
        let strip_bytes = cols
            .checked_next_multiple_of(BLOCK)
            .and_then(|padded| (padded / STEP).checked_mul(order.step()))
            .ok_or_else(|| too_large([rows, cols]))?;
        let bytes = strips
            .checked_mul(strip_bytes)
            .filter(|&bytes| bytes <= isize::MAX as usize - ALIGNMENT)
            .ok_or_else(|| too_large([rows, cols]))?;
        let scale_bytes = strips * groups * ROWS * size_of::<f32>();
        let plane = |bytes: usize| bytes.next_multiple_of(ALIGNMENT) as u64;
        // Every thread decodes one row at a time.
        let scratch = pool.threads() * cols;
        let _scratch = budget.reserve(scratch as u64, "decoding rows of a base")?;
        let held = budget.reserve(plane(bytes) + plane(scale_bytes), "a quantised base")?;

        let mut codes = AlignedVec::zeroed(bytes);
        if strip_bytes > 0 {
            let nibbles = nibbles(base);
            let work = codes.chunks_exact_mut(strip_bytes).enumerate().collect();
            pool.map(rows * cols, work, |(strip, to): (usize, &mut [u8])| {
                let mut multiples = vec![0; cols];
                for row in strip * ROWS..rows.min((strip + 1) * ROWS) {
                    base.multiples(row, &mut multiples);
                    match order {
                        Order::Bytes => pack_bytes(&multiples, row % ROWS, to),
                        _ => pack_nibbles(&multiples, &nibbles, row % ROWS, to),
                    }
                }
            });
        }
        let mut scales = AlignedVec::zeroed(strips * groups * ROWS);
        for (row, from) in base.scales().chunks_exact(groups).enumerate() {
            let strip = &mut scales[row / ROWS * groups * ROWS..];
            strip.iter_mut().skip(row % ROWS).step_by(ROWS).zip(from).for_each(|(to, from)| *to = *from);
        }
        Ok(Self { shape: [rows, cols], order, codes, scales, groups, group, _held: held })
    }

    pub(super) fn view(&self) -> PackedView<'_> {
        let Self { shape, order, codes, scales, groups, group, .. } = self;
        PackedView {
            shape: *shape,
            order: *order,
            codes,
            scales,
            groups: *groups,
            blocks_per_group: group.div_ceil(BLOCK),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.codes.len() + self.scales.as_bytes().len()
    }
}

/// Packed codes as the kernels read them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PackedView<'a> {
    pub(crate) shape: [usize; 2],
    pub(crate) order: Order,
    codes: &'a [u8],
    scales: &'a [f32],
    groups: usize,
    blocks_per_group: usize,
}

impl<'a> PackedView<'a> {
    /// Blocks of a row.
    pub(crate) fn blocks(&self) -> usize {
        self.shape[1].div_ceil(BLOCK)
    }

    /// The strips of 16 rows that have some of these rows.
    pub(crate) fn strips(rows: Range<usize>) -> Range<usize> {
        rows.start / ROWS..rows.end.div_ceil(ROWS)
    }

    /// The codes of some strips.
    pub(crate) fn strip_codes(&self, strips: Range<usize>) -> &'a [u8] {
        let bytes = self.blocks() * BLOCK / STEP * self.order.step();
        &self.codes[strips.start * bytes..strips.end * bytes]
    }

    /// Whether a row has several scales.
    pub(crate) fn grouped(&self) -> bool {
        self.groups > 1
    }

    /// The scales of a strip in a block.
    pub(crate) fn scales(&self, strip: usize, block: usize) -> &'a [f32; ROWS] {
        let (scales, _) = self.scales.as_chunks();
        &scales[strip * self.groups + block / self.blocks_per_group]
    }
}

/// The smallest order that holds the codes.
fn order(base: &QuantizedBase) -> Order {
    let (kind, levels) = (base.kind(), base.grid().levels());
    match (kind.is_codebook(), kind.block()) {
        (true, None) if levels.len() <= 16 => {
            Order::Levels(std::array::from_fn(|i| levels.get(i).map_or(0, |level| *level as u8 ^ 0x80)))
        }
        (false, _) if kind.bits() == 4 => Order::Nibbles,
        _ => Order::Bytes,
    }
}

/// The nibble of every multiple: the multiple plus 8, or its place among the levels.
fn nibbles(base: &QuantizedBase) -> [u8; 256] {
    let mut nibbles = [0; 256];
    let levels = base.grid().levels();
    if levels.is_empty() {
        (0..16u8).for_each(|nibble| nibbles[usize::from(nibble.wrapping_sub(8))] = nibble);
    } else {
        (0..16).zip(levels).for_each(|(place, level)| nibbles[usize::from(*level as u8)] = place);
    }
    nibbles
}

fn pack_nibbles(multiples: &[i8], nibbles: &[u8; 256], lane: usize, to: &mut [u8]) {
    for (multiples, to) in multiples.chunks(STEP).zip(to.chunks_exact_mut(Order::STEP_NIBBLES)) {
        for (i, &multiple) in multiples.iter().enumerate() {
            to[4 * lane + i % 4] |= nibbles[usize::from(multiple as u8)] << (i / 4 * 4);
        }
    }
}

fn pack_bytes(multiples: &[i8], lane: usize, to: &mut [u8]) {
    for (multiples, to) in multiples.chunks(4).zip(to.chunks_exact_mut(4 * ROWS)) {
        for (i, &multiple) in multiples.iter().enumerate() {
            to[4 * lane + i] = multiple as u8 ^ 0x80;
        }
    }
}
