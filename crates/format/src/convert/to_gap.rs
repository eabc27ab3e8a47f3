//! CSR, COO and dense → gap-encoded CSR.

use std::ops::Range;

use half::{bf16, f16};
use rayon::prelude::*;
use residua_memory::{AlignedVec, prefer_huge_pages};

use super::dense::check_dense;
use super::split::{check_rows, pieces, row_blocks};
use super::stored::Stored;
use super::{Duplicates, coo_to_csr};
use crate::error::{FormatError, Result};
use crate::gap::{GapPatternBuilder, RowPlan};
use crate::{Coo, Csr, GapCsr, GapPattern, Index, Value, ValuePlane, ValueType};

/// Rows that are planned at a time: plans of all rows would take several times what the pattern keeps of them.
const PLANNED: usize = 1 << 16;

/// Encodes a matrix and rounds its values to `value_type`: to the nearest, ties to even. For i8 a row has 255 steps
/// between plus and minus its largest magnitude.
///
/// # Errors
/// When there are more than 2³²−1 columns, entries or index bytes, or a value is NaN, infinite, or too large for
/// `value_type` (f16 ends at 65,504). The error names the place.
pub fn csr_to_gap<V: Value, I: Index>(csr: &Csr<V, I>, value_type: ValueType) -> Result<GapCsr> {
    encode(csr, value_type)
}

/// As [`coo_to_csr`], then [`csr_to_gap`].
///
/// # Errors
/// As [`coo_to_csr`] and [`csr_to_gap`].
pub fn coo_to_gap<V: Value, I: Index>(
    coo: &Coo<V, I>,
    duplicates: Duplicates,
    value_type: ValueType,
) -> Result<GapCsr> {
    csr_to_gap(&coo_to_csr(coo, duplicates)?, value_type)
}

/// Encodes the values of a dense row-major matrix that `keep` chooses. Rounds as [`csr_to_gap`].
///
/// The function calls `keep` twice for each value; both answers must be the same. `|w| w != 0.0` drops zeros of both
/// signs.
///
/// # Errors
/// As [`csr_to_gap`], and when `dense` does not have `rows · cols` elements.
pub fn dense_to_gap<V: Value>(
    rows: usize,
    cols: usize,
    dense: &[V],
    keep: impl Fn(V) -> bool + Sync,
    value_type: ValueType,
) -> Result<GapCsr> {
    check_dense(rows, cols, dense.len())?;
    encode(&Dense { rows, cols, dense, keep }, value_type)
}

/// A source with rows of rising columns.
trait Rows: Sync {
    type Value: Value;
    fn shape(&self) -> (usize, usize);
    /// A row's columns; in `scratch`, if the source must collect them.
    fn columns<'a>(&'a self, row: usize, scratch: &'a mut Vec<u32>) -> &'a [u32];
    /// The value of a row's `i`-th entry, in column `column`.
    fn value(&self, row: usize, i: usize, column: u32) -> Self::Value;
}

impl<V: Value, I: Index> Rows for Csr<V, I> {
    type Value = V;

    fn shape(&self) -> (usize, usize) {
        (self.rows(), self.cols())
    }

    fn columns<'a>(&'a self, row: usize, scratch: &'a mut Vec<u32>) -> &'a [u32] {
        let columns = self.row(row).0;
        // i32 columns are not negative, so their bits are those of u32.
        if size_of::<I>() == size_of::<u32>() {
            return bytemuck::cast_slice(columns);
        }
        scratch.clear();
        scratch.extend(columns.iter().map(|column| column.index() as u32));
        scratch
    }

    #[inline]
    fn value(&self, row: usize, i: usize, _: u32) -> V {
        self.values()[self.row_ptr()[row].index() + i]
    }
}

struct Dense<'a, V, K> {
    rows: usize,
    cols: usize,
    dense: &'a [V],
    keep: K,
}

impl<V: Value, K: Fn(V) -> bool + Sync> Rows for Dense<'_, V, K> {
    type Value = V;

    fn shape(&self) -> (usize, usize) {
        (self.rows, self.cols)
    }

    fn columns<'a>(&'a self, row: usize, scratch: &'a mut Vec<u32>) -> &'a [u32] {
        let values = &self.dense[row * self.cols..(row + 1) * self.cols];
        scratch.clear();
        scratch
            .extend((0u32..).zip(values).filter(|&(_, &value)| (self.keep)(value)).map(|(column, _)| column));
        scratch
    }

    #[inline]
    fn value(&self, row: usize, _: usize, column: u32) -> V {
        self.dense[row * self.cols + column as usize]
    }
}

fn encode<R: Rows>(source: &R, value_type: ValueType) -> Result<GapCsr> {
    let (pattern, plane) = match value_type {
        ValueType::F32 => encode_as::<f32, R>(source).map(|(p, values, _)| (p, ValuePlane::F32(values))),
        ValueType::F16 => encode_as::<f16, R>(source).map(|(p, values, _)| (p, ValuePlane::F16(values))),
        ValueType::Bf16 => encode_as::<bf16, R>(source).map(|(p, values, _)| (p, ValuePlane::Bf16(values))),
        ValueType::I8 => encode_as::<i8, R>(source)
            .map(|(p, codes, scales)| (p, ValuePlane::I8 { codes, scales: scales.into() })),
    }?;
    Ok(GapCsr::trusted(pattern, plane))
}

/// Pattern, values, and one scale per row.
fn encode_as<P: Stored, R: Rows>(source: &R) -> Result<(GapPattern, AlignedVec<P>, Vec<f32>)> {
    let (rows, cols) = source.shape();
    if cols > u32::MAX as usize {
        return Err(FormatError::Overflow { what: "columns", found: cols as u64, width: "u32" });
    }
    check_rows(rows)?;
    let plan =
        |scratch: &mut Vec<u32>, row| RowPlan::new(source.columns(row, scratch), cols, P::TYPE.bytes());
    let mut builder = GapPatternBuilder::with_rows(rows);
    for first in (0..rows).step_by(PLANNED) {
        let some = (first..rows.min(first + PLANNED)).into_par_iter();
        let plans: Vec<RowPlan> = some.with_min_len(16).map_init(Vec::new, plan).collect();
        plans.iter().try_for_each(|plan| builder.push(plan))?;
    }

    let blocks = row_blocks(rows, |row| builder.sizes(row..row + 1)[0]);
    let mut index = AlignedVec::<u8>::zeroed(builder.index_bytes());
    let mut values = AlignedVec::<P>::zeroed(builder.entries());
    let mut scales = vec![0.0f32; rows];
    prefer_huge_pages(&mut index);
    prefer_huge_pages(&mut values);
    let indices = pieces(&mut index, blocks.iter().map(|block| builder.sizes(block.clone())[1]));
    let planes = pieces(&mut values, blocks.iter().map(|block| builder.sizes(block.clone())[0]));
    let row_scales = pieces(&mut scales, blocks.iter().map(Range::len));
    let outputs: Vec<_> = blocks.iter().zip(indices).zip(planes).zip(row_scales).collect();
    let done: Vec<Result<()>> = outputs
        .into_par_iter()
        .map_init(Scratch::default, |scratch, (((block, mut index), mut values), scales)| {
            for (row, scale) in block.clone().zip(scales) {
                let [entries, index_bytes] = builder.sizes(row..row + 1);
                let (row_index, row_values);
                (row_index, index) = std::mem::take(&mut index).split_at_mut(index_bytes);
                (row_values, values) = std::mem::take(&mut values).split_at_mut(entries);
                *scale = encode_row(source, row, &builder, row_index, row_values, scratch)?;
            }
            Ok(())
        })
        .collect();
    // The first bad row, whatever the number of threads.
    done.into_iter().collect::<Result<()>>()?;
    Ok((builder.build(rows, cols, index), values, scales))
}

/// Buffers that a thread uses for one row after the other.
#[derive(Default)]
struct Scratch {
    columns: Vec<u32>,
    entries: Vec<f32>,
}

/// Returns the row's scale.
fn encode_row<P: Stored, R: Rows>(
    source: &R,
    row: usize,
    builder: &GapPatternBuilder,
    index: &mut [u8],
    values: &mut [P],
    scratch: &mut Scratch,
) -> Result<f32> {
    let (columns, entries) = (source.columns(row, &mut scratch.columns), &mut scratch.entries);
    entries.clear();
    let prepared = |i: usize| P::prepare(source.value(row, i, columns[i]));
    let plan = builder.plan(row, columns.len());
    plan.encode_into(columns, source.shape().1, index, |i| entries.push(i.map_or(0.0, prepared)));
    if let Some(scale) = P::store(entries, values) {
        return Ok(scale);
    }
    for (i, &column) in columns.iter().enumerate() {
        let (value, col) = (source.value(row, i, column).to_f64(), column as usize);
        if !value.is_finite() {
            return Err(FormatError::NotFinite { row, col, value });
        }
        if !P::fits(prepared(i)) {
            return Err(FormatError::ValueOverflow { row, col, value, value_type: P::TYPE });
        }
    }
    // Each value fits, so the row does.
    Ok(0.0)
}
