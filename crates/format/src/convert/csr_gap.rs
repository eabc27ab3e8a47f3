//! CSR ↔ gap-encoded CSR.

use half::{bf16, f16};
use residua_memory::AlignedVec;

use crate::error::{FormatError, Result};
use crate::gap::{GapPatternBuilder, RowPlan};
use crate::{Csr, GapCsr, GapPattern, Index, Value, ValuePlane, ValueType};

/// Encodes a matrix, values rounded to `value_type` (for i8: to the nearest of 255 steps between ± the row's
/// largest magnitude).
///
/// # Errors
/// When there are more than 2³²−1 columns or entries, or a value is NaN or infinite, or rounds to infinity.
pub fn csr_to_gap<V: Value, I: Index>(csr: &Csr<V, I>, value_type: ValueType) -> Result<GapCsr> {
    let mut builder = GapPatternBuilder::new();
    let mut index = Vec::new();
    let mut values: Vec<f32> = Vec::new();
    let mut columns = Vec::new();
    for row in 0..csr.rows() {
        let (cols, row_values) = csr.row(row);
        columns.clear();
        for column in cols {
            columns.push(u32::checked(column.index(), "column")?);
        }
        let plan = RowPlan::new(&columns, csr.cols(), value_type.bytes());
        builder.push(&plan)?;
        plan.encode(&columns, csr.cols(), &mut index, |i| {
            values.push(i.map_or(0.0, |i| row_values[i].to_f32()));
        });
    }
    let (row_ptr, modes) = builder.finish();
    let pattern = GapPattern::new(csr.rows(), csr.cols(), row_ptr, index.into(), modes)?;
    let plane = round(&pattern, values, value_type)?;
    GapCsr::new(pattern, plane)
}

fn round(pattern: &GapPattern, values: Vec<f32>, value_type: ValueType) -> Result<ValuePlane> {
    for row in 0..pattern.rows() {
        let start = pattern.row_entries(row).start;
        for (position, column) in pattern.row(row) {
            let value = values[start + position];
            if !value.is_finite() {
                return Err(FormatError::NotFinite { row, col: column as usize, value: value.into() });
            }
        }
    }
    Ok(match value_type {
        ValueType::F32 => ValuePlane::F32(values.into()),
        ValueType::F16 => ValuePlane::F16(values.iter().map(|&v| f16::from_f32(v)).collect()),
        ValueType::Bf16 => ValuePlane::Bf16(values.iter().map(|&v| bf16::from_f32(v)).collect()),
        ValueType::I8 => {
            let mut codes = AlignedVec::zeroed(values.len());
            let mut scales = AlignedVec::zeroed(pattern.rows());
            for row in 0..pattern.rows() {
                let entries = pattern.row_entries(row);
                let row_values = &values[entries.clone()];
                let scale = row_values.iter().fold(0.0f32, |max, v| max.max(v.abs())) / 127.0;
                scales[row] = scale;
                for (code, &value) in codes[entries].iter_mut().zip(row_values) {
                    *code = if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
                }
            }
            ValuePlane::I8 { codes, scales }
        }
    })
}

/// Decodes a matrix.
///
/// # Errors
/// When the index type cannot hold the columns or the number of non-zeros.
pub fn gap_to_csr<V: Value, I: Index>(gap: &GapCsr) -> Result<Csr<V, I>> {
    let mut row_ptr = vec![I::zero()];
    let (mut columns, mut values) = (Vec::with_capacity(gap.nnz()), Vec::with_capacity(gap.nnz()));
    for row in 0..gap.rows() {
        for (column, value) in gap.row(row) {
            columns.push(I::checked(column as usize, "column")?);
            values.push(V::from_f32(value));
        }
        row_ptr.push(I::checked(columns.len(), "non-zeros")?);
    }
    Ok(Csr::trusted(gap.rows(), gap.cols(), row_ptr, columns, values))
}
