//! How a base lies on a device.

mod code;
mod tiles;

use std::sync::Arc;

use residua_backend::{BackendError, Shaped};
use residua_format::{BaseKind, DenseMatrix, DenseValues, QuantizedBase};
use residua_memory::Budget;

use crate::abi;
use crate::driver::{Buffer, Driver};
use tiles::{ROWS_TOGETHER, fours, tiles};

pub(crate) use code::Code;

/// Shift from a column to its group, where a row has one group.
const ONE_GROUP: u32 = 31;

/// A dense matrix in a device's memory: 4- or 8-bit codes with scales, or f32, f16 or bf16 values.
///
/// Rows are padded to a multiple of 16. Four rows lie together and are cut into *tiles* of 32 words a row, one word for
/// each lane of a warp. A word holds 8 weights of 4 bits, 4 of 8 bits, 2 of 16 bits or 1 of 32 bits: weight `i` of lane
/// `l` is column `32·i + l` of the tile. A warp so loads 512 neighbouring bytes at a time, and neighbouring lanes read
/// neighbouring `x`. Integers are stored without sign, plus 8 or 128. Padding has weight 0.
#[derive(Debug)]
pub struct CudaBase {
    shape: [usize; 2],
    code: Code,
    words: Arc<Buffer>,
    /// Empty for floats.
    scales: Arc<Buffer>,
    tiles: u32,
    /// Groups of a row, padding included.
    groups: u32,
    /// Binary logarithm of a group's columns, or [`ONE_GROUP`].
    group_shift: u32,
}

impl CudaBase {
    /// Lays out a quantised base.
    pub(crate) fn quantised(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        base: &QuantizedBase,
    ) -> Result<Self, BackendError> {
        let (rows, cols, kind) = (base.rows(), base.cols(), base.kind());
        let (code, row_bytes, codes) = (Code::of(kind), kind.row_bytes(cols), base.codes());
        let weight = |row: usize, column: usize| match code {
            _ if kind.is_codebook() => u32::from(base.multiple(row, column) as u8),
            Code::Int8 => codes[row * row_bytes + column].into(),
            _ => u32::from(codes[row * row_bytes + column / 2] >> (4 * (column % 2)) & 0xF),
        };
        let words = tiles(driver, budget, [rows, cols], code, weight)?;

        let tiles = cols.div_ceil(code.tile());
        let (groups, group_shift) = match kind {
            BaseKind::Int4G32 | BaseKind::Int4G64 | BaseKind::Int4G128 => {
                let group = kind.group(cols);
                ((tiles * code.tile() / group).max(1), group.ilog2())
            }
            _ => (1, ONE_GROUP),
        };
        let scales = scales(driver, budget, base, groups)?;
        Ok(Self {
            shape: [rows, cols],
            code,
            words: Arc::new(words),
            scales: Arc::new(scales),
            tiles: tiles as u32,
            groups: groups as u32,
            group_shift,
        })
    }

    /// Lays out a base of floats.
    pub(crate) fn dense(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        base: &DenseMatrix,
    ) -> Result<Self, BackendError> {
        let shape @ [_, cols] = [base.rows(), base.cols()];
        let (code, words) = match base.values() {
            DenseValues::F32(values) => {
                let weight = |row: usize, column: usize| values[row * cols + column].to_bits();
                (Code::F32, tiles(driver, budget, shape, Code::F32, weight)?)
            }
            DenseValues::F16(values) => {
                let weight = |row: usize, column: usize| values[row * cols + column].to_bits().into();
                (Code::F16, tiles(driver, budget, shape, Code::F16, weight)?)
            }
            DenseValues::Bf16(values) => {
                let weight = |row: usize, column: usize| values[row * cols + column].to_bits().into();
                (Code::Bf16, tiles(driver, budget, shape, Code::Bf16, weight)?)
            }
        };
        Ok(Self {
            shape,
            code,
            words: Arc::new(words),
            scales: Arc::new(Buffer::new(driver, budget, 0, "a dense base")?),
            tiles: cols.div_ceil(code.tile()) as u32,
            groups: 0,
            group_shift: ONE_GROUP,
        })
    }

    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// The identity of its device.
    pub(crate) fn device(&self) -> usize {
        self.words.device()
    }

    pub(crate) fn argument(&self) -> abi::Base {
        abi::Base {
            codes: self.words.address(),
            scales: self.scales.address(),
            tiles: self.tiles,
            groups: self.groups,
            group_shift: self.group_shift,
            padding: 0,
        }
    }

    pub(crate) fn buffers(&self) -> [Arc<Buffer>; 2] {
        [self.words.clone(), self.scales.clone()]
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.words.bytes() + self.scales.bytes()
    }
}

impl Shaped for CudaBase {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

/// The scales of a quantised base: per four rows and group, a scale for each row. Padding has scale 0.
fn scales(
    driver: &Arc<dyn Driver>,
    budget: &Budget,
    base: &QuantizedBase,
    groups: usize,
) -> Result<Buffer, BackendError> {
    let places = fours(base.rows()) * groups;
    let bytes = (places as u64).saturating_mul(size_of::<[f32; ROWS_TOGETHER]>() as u64);
    let _held = budget.reserve(bytes, "laying out the scales of a base")?;
    let mut padded = vec![[0f32; ROWS_TOGETHER]; places];
    let own_groups = base.kind().groups(base.cols());
    if own_groups > 0 {
        for (row, own) in base.scales().chunks_exact(own_groups).enumerate() {
            let to = &mut padded[row / ROWS_TOGETHER * groups..][..own_groups];
            to.iter_mut().zip(own).for_each(|(to, &scale)| to[row % ROWS_TOGETHER] = scale);
        }
    }
    Buffer::from_slice(driver, budget, &padded, "a quantised base")
}
