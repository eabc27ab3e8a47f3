//! The index bytes of one row, in the smallest mode.

use serde::{Deserialize, Serialize};

/// How a row stores its columns. An empty row has no entries and no bytes, in any mode.
///
/// An encoder takes the mode with the fewest bytes and counts the values of fillers too. So a row of at most 65,536
/// columns never costs more than two bytes per non-zero beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum RowMode {
    /// One byte per entry: the distance from the previous column; the first column counts from −1. Byte 0 is a
    /// filler: it skips 255 columns, holds none, and its value is 0.
    Gap = 0,
    /// Two bytes per entry: the column, little-endian.
    Absolute16 = 1,
    /// One bit per column of the matrix, lowest bit first, bits past the last column 0.
    Bitmap = 2,
    /// Four bytes per entry: the column, little-endian. For matrices of more than 65,536 columns.
    Absolute32 = 3,
}

/// Columns that a filler skips.
const FILLER_STEP: u32 = 255;

impl RowMode {
    /// The mode of a byte of the mode plane.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Gap, Self::Absolute16, Self::Bitmap, Self::Absolute32].into_iter().find(|&m| m as u8 == byte)
    }
}

/// The mode and the sizes of a row, known before anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowPlan {
    /// The mode with the fewest bytes.
    pub mode: RowMode,
    /// Non-zeros.
    pub nnz: usize,
    /// Entries of the value plane: non-zeros and fillers.
    pub entries: usize,
    /// Bytes of the index plane.
    pub index_bytes: usize,
}

impl RowPlan {
    /// The cheapest way to store a row with `columns` (strictly rising, below `cols`) and values of `value_bytes`
    /// each. Ties go to [`RowMode::Gap`].
    pub fn new(columns: &[u32], cols: usize, value_bytes: usize) -> Self {
        let (nnz, gap) = (columns.len(), Self::gap(columns));
        let plain = |mode, index_bytes| Self { mode, nnz, entries: nnz, index_bytes };
        let absolute = if cols <= 1 << 16 {
            plain(RowMode::Absolute16, 2 * nnz)
        } else {
            plain(RowMode::Absolute32, 4 * nnz)
        };
        let bitmap = plain(RowMode::Bitmap, if nnz == 0 { 0 } else { cols.div_ceil(8) });
        let cost = |plan: &Self| plan.bytes(value_bytes);
        // min_by_key keeps the first of equals: the gap plane.
        [gap, absolute, bitmap].into_iter().min_by_key(cost).unwrap_or(gap)
    }

    /// The row with `columns` (strictly rising) in [`RowMode::Gap`].
    pub fn gap(columns: &[u32]) -> Self {
        let nnz = columns.len();
        // Most rows need no filler. Then no gap has a bit above its lowest eight.
        let high_bits = gaps(columns).fold(0, |bits, gap| bits | gap) >> 8;
        let fillers =
            if high_bits == 0 { 0 } else { gaps(columns).map(|gap| fillers_before(gap) as usize).sum() };
        let entries = nnz + fillers;
        Self { mode: RowMode::Gap, nnz, entries, index_bytes: entries }
    }

    /// Bytes of the row's part of the index plane and of the value plane.
    pub fn bytes(&self, value_bytes: usize) -> usize {
        self.index_bytes + self.entries * value_bytes
    }

    /// Appends the row's index bytes to `index`. Calls `place` once per entry of the value plane, in order: with
    /// `Some(i)` for the i-th of `columns`, with `None` for a filler, which needs the value 0.
    ///
    /// `columns` and `cols` must be those that the plan was made for.
    pub fn encode(
        &self,
        columns: &[u32],
        cols: usize,
        index: &mut Vec<u8>,
        place: impl FnMut(Option<usize>),
    ) {
        let start = index.len();
        index.resize(start + self.index_bytes, 0);
        self.encode_into(columns, cols, &mut index[start..], place);
    }

    /// [`encode`](Self::encode) into a slice of `index_bytes` zero bytes.
    ///
    /// # Panics
    /// When `index` has another length, or `columns` are not those that the plan was made for.
    pub fn encode_into(
        &self,
        columns: &[u32],
        cols: usize,
        index: &mut [u8],
        mut place: impl FnMut(Option<usize>),
    ) {
        assert_eq!(
            (columns.len(), index.len()),
            (self.nnz, self.index_bytes),
            "columns and bytes of the plan"
        );
        debug_assert!(columns.last().is_none_or(|&last| (last as usize) < cols), "columns below {cols}");
        match self.mode {
            RowMode::Gap if self.entries == self.nnz => {
                index.iter_mut().zip(gaps(columns)).for_each(|(byte, gap)| *byte = gap as u8);
            }
            RowMode::Gap => {
                let mut entry = 0;
                for (i, gap) in gaps(columns).enumerate() {
                    let fillers = fillers_before(gap);
                    (0..fillers).for_each(|_| place(None));
                    entry += fillers as usize;
                    index[entry] = (gap - fillers * FILLER_STEP) as u8;
                    place(Some(i));
                    entry += 1;
                }
                return;
            }
            RowMode::Absolute16 => {
                let bytes = index.as_chunks_mut::<2>().0.iter_mut();
                bytes.zip(columns).for_each(|(bytes, &column)| *bytes = (column as u16).to_le_bytes());
            }
            RowMode::Absolute32 => {
                let bytes = index.as_chunks_mut::<4>().0.iter_mut();
                bytes.zip(columns).for_each(|(bytes, column)| *bytes = column.to_le_bytes());
            }
            RowMode::Bitmap => {
                columns.iter().for_each(|&column| index[column as usize / 8] |= 1 << (column % 8));
            }
        }
        (0..columns.len()).for_each(|i| place(Some(i)));
    }
}

/// The distance of every column from the one before it, of the first from −1.
#[inline]
fn gaps(columns: &[u32]) -> impl Iterator<Item = u32> {
    let first = columns.first().map(|&column| column.wrapping_add(1));
    first.into_iter().chain(columns.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])))
}

/// Fillers that a gap of 1 or more needs before its last byte. The last byte holds 1 to 255.
#[inline]
fn fillers_before(gap: u32) -> u32 {
    // The test spares the common gap the division.
    if gap <= FILLER_STEP { 0 } else { (gap - 1) / FILLER_STEP }
}

/// The non-zeros of one row: `(position in the row's values, column)`.
#[derive(Debug, Clone)]
pub struct RowIter<'a> {
    mode: RowMode,
    index: &'a [u8],
    /// Entries passed, fillers counted.
    position: usize,
    /// The column passed last; −1 before the first. For bitmaps, the bit to look at next.
    column: u32,
}

impl<'a> RowIter<'a> {
    pub(super) fn new(mode: RowMode, index: &'a [u8]) -> Self {
        let column = if mode == RowMode::Bitmap { 0 } else { u32::MAX };
        Self { mode, index, position: 0, column }
    }
}

impl Iterator for RowIter<'_> {
    type Item = (usize, u32);

    #[inline]
    fn next(&mut self) -> Option<(usize, u32)> {
        let position = self.position;
        match self.mode {
            RowMode::Gap => {
                for &gap in &self.index[position..] {
                    self.position += 1;
                    if gap > 0 {
                        self.column = self.column.wrapping_add(u32::from(gap));
                        return Some((self.position - 1, self.column));
                    }
                    self.column = self.column.wrapping_add(FILLER_STEP);
                }
                return None;
            }
            RowMode::Absolute16 => {
                let bytes = self.index.get(2 * position..2 * position + 2)?;
                self.column = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
            }
            RowMode::Absolute32 => {
                let bytes = self.index.get(4 * position..4 * position + 4)?;
                self.column = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            RowMode::Bitmap => loop {
                let byte = *self.index.get(self.column as usize / 8)? >> (self.column % 8);
                if byte != 0 {
                    let column = self.column + byte.trailing_zeros();
                    self.column = column + 1;
                    self.position += 1;
                    return Some((position, column));
                }
                self.column = (self.column / 8 + 1) * 8;
            },
        }
        self.position += 1;
        Some((position, self.column))
    }
    /// Decodes the rest of the row, several times faster than one entry at a time.
    #[inline]
    fn fold<B, F: FnMut(B, (usize, u32)) -> B>(self, init: B, mut f: F) -> B {
        let mut sum = init;
        match self.mode {
            RowMode::Gap => {
                let mut column = self.column;
                for (position, &gap) in self.index.iter().enumerate().skip(self.position) {
                    column = column.wrapping_add(if gap == 0 { FILLER_STEP } else { u32::from(gap) });
                    if gap != 0 {
                        sum = f(sum, (position, column));
                    }
                }
            }
            RowMode::Absolute16 => {
                for (position, bytes) in self.index.as_chunks().0.iter().enumerate().skip(self.position) {
                    sum = f(sum, (position, u32::from(u16::from_le_bytes(*bytes))));
                }
            }
            RowMode::Absolute32 => {
                for (position, bytes) in self.index.as_chunks().0.iter().enumerate().skip(self.position) {
                    sum = f(sum, (position, u32::from_le_bytes(*bytes)));
                }
            }
            RowMode::Bitmap => {
                for item in self {
                    sum = f(sum, item);
                }
            }
        }
        sum
    }
}
