//! Each row mode is chosen where it is cheapest, and decodes to what went in.

#![allow(clippy::unwrap_used)]

use residua_format::convert::{csr_to_gap, gap_to_csr};
use residua_format::gap::{GapPattern, GapPatternBuilder, RowMode, RowPlan};
use residua_format::{Csr, ValueType};

fn encode(rows: &[Vec<u32>], cols: usize, value_bytes: usize) -> GapPattern {
    let mut builder = GapPatternBuilder::new();
    let mut index = Vec::new();
    for columns in rows {
        let plan = RowPlan::new(columns, cols, value_bytes);
        builder.push(&plan).unwrap();
        let before = index.len();
        let mut entries = 0;
        plan.encode(columns, cols, &mut index, |_| entries += 1);
        assert_eq!((entries, index.len() - before), (plan.entries, plan.index_bytes));
    }
    let (row_ptr, modes) = builder.finish();
    GapPattern::new(rows.len(), cols, row_ptr, index.into(), modes).unwrap()
}

/// Rows of every mode, more than are planned at a time.
#[test]
fn many_rows_decode() {
    let cols = 1 << 16;
    let columns = |row: u32| match row % 5 {
        0 => vec![],
        1 => vec![row % cols],
        2 => vec![1, 40_000],
        3 if row % 1000 == 3 => (0..cols).step_by(2).collect(),
        _ => vec![row % 256, 300, 500],
    };
    let rows: Vec<Vec<u32>> = (0..140_000).map(columns).collect();
    let mut row_ptr = vec![0u32];
    rows.iter().for_each(|columns| row_ptr.push(row_ptr.last().unwrap() + columns.len() as u32));
    let entries: Vec<u32> = rows.concat();
    let values = (0..entries.len()).map(|i| (i % 100 + 1) as f32).collect();
    let csr = Csr::new(rows.len(), cols as usize, row_ptr, entries, values).unwrap();
    let gap = csr_to_gap(&csr, ValueType::F32).unwrap();
    assert_eq!(gap_to_csr::<f32, u32>(&gap).unwrap(), csr);
}

#[test]
fn the_cheapest_mode_is_taken_and_decodes() {
    let every = |step: usize, cols: u32| (0..cols).step_by(step).collect::<Vec<_>>();
    let table = [
        (every(20, 4096), 4096, RowMode::Gap),
        (every(2, 4096), 4096, RowMode::Bitmap),
        (every(3000, 65_536), 65_536, RowMode::Absolute16),
        (every(70_000, 1_000_000), 1_000_000, RowMode::Absolute32),
        (vec![], 4096, RowMode::Gap),
        (vec![254, 509, 764], 4096, RowMode::Gap),
        (vec![255], 4096, RowMode::Absolute16),
    ];
    for (columns, cols, mode) in table {
        let pattern = encode(std::slice::from_ref(&columns), cols, 2);
        let decoded: Vec<u32> = pattern.row(0).map(|(_, column)| column).collect();
        assert_eq!((pattern.row_mode(0), decoded), (mode, columns));
    }
}
