//! Values of the entries of a gap-encoded matrix.

use half::{bf16, f16};
use residua_memory::AlignedVec;

use crate::ValueType;

/// One value per entry of a [`GapPattern`](super::GapPattern); the values of fillers are 0.
#[derive(Debug, Clone, PartialEq)]
pub enum ValuePlane {
    /// 32-bit floats.
    F32(AlignedVec<f32>),
    /// IEEE halves.
    F16(AlignedVec<f16>),
    /// bfloat16.
    Bf16(AlignedVec<bf16>),
    /// `value = code · scales[row]`.
    I8 {
        /// One code per entry, −127 to 127.
        codes: AlignedVec<i8>,
        /// One scale per row.
        scales: AlignedVec<f32>,
    },
}

impl ValuePlane {
    /// How values are stored.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::F32(_) => ValueType::F32,
            Self::F16(_) => ValueType::F16,
            Self::Bf16(_) => ValueType::Bf16,
            Self::I8 { .. } => ValueType::I8,
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
            Self::I8 { codes, .. } => codes.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of an entry that belongs to `row`.
    ///
    /// # Panics
    /// When the entry, or for i8 the row, does not exist.
    #[inline]
    pub fn get(&self, entry: usize, row: usize) -> f32 {
        match self {
            Self::F32(values) => values[entry],
            Self::F16(values) => values[entry].to_f32(),
            Self::Bf16(values) => values[entry].to_f32(),
            Self::I8 { codes, scales } => f32::from(codes[entry]) * scales[row],
        }
    }

    /// The values as bytes in native order, without scales.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => values.as_bytes(),
            Self::F16(values) => values.as_bytes(),
            Self::Bf16(values) => values.as_bytes(),
            Self::I8 { codes, .. } => codes.as_bytes(),
        }
    }

    /// The row scales of an i8 plane; empty for others.
    pub fn scales(&self) -> &[f32] {
        match self {
            Self::I8 { scales, .. } => scales,
            _ => &[],
        }
    }

    /// Bytes of values and scales.
    pub fn bytes(&self) -> usize {
        self.as_bytes().len() + 4 * self.scales().len()
    }
}
