//! COO parts: triplets, and their compressed rows.

use residua::format::FormatError;

/// A value and its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Triplet {
    pub(crate) row: u32,
    pub(crate) col: u32,
    pub(crate) value: f32,
}

/// Compressed rows, columns rising inside a row.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) row_ptr: Vec<i32>,
    pub(crate) columns: Vec<i32>,
    pub(crate) values: Vec<f32>,
}

/// Checks that a place lies inside `[rows, cols]`.
pub(crate) fn triplet(
    position: usize,
    [rows, cols]: [usize; 2],
    row: i64,
    col: i64,
    value: f32,
) -> Result<Triplet, FormatError> {
    for (axis, found, bound) in [("row", row, rows), ("column", col, cols)] {
        if usize::try_from(found).map_or(true, |found| found >= bound) {
            return Err(FormatError::OutOfRange { position, axis, found, rows, cols });
        }
    }
    Ok(Triplet { row: row as u32, col: col as u32, value })
}

/// Sorts triplets into rows; sums values at one place in their order.
///
/// It runs on the calling thread. The conversions of the format crate are faster, but they start threads, and a C program
/// that runs a layer did not ask for threads.
pub(crate) fn rows(count: usize, mut triplets: Vec<Triplet>) -> Rows {
    // A stable sort keeps the order of values at one place.
    triplets.sort_by_key(|triplet| (u64::from(triplet.row) << 32) | u64::from(triplet.col));
    let mut rows = Rows { row_ptr: Vec::with_capacity(count + 1), ..Rows::default() };
    let mut last = None;
    for Triplet { row, col, value } in triplets {
        match rows.values.last_mut() {
            Some(sum) if last == Some((row, col)) => *sum += value,
            _ => {
                let start = rows.values.len() as i32;
                rows.row_ptr.resize(row as usize + 1, start);
                rows.columns.push(col as i32);
                rows.values.push(value);
            }
        }
        last = Some((row, col));
    }
    rows.row_ptr.resize(count + 1, rows.values.len() as i32);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use residua::format::{Coo, Csr, Duplicates, convert};

    #[test]
    fn rows_are_what_the_format_crate_makes() {
        let mut state = 1u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % below
        };
        for (height, width, count) in
            [(1, 1, 0), (1, 1, 5), (7, 3, 40), (50, 90, 300), (9, 1000, 2), (300, 5, 20)]
        {
            let triplets: Vec<Triplet> = (0..count)
                .map(|_| Triplet { row: next(height), col: next(width), value: next(1000) as f32 * 0.1 })
                .collect();
            let column = |of: fn(&Triplet) -> u32| triplets.iter().map(of).collect();
            let values = triplets.iter().map(|triplet| triplet.value).collect();
            let coo = Coo::new(height as usize, width as usize, column(|t| t.row), column(|t| t.col), values)
                .unwrap();
            let expected: Csr<f32, u32> = convert::coo_to_csr(&coo, Duplicates::Sum).unwrap();
            let found = rows(height as usize, triplets);
            let signed = |indices: &[u32]| indices.iter().map(|&index| index as i32).collect::<Vec<_>>();
            assert_eq!(found.row_ptr, signed(expected.row_ptr()));
            assert_eq!(found.columns, signed(expected.col_indices()));
            assert_eq!(found.values, expected.values());
        }
    }

    #[test]
    fn places_outside_are_found() {
        assert!(triplet(0, [2, 3], 1, 2, 1.0).is_ok());
        for (row, col, bad) in [(2, 0, "row"), (-1, 0, "row"), (0, 3, "column"), (0, i64::MIN, "column")] {
            let error = triplet(4, [2, 3], row, col, 1.0);
            assert!(matches!(error, Err(FormatError::OutOfRange { position: 4, axis, .. }) if axis == bad));
        }
    }
}
