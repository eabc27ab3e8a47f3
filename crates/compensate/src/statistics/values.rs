//! Numbers of a chosen precision.

use half::bf16;
use nalgebra::DMatrix;
use residua_format::file::Dtype;
use serde::{Deserialize, Serialize};

/// Precision of stored covariances. Means are always f64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 8 bytes for each number: statistics of shards merge to those of the whole within 1e-10.
    F64,
    /// 4 bytes for each number.
    #[default]
    F32,
    /// 2 bytes for each number, 8 bits of mantissa.
    Bf16,
}

impl Precision {
    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// The element type in a file.
    pub(crate) fn dtype(self) -> Dtype {
        match self {
            Self::F64 => Dtype::F64,
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
        }
    }

    pub(crate) fn of(dtype: Dtype) -> Option<Self> {
        [Self::F64, Self::F32, Self::Bf16].into_iter().find(|precision| precision.dtype() == dtype)
    }
}

/// An array of numbers of one precision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F64(Vec<f64>),
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Values {
    /// Rounds `values` to `precision`.
    pub(crate) fn round(values: impl Iterator<Item = f64>, precision: Precision) -> Self {
        match precision {
            Precision::F64 => Self::F64(values.collect()),
            Precision::F32 => Self::F32(values.map(|v| v as f32).collect()),
            Precision::Bf16 => Self::Bf16(values.map(bf16::from_f64).collect()),
        }
    }

    /// The lower triangle of a square matrix, column after column.
    pub(crate) fn lower(matrix: &DMatrix<f64>, precision: Precision) -> Self {
        fn pack<T>(matrix: &DMatrix<f64>, round: impl Fn(f64) -> T) -> Vec<T> {
            let dim = matrix.nrows();
            // Exactly as much room as the budget counts.
            let mut lower = Vec::with_capacity(dim * (dim + 1) / 2);
            for (col, column) in matrix.column_iter().enumerate() {
                lower.extend(column.iter().skip(col).map(|&v| round(v)));
            }
            lower
        }
        match precision {
            Precision::F64 => Self::F64(pack(matrix, |v| v)),
            Precision::F32 => Self::F32(pack(matrix, |v| v as f32)),
            Precision::Bf16 => Self::Bf16(pack(matrix, bf16::from_f64)),
        }
    }

    /// `len` zeros.
    pub(crate) fn zeroed(len: usize, precision: Precision) -> Self {
        match precision {
            Precision::F64 => Self::F64(vec![0.0; len]),
            Precision::F32 => Self::F32(vec![0.0; len]),
            Precision::Bf16 => Self::Bf16(vec![bf16::ZERO; len]),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F64(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bf16(v) => v.len(),
        }
    }

    pub(crate) fn precision(&self) -> Precision {
        match self {
            Self::F64(_) => Precision::F64,
            Self::F32(_) => Precision::F32,
            Self::Bf16(_) => Precision::Bf16,
        }
    }

    pub(crate) fn get(&self, index: usize) -> f64 {
        match self {
            Self::F64(v) => v[index],
            Self::F32(v) => v[index].into(),
            Self::Bf16(v) => v[index].to_f64(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.len()).map(|index| self.get(index))
    }

    /// All of them as f64.
    pub(crate) fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F64(v) => v.clone(),
            Self::F32(v) => v.iter().map(|&v| v.into()).collect(),
            Self::Bf16(v) => v.iter().map(|v| v.to_f64()).collect(),
        }
    }

    /// The index of the first number that is not finite.
    pub(crate) fn not_finite(&self) -> Option<usize> {
        // First a sum without a branch for each number: branches are what costs here.
        let finite = match self {
            Self::F64(v) => v.iter().fold(true, |all, v| all & v.is_finite()),
            Self::F32(v) => v.iter().fold(true, |all, v| all & v.is_finite()),
            Self::Bf16(v) => v.iter().fold(true, |all, v| all & v.is_finite()),
        };
        if finite { None } else { self.iter().position(|v| !v.is_finite()) }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::F64(v) => bytemuck::cast_slice(v),
            Self::F32(v) => bytemuck::cast_slice(v),
            Self::Bf16(v) => bytemuck::cast_slice(v),
        }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::F64(v) => bytemuck::cast_slice_mut(v),
            Self::F32(v) => bytemuck::cast_slice_mut(v),
            Self::Bf16(v) => bytemuck::cast_slice_mut(v),
        }
    }
}
