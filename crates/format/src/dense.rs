//! Dense matrices of floats.

use half::{bf16, f16};
use residua_memory::AlignedVec;

use crate::error::Result;
use crate::{FormatError, ValueType};

/// A dense row-major matrix of f32, f16 or bf16 values: the base of a layer at full precision.
///
/// Invariant, always checked: there are `rows · cols` values. Any value is allowed, NaN and infinities too.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseMatrix {
    rows: usize,
    cols: usize,
    values: DenseValues,
}

/// The values of a [`DenseMatrix`].
#[derive(Debug, Clone, PartialEq)]
pub enum DenseValues {
    /// 32-bit floats.
    F32(AlignedVec<f32>),
    /// IEEE halves.
    F16(AlignedVec<f16>),
    /// bfloat16.
    Bf16(AlignedVec<bf16>),
}

impl DenseValues {
    /// How values are stored.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::F32(_) => ValueType::F32,
            Self::F16(_) => ValueType::F16,
            Self::Bf16(_) => ValueType::Bf16,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `position`.
    ///
    /// # Panics
    /// When there is none.
    #[inline]
    pub fn get(&self, position: usize) -> f32 {
        match self {
            Self::F32(values) => values[position],
            Self::F16(values) => values[position].to_f32(),
            Self::Bf16(values) => values[position].to_f32(),
        }
    }

    /// The values as bytes in native order.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::F32(values) => values.as_bytes(),
            Self::F16(values) => values.as_bytes(),
            Self::Bf16(values) => values.as_bytes(),
        }
    }
}

impl DenseMatrix {
    /// A matrix of shape `[rows, cols]`.
    ///
    /// # Errors
    /// [`FormatError::Length`] when there are not `rows · cols` values.
    pub fn new(rows: usize, cols: usize, values: DenseValues) -> Result<Self> {
        let expected = rows.checked_mul(cols).ok_or(FormatError::Overflow {
            what: "number of values",
            found: u64::MAX,
            width: "memory",
        })?;
        if values.len() != expected {
            return Err(FormatError::Length { what: "dense values", found: values.len(), expected });
        }
        Ok(Self { rows, cols, values })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The values, row-major.
    pub fn values(&self) -> &DenseValues {
        &self.values
    }

    /// The value at a place.
    ///
    /// # Panics
    /// When the place is outside the matrix.
    #[inline]
    pub fn get(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols, "[{row}, {col}] is outside the matrix");
        self.values.get(row * self.cols + col)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_found() {
        let values = || DenseValues::Bf16([1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(bf16::from_f32)[..].into());
        let matrix = DenseMatrix::new(2, 3, values()).unwrap();
        assert_eq!((matrix.get(0, 2), matrix.get(1, 0)), (3.0, 4.0));
        assert_eq!(
            DenseMatrix::new(2, 2, values()),
            Err(FormatError::Length { what: "dense values", found: 6, expected: 4 })
        );
        assert!(DenseMatrix::new(usize::MAX, 2, values()).is_err());
    }
}
