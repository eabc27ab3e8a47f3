//! What the gap encoding costs: never more than two index bytes per non-zero, about one at 5 % density; and what
//! rounding to each value type costs.

#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use proptest::prelude::*;
use residua_format::convert::{csr_to_gap, gap_to_csr};
use residua_format::gap::RowPlan;
use residua_format::{Csr, GapCsr, ValueType, strategies};

fn matrix(cols: usize, rows: &[Vec<u32>]) -> Csr<f32> {
    let mut row_ptr = vec![0];
    rows.iter().fold(0, |end, row| {
        row_ptr.push(end + row.len() as u32);
        end + row.len() as u32
    });
    let columns: Vec<u32> = rows.concat();
    let values = vec![1.0; columns.len()];
    Csr::new(rows.len(), cols, row_ptr, columns, values).unwrap()
}

/// Every byte of every plane against the bound.
fn assert_bound(cols: usize, rows: &[Vec<u32>]) {
    let csr = matrix(cols, rows);
    for (value_type, index_and_value) in
        [(ValueType::F32, 6), (ValueType::F16, 4), (ValueType::Bf16, 4), (ValueType::I8, 3)]
    {
        let gap = csr_to_gap(&csr, value_type).unwrap();
        let bound = index_and_value * csr.nnz() + 13 * rows.len() + 8;
        assert!(gap.bytes() <= bound, "{value_type}, {cols} columns: {} bytes, bound {bound}", gap.bytes());
        assert_eq!(gap_to_csr::<f32, u32>(&gap).unwrap().col_indices(), csr.col_indices());
    }
}

#[test]
fn adversarial_patterns_stay_under_the_bound() {
    for cols in [1, 2, 255, 256, 257, 300, 4096, 65_535, 65_536] {
        let every = |step: usize, from: u32| (from..cols as u32).step_by(step).collect::<Vec<_>>();
        let patterns = [
            (1..=9).map(|step| every(step, 0)).collect::<Vec<_>>(),
            [254, 255, 256, 257, 300, 511, 512, 513, 5000].map(|step| every(step, 0)).to_vec(),
            [254, 255, 256, 300, 510].map(|from| every(cols, from)).to_vec(),
            vec![vec![cols as u32 - 1]; 5],
            (0..6).map(|row| if row % 2 == 0 { every(1, 0) } else { vec![] }).collect(),
            // A dense head, then gaps that all need a filler.
            vec![
                every(256, 0)
                    .into_iter()
                    .chain(every(1, cols as u32 / 2))
                    .collect::<std::collections::BTreeSet<_>>(),
            ]
            .into_iter()
            .map(|set| set.into_iter().collect())
            .collect(),
            vec![vec![]; 3],
        ];
        patterns.iter().for_each(|rows| assert_bound(cols, rows));
    }
}

/// The bound holds for one row whatever its columns: gaps of every size up to twice a filler, repeated.
#[test]
fn every_gap_stays_under_the_bound() {
    for gap in 1..=600 {
        let columns: Vec<u32> = (gap - 1..65_536).step_by(gap as usize).collect();
        for columns in [&columns[..], &columns[..1]] {
            let plan = RowPlan::new(columns, 65_536, 2);
            assert!(plan.index_bytes + 2 * plan.entries <= 4 * columns.len(), "gap {gap}: {plan:?}");
        }
    }
}

proptest! {
    #[test]
    fn no_pattern_passes_the_bound((cols, rows) in strategies::rows()) {
        prop_assume!(cols <= 65_536);
        assert_bound(cols, &rows);
    }
}

/// `[4096, 4096]`, every place with a chance of 5 %.
fn random_matrix() -> Csr<f32> {
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as f64 / (1u64 << 32) as f64
    };
    let rows: Vec<Vec<u32>> = (0..4096).map(|_| (0..4096).filter(|_| random() < 0.05).collect()).collect();
    let (row_ptr, columns, values) = matrix(4096, &rows).into_raw();
    let values = values.iter().map(|_| (random() - 0.5) as f32).collect();
    Csr::new(4096, 4096, row_ptr, columns, values).unwrap()
}

#[test]
fn five_percent_costs_three_bytes_or_two() {
    let csr = random_matrix();
    let size = |value_type| {
        let gap: GapCsr = csr_to_gap(&csr, value_type).unwrap();
        gap.bytes() as f64 / gap.nnz() as f64
    };
    let (bf16, i8) = (size(ValueType::Bf16), size(ValueType::I8));
    assert!(bf16 <= 3.1 && i8 <= 2.1, "{bf16} and {i8} bytes per non-zero");
}

#[test]
fn rounding_is_that_of_the_value_type() {
    let csr = random_matrix();
    let decoded =
        |value_type| gap_to_csr::<f32, u32>(&csr_to_gap(&csr, value_type).unwrap()).unwrap().into_raw().2;
    let values = csr.values().iter();
    assert!(values.clone().copied().eq(decoded(ValueType::F32)));
    assert!(values.clone().map(|&v| f16::from_f32(v).to_f32()).eq(decoded(ValueType::F16)));
    assert!(values.clone().map(|&v| bf16::from_f32(v).to_f32()).eq(decoded(ValueType::Bf16)));
    let coded = decoded(ValueType::I8);
    for row in 0..csr.rows() {
        let range = csr.row_ptr()[row] as usize..csr.row_ptr()[row + 1] as usize;
        let largest = csr.values()[range.clone()].iter().fold(0.0f32, |max, v| max.max(v.abs()));
        for i in range {
            let error = (csr.values()[i] - coded[i]).abs();
            assert!(error <= largest / 254.0 * 1.0001, "row {row}: error {error}, largest {largest}");
        }
    }
}

/// f64 goes to 16 bits in one rounding: just above a tie of f16 and bf16, at the tie for f32.
#[test]
fn f64_is_rounded_once() {
    let f16_tie = 1.0 + f64::powi(2.0, -11);
    let bf16_tie = 1.0 + f64::powi(2.0, -8);
    let csr = |value| Csr::<f64>::new(1, 1, vec![0, 1], vec![0], vec![value]).unwrap();
    let through = |value, value_type| {
        gap_to_csr::<f64, u32>(&csr_to_gap(&csr(value), value_type).unwrap()).unwrap().values()[0]
    };
    for (tie, value_type, step) in [(f16_tie, ValueType::F16, -10), (bf16_tie, ValueType::Bf16, -7)] {
        let up = 1.0 + f64::powi(2.0, step);
        let crumb = f64::powi(2.0, -40);
        let rounded = [tie - crumb, tie, tie + crumb].map(|value| through(value, value_type));
        assert_eq!(rounded, [1.0, 1.0, up], "{value_type}");
        assert_eq!([-tie - crumb, -tie].map(|value| through(value, value_type)), [-up, -1.0]);
    }
}
