//! One row's index bytes, in the mode that makes them fewest.

use serde::{Deserialize, Serialize};

/// How a row stores its columns. An empty row has no entries and no bytes, in any mode.
///
/// The mode with the fewest bytes is taken, values of fillers counted, so that a row of at most 65,536
/// columns never costs more than two bytes per non-zero beside its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum RowMode {
    /// One byte per entry: the distance from the previous column, the first from −1. Byte 0 is a filler: it
    /// moves on by 255 columns, holds no column, and its value is 0.
    Gap = 0,
    /// Two bytes per entry: the column, little-endian.
    Absolute16 = 1,
    /// One bit per column of the matrix, lowest bit first, bits past the last column 0.
    Bitmap = 2,
    /// Four bytes per entry: the column, little-endian. For matrices of more than 65,536 columns.
    Absolute32 = 3,
}

/// Columns that a filler moves on by.
const FILLER_STEP: u32 = 255;

impl RowMode {
    /// The mode that a byte of the mode plane stands for.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Gap, Self::Absolute16, Self::Bitmap, Self::Absolute32].into_iter().find(|&m| m as u8 == byte)
    }
}

/// What it takes to store a row: found before anything is written.
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
    /// The cheapest way to store a row with `columns` (strictly rising, below `cols`) and values of
    /// `value_bytes` each. Ties go to the gap plane.
    pub fn new(columns: &[u32], cols: usize, value_bytes: usize) -> Self {
        let nnz = columns.len();
        let mut previous = u32::MAX;
        let fillers: usize = columns
            .iter()
            .map(|&column| {
                let gap = column.wrapping_sub(previous);
                previous = column;
                fillers_before(gap) as usize
            })
            .sum();
        let entries = nnz + fillers;
        let gap = Self { mode: RowMode::Gap, nnz, entries, index_bytes: entries };
        let plain = |mode, index_bytes| Self { mode, nnz, entries: nnz, index_bytes };
        let absolute = if cols <= 1 << 16 {
            plain(RowMode::Absolute16, 2 * nnz)
        } else {
            plain(RowMode::Absolute32, 4 * nnz)
        };
        let bitmap = plain(RowMode::Bitmap, if nnz == 0 { 0 } else { cols.div_ceil(8) });
        let cost = |plan: &Self| plan.index_bytes + plan.entries * value_bytes;
        // min_by_key keeps the first of equals: the gap plane.
        [gap, absolute, bitmap].into_iter().min_by_key(cost).unwrap_or(gap)
    }

    /// Appends the row's index bytes to `index` and calls `place` once per entry of the value plane, in
    /// order: `Some(i)` for the i-th of `columns`, `None` for a filler, whose value is 0.
    pub fn encode(
        &self,
        columns: &[u32],
        cols: usize,
        index: &mut Vec<u8>,
        mut place: impl FnMut(Option<usize>),
    ) {
        match self.mode {
            RowMode::Gap => {
                let mut previous = u32::MAX;
                for (i, &column) in columns.iter().enumerate() {
                    let mut gap = column.wrapping_sub(previous);
                    for _ in 0..fillers_before(gap) {
                        index.push(0);
                        place(None);
                        gap -= FILLER_STEP;
                    }
                    index.push(gap as u8);
                    place(Some(i));
                    previous = column;
                }
                return;
            }
            RowMode::Absolute16 => {
                index.extend(columns.iter().flat_map(|&column| (column as u16).to_le_bytes()));
            }
            RowMode::Absolute32 => index.extend(columns.iter().flat_map(|column| column.to_le_bytes())),
            RowMode::Bitmap => {
                let start = index.len();
                index.resize(start + if columns.is_empty() { 0 } else { cols.div_ceil(8) }, 0);
                for &column in columns {
                    index[start + column as usize / 8] |= 1 << (column % 8);
                }
            }
        }
        (0..columns.len()).for_each(|i| place(Some(i)));
    }
}

/// Fillers that a gap of 1 or more needs before its last byte, which holds 1 to 255.
fn fillers_before(gap: u32) -> u32 {
    gap.wrapping_sub(1) / FILLER_STEP
}

/// The entries of one row: `(position in the row's values, column)`, fillers left out.
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
}
