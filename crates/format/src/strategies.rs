//! Proptest strategies for the matrices of this crate (feature `proptest`).
//!
//! Values are small integers, so sums and conversions are exact in every value type and tests can demand equality.
//! Shapes include matrices without rows or columns, with one row, with one column, with about 256 and 65,536 columns
//! (where the gap encoding changes), and wider ones.

use std::fmt::Debug;
use std::ops::Range;

use half::{bf16, f16};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use residua_memory::AlignedVec;

use crate::gap::{GapPatternBuilder, RowPlan};
use crate::{BaseKind, Coo, Csr, GapCsr, GapPattern, Index, QuantizedBase, Value, ValuePlane, ValueType};

/// Numbers of columns: 0, 1, few, around 256, around 65,536, many.
pub fn cols() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0),
        2 => Just(1),
        6 => 2usize..40,
        6 => 250usize..700,
        1 => 65_530usize..65_545,
        1 => 70_000usize..400_000,
    ]
}

/// The rising columns of one row of a matrix that wide: empty, scattered, the last column only, one per 255, 256
/// or 300 columns, a dense run, every column (of narrow matrices), every second one.
pub fn row(cols: usize) -> BoxedStrategy<Vec<u32>> {
    let Some(last) = (cols as u32).checked_sub(1) else { return Just(Vec::new()).boxed() };
    let every = move |step: usize| (0..=last).step_by(step).collect::<Vec<_>>();
    // Dense rows of wide matrices would be slow to test, so runs are short there.
    let run = move |(start, length): (u32, u32)| (start..=last.min(start + length)).collect();
    let dense = if cols <= 1000 { cols } else { 40 };
    prop_oneof![
        2 => Just(Vec::new()),
        4 => btree_set(0..=last, 0..=dense.min(40)).prop_map(|set| set.into_iter().collect()),
        1 => Just(vec![last]),
        1 => Just(every(255)),
        1 => Just(every(256)),
        1 => Just(every(300)),
        1 => (0..=last, Just(dense as u32)).prop_map(run),
        1 => Just(every(cols.div_ceil(dense))),
        1 => Just(every(2 * cols.div_ceil(dense))),
    ]
    .boxed()
}

/// The rows of a matrix and its number of columns. Each row is one of the kinds of [`row()`].
pub fn rows() -> impl Strategy<Value = (usize, Vec<Vec<u32>>)> {
    cols().prop_flat_map(|cols| (Just(cols), vec(row(cols), 0..12)))
}

/// Integers from −4 to 4, zero among them.
pub fn value<V: Value>() -> impl Strategy<Value = V> + Clone {
    (-4i8..=4).prop_map(|value| V::from_f32(value.into()))
}

/// Matrices with the rows of [`rows()`].
pub fn csr<V: Value, I: Index>() -> impl Strategy<Value = Csr<V, I>> {
    rows().prop_flat_map(|(cols, rows)| {
        let nnz = rows.iter().map(Vec::len).sum::<usize>();
        vec(value::<V>(), nnz).prop_map(move |values| {
            let mut row_ptr = vec![I::zero()];
            let mut end = 0;
            for row in &rows {
                end += row.len();
                row_ptr.push(I::from_usize(end));
            }
            let columns = rows.iter().flatten().map(|&column| I::from_usize(column as usize)).collect();
            valid(Csr::new(rows.len(), cols, row_ptr, columns, values))
        })
    })
}

/// Triplets in random order, most of them several at a place.
pub fn coo<V: Value, I: Index>() -> impl Strategy<Value = Coo<V, I>> {
    (0usize..12, cols()).prop_flat_map(|(rows, cols)| {
        let places = if rows == 0 || cols == 0 { 0 } else { 60 };
        // Half of the triplets lie in a corner, so that duplicates occur.
        let axis = |n: usize| prop_oneof![0..n.max(1), 0..n.clamp(1, 4)];
        vec((axis(rows), axis(cols), value::<V>()), 0..=places).prop_map(move |triplets| {
            let row_indices = triplets.iter().map(|t| I::from_usize(t.0)).collect();
            let col_indices = triplets.iter().map(|t| I::from_usize(t.1)).collect();
            let values = triplets.iter().map(|t| t.2).collect();
            valid(Coo::new(rows, cols, row_indices, col_indices, values))
        })
    })
}

/// Patterns of the rows of [`rows()`], encoded for values of `value_bytes` bytes.
pub fn pattern(value_bytes: usize) -> impl Strategy<Value = GapPattern> {
    rows().prop_map(move |(cols, rows)| {
        let (mut builder, mut index) = (GapPatternBuilder::new(), Vec::new());
        for columns in &rows {
            let plan = RowPlan::new(columns, cols, value_bytes);
            valid(builder.push(&plan));
            plan.encode(columns, cols, &mut index, |_| {});
        }
        let (row_ptr, modes) = builder.finish();
        valid(GapPattern::new(rows.len(), cols, row_ptr, index.into(), modes))
    })
}

/// Matrices of one value type; scales of i8 are powers of two, so that weights are exact in f32, f16 and bf16.
pub fn gap_csr(value_type: ValueType) -> impl Strategy<Value = GapCsr> {
    pattern(value_type.bytes()).prop_flat_map(move |pattern| {
        let values = vec(-8i8..=8, pattern.entries());
        (Just(pattern), values, any::<u64>()).prop_map(move |(pattern, mut codes, seed)| {
            for row in 0..pattern.rows() {
                let fillers = fillers(&pattern, row);
                fillers.for_each(|entry| codes[entry] = 0);
            }
            let plane = match value_type {
                ValueType::F32 => ValuePlane::F32(codes.iter().map(|&v| f32::from(v)).collect()),
                ValueType::F16 => ValuePlane::F16(codes.iter().map(|&v| f16::from(v)).collect()),
                ValueType::Bf16 => ValuePlane::Bf16(codes.iter().map(|&v| bf16::from(v)).collect()),
                ValueType::I8 => ValuePlane::I8 {
                    codes: codes.into(),
                    scales: (0..pattern.rows()).map(|row| powers(seed, row)).collect(),
                },
            };
            valid(GapCsr::new(pattern, plane))
        })
    })
}

/// Matrices of any value type.
pub fn any_gap_csr() -> impl Strategy<Value = GapCsr> {
    prop::sample::select(ValueType::ALL.to_vec()).prop_flat_map(gap_csr)
}

/// Bases of any kind whose scales are powers of two.
pub fn quantized_base() -> impl Strategy<Value = QuantizedBase> {
    let kinds = prop::sample::select(BaseKind::ALL.to_vec());
    (kinds, 0usize..6, 0usize..300, any::<u64>()).prop_flat_map(|(kind, rows, cols, seed)| {
        vec(any::<u8>(), rows * kind.row_bytes(cols)).prop_map(move |mut codes| {
            let last = codes.iter_mut().skip(kind.row_bytes(cols).wrapping_sub(1));
            last.step_by(kind.row_bytes(cols).max(1)).for_each(|byte| *byte &= kind.last_byte_mask(cols));
            let scales: AlignedVec<f32> = (0..rows * kind.groups(cols)).map(|at| powers(seed, at)).collect();
            valid(QuantizedBase::new(rows, cols, kind, codes.into(), scales))
        })
    })
}

/// 0, 1/4, 1/2, 1 or 2.
fn powers(seed: u64, at: usize) -> f32 {
    let random = (seed ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
    [0.0, 0.25, 0.5, 1.0, 2.0][(random % 5) as usize]
}

fn fillers(pattern: &GapPattern, row: usize) -> impl Iterator<Item = usize> {
    let entries: Range<usize> = pattern.row_entries(row);
    let mut held = vec![false; entries.len()];
    pattern.row(row).for_each(|(position, _)| held[position] = true);
    entries.zip(held).filter(|&(_, held)| !held).map(|(entry, _)| entry)
}

/// The matrices of a strategy are valid by construction.
#[expect(clippy::expect_used, reason = "a fault of the strategy itself, in a test")]
fn valid<T, E: Debug>(made: Result<T, E>) -> T {
    made.expect("strategies make valid matrices")
}
