//! How a quantised base lies on a device.

use std::sync::Arc;

use rayon::prelude::*;
use residua_backend::{BackendError, Shaped};
use residua_format::{BaseKind, QuantizedBase};
use residua_memory::Budget;

use crate::driver::{Buffer, Driver};
use crate::launch::{self, ROWS};
use crate::layout::LANES;

/// Rows whose codes lie together: a lane multiplies what it loads of `x` with all of them.
const ROWS_TOGETHER: usize = 4;
/// Shift by which a column's group is found where there is only one.
const ONE_GROUP: u32 = 31;

/// A dense matrix of 4- or 8-bit codes in a device's memory.
///
/// Rows are padded to a multiple of 16. Per four rows and *tile* of 256 columns (INT8: 128) each of a warp's 32 lanes has
/// one word per row: code `i` of lane `l` is column `32·i + l` of the tile, without sign, plus 8 (INT8: 128). So a warp
/// loads 512 neighbouring bytes at a time, and neighbouring lanes read neighbouring `x`. Padding is code 0.
#[derive(Debug)]
pub struct CudaBase {
    shape: [usize; 2],
    kind: BaseKind,
    codes: Arc<Buffer>,
    scales: Arc<Buffer>,
    tiles: u32,
    groups: u32,
}

impl CudaBase {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        base: &QuantizedBase,
    ) -> Result<Self, BackendError> {
        let (rows, cols, kind) = (base.rows(), base.cols(), base.kind());
        let tile = tile_columns(kind);
        let (tiles, fours) = (cols.div_ceil(tile), rows.div_ceil(ROWS) * (ROWS / ROWS_TOGETHER));
        let groups = if is_grouped(kind) { (tiles * tile / kind.group(cols)).max(1) } else { 1 };
        let (words, scales) = (fours * tiles * LANES, fours * groups);
        let bytes = words.saturating_add(scales).saturating_mul(size_of::<[u32; ROWS_TOGETHER]>());
        let held = budget.reserve(bytes as u64, "laying out a quantised base")?;

        let mut codes = vec![[0u32; ROWS_TOGETHER]; words];
        if tiles > 0 {
            let fours = codes.par_chunks_mut(tiles * LANES).enumerate();
            fours.for_each(|(four, codes)| pack(base, four * ROWS_TOGETHER, codes));
        }
        let mut padded = vec![[0f32; ROWS_TOGETHER]; scales];
        let own_groups = kind.groups(cols);
        for row in 0..if own_groups > 0 { rows } else { 0 } {
            let own = &base.scales()[row * own_groups..(row + 1) * own_groups];
            let to = &mut padded[row / ROWS_TOGETHER * groups..][..own_groups];
            to.iter_mut().zip(own).for_each(|(to, &scale)| to[row % ROWS_TOGETHER] = scale);
        }
        const WHAT: &str = "a quantised base";
        let codes = Arc::new(Buffer::from_slice(driver, budget, &codes, WHAT)?);
        let scales = Arc::new(Buffer::from_slice(driver, budget, &padded, WHAT)?);
        drop(held);
        Ok(Self { shape: [rows, cols], kind, codes, scales, tiles: tiles as u32, groups: groups as u32 })
    }

    pub(crate) fn kind(&self) -> BaseKind {
        self.kind
    }

    /// The identity of its device.
    pub(crate) fn device(&self) -> usize {
        self.codes.device()
    }

    pub(crate) fn argument(&self) -> launch::Base {
        let group_shift = match is_grouped(self.kind) {
            true => self.kind.group(self.shape[1]).ilog2(),
            false => ONE_GROUP,
        };
        launch::Base {
            codes: self.codes.address(),
            scales: self.scales.address(),
            tiles: self.tiles,
            groups: self.groups,
            group_shift,
            padding: 0,
        }
    }

    pub(crate) fn buffers(&self) -> [Arc<Buffer>; 2] {
        [self.codes.clone(), self.scales.clone()]
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.scales.bytes()
    }
}

impl Shaped for CudaBase {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

fn is_grouped(kind: BaseKind) -> bool {
    !matches!(kind, BaseKind::Int4 | BaseKind::Int8)
}

/// Bits of a code.
fn bits(kind: BaseKind) -> usize {
    if kind == BaseKind::Int8 { 8 } else { 4 }
}

/// Columns of a tile: 32 lanes with one word each.
fn tile_columns(kind: BaseKind) -> usize {
    LANES * 32 / bits(kind)
}

/// Four rows from `first_row`, row-major codes to words of columns that lie 32 apart.
fn pack(base: &QuantizedBase, first_row: usize, words: &mut [[u32; ROWS_TOGETHER]]) {
    let (cols, bits, tile) = (base.cols(), bits(base.kind()), tile_columns(base.kind()));
    let zero = 1u32 << (bits - 1);
    words.fill([(0..32 / bits).fold(0, |word, i| word | zero << (i * bits)); ROWS_TOGETHER]);
    let row_bytes = base.kind().row_bytes(cols);
    for row in first_row..(first_row + ROWS_TOGETHER).min(base.rows()) {
        let codes = &base.codes()[row * row_bytes..(row + 1) * row_bytes];
        for column in 0..cols {
            let code = match bits {
                8 => codes[column],
                _ => codes[column / 2] >> (4 * (column % 2)) & 0xF,
            };
            let word = &mut words[column / tile * LANES + column % LANES][row - first_row];
            // The padding is there already; a sign flips the top bit.
            *word ^= u32::from(code) << (column % tile / LANES * bits);
        }
    }
}
