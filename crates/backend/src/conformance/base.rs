//! Bases of every kind, reproducible.

use half::{bf16, f16};
use residua_format::{BaseKind, DenseMatrix, DenseValues, Grid, QuantizedBase, ValueType};

use super::data::{Data, Random};
use crate::reference::{self, Expected};
use crate::{Backend, BackendError};

/// How a base stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Quantized(BaseKind),
    /// Floats: f32, f16 or bf16.
    Dense(ValueType),
}

impl Kind {
    pub(super) const ALL: [Self; 12] = [
        Self::Quantized(BaseKind::Int4),
        Self::Quantized(BaseKind::Int4G32),
        Self::Quantized(BaseKind::Int4G64),
        Self::Quantized(BaseKind::Int4G128),
        Self::Quantized(BaseKind::Int8),
        Self::Quantized(BaseKind::Lut3),
        Self::Quantized(BaseKind::Lut4),
        Self::Quantized(BaseKind::Lut3G32),
        Self::Quantized(BaseKind::Lut4G16),
        Self::Dense(ValueType::F32),
        Self::Dense(ValueType::F16),
        Self::Dense(ValueType::Bf16),
    ];

    pub(super) fn name(self) -> String {
        match self {
            Self::Quantized(kind) => kind.name().into(),
            Self::Dense(value_type) => format!("dense-{}", value_type.name()),
        }
    }
}

/// A base before its upload.
#[derive(Debug, Clone)]
pub(super) enum Base {
    Quantized(QuantizedBase),
    Dense(DenseMatrix),
}

impl Base {
    pub(super) fn new([rows, cols]: [usize; 2], kind: Kind, data: Data) -> Result<Self, String> {
        match kind {
            Kind::Quantized(kind) => quantized([rows, cols], kind, data).map(Self::Quantized),
            Kind::Dense(value_type) => {
                dense([rows, cols], value_type, &data.vector(4, rows * cols)).map(Self::Dense)
            }
        }
    }

    pub(super) fn upload<B: Backend>(&self, backend: &B) -> Result<B::Base, BackendError> {
        match self {
            Self::Quantized(base) => backend.upload_base(base),
            Self::Dense(base) => backend.upload_dense(base),
        }
    }

    /// What `base·x` must be.
    pub(super) fn product(&self, x: &[f32], batch: usize) -> Vec<Expected> {
        match self {
            Self::Quantized(base) => reference::product(base, x, batch),
            Self::Dense(base) => reference::product(base, x, batch),
        }
    }
}

/// A dense matrix of a type, every value rounded to it.
pub(super) fn dense(
    [rows, cols]: [usize; 2],
    value_type: ValueType,
    values: &[f32],
) -> Result<DenseMatrix, String> {
    let values = match value_type {
        ValueType::F32 => DenseValues::F32(values.into()),
        ValueType::F16 => DenseValues::F16(values.iter().map(|&value| f16::from_f32(value)).collect()),
        ValueType::Bf16 => DenseValues::Bf16(values.iter().map(|&value| bf16::from_f32(value)).collect()),
        ValueType::I8 => return Err("there is no dense matrix of i8".into()),
    };
    DenseMatrix::new(rows, cols, values).map_err(|error| error.to_string())
}

/// Random codes. Scales of exact data are powers of two.
fn quantized([rows, cols]: [usize; 2], kind: BaseKind, data: Data) -> Result<QuantizedBase, String> {
    let mut random = Random(4);
    let row_bytes = kind.row_bytes(cols);
    let mut codes: Vec<u8> = (0..rows * row_bytes).map(|_| random.next() as u8).collect();
    if data == Data::Exact && kind == BaseKind::Int8 {
        // Smaller codes, so that sums of long rows stay exact.
        codes.iter_mut().for_each(|byte| *byte = (*byte & 0x1F).wrapping_sub(0x10));
    }
    // Unused bits at the end of a row are 0.
    let last = codes.iter_mut().skip(row_bytes.wrapping_sub(1)).step_by(row_bytes.max(1));
    last.for_each(|byte| *byte &= kind.last_byte_mask(cols));
    let scale = |random: &mut Random| match data {
        Data::Exact => [0.0, 1.0, 2.0, 0.5][random.below(4)],
        Data::Rough => data.number(random).abs(),
    };
    let scales: Vec<f32> = (0..rows * kind.groups(cols)).map(|_| scale(&mut random)).collect();
    let grid = match data {
        Data::Exact if kind.is_codebook() => {
            let levels: Vec<i8> =
                (0..kind.levels()).map(|level| 2 * level as i8 - kind.levels() as i8).collect();
            Grid::codebook(kind, &levels).map_err(|error| error.to_string())?
        }
        _ => kind.into(),
    };
    QuantizedBase::new(rows, cols, grid, codes.into(), scales.into()).map_err(|error| error.to_string())
}
