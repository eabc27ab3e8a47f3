//! Every conversion against a map from places to values, and every round trip.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use half::{bf16, f16};
use proptest::prelude::*;
use residua_format::convert::*;
use residua_format::{Coo, Csr, FormatError, Index, Value, ValueType, strategies};

type Map = BTreeMap<(usize, usize), f64>;

fn map_of<V: Value, I: Index>(csr: &Csr<V, I>) -> Map {
    let row = |row| {
        let (columns, values) = csr.row(row);
        columns.iter().zip(values).map(move |(c, v)| ((row, c.index()), v.to_f64())).collect::<Vec<_>>()
    };
    (0..csr.rows()).flat_map(row).collect()
}

fn map_of_coo<V: Value, I: Index>(coo: &Coo<V, I>) -> Map {
    let mut map = Map::new();
    for ((row, col), value) in coo.row_indices().iter().zip(coo.col_indices()).zip(coo.values()) {
        *map.entry((row.index(), col.index())).or_default() += value.to_f64();
    }
    map
}

fn coo_to_csr_sums<V: Value, I: Index>(coo: &Coo<V, I>) -> Result<(), TestCaseError> {
    let csr = coo_to_csr(coo, Duplicates::Sum).unwrap();
    // The checking constructor takes what the trusting one made.
    let (row_ptr, columns, values) = csr.clone().into_raw();
    prop_assert_eq!(&Csr::new(coo.rows(), coo.cols(), row_ptr, columns, values).unwrap(), &csr);
    let map = map_of_coo(coo);
    prop_assert_eq!(&map_of(&csr), &map);
    match coo_to_csr(coo, Duplicates::Refuse) {
        Ok(refused) => prop_assert!(refused == csr && map.len() == coo.nnz()),
        Err(FormatError::Duplicate { row, col }) => {
            let at = |i: usize| (coo.row_indices()[i].index(), coo.col_indices()[i].index());
            let mut places: Vec<_> = (0..coo.nnz()).map(at).collect();
            places.sort();
            let first = places.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            prop_assert_eq!(first, Some((row, col)));
        }
        Err(other) => prop_assert!(false, "{}", other),
    }
    let back = csr_to_coo(&csr).unwrap();
    prop_assert_eq!(map_of_coo(&back), map);
    prop_assert_eq!(coo_to_csr(&back, Duplicates::Refuse).unwrap(), csr);
    Ok(())
}

fn csr_through_all<V: Value, I: Index>(csr: &Csr<V, I>) -> Result<(), TestCaseError> {
    for value_type in [ValueType::F32, ValueType::F16, ValueType::Bf16] {
        let gap = csr_to_gap(csr, value_type).unwrap();
        prop_assert_eq!((gap.nnz(), gap.value_type()), (csr.nnz(), value_type));
        prop_assert_eq!(&gap_to_csr::<V, I>(&gap).unwrap(), csr);
        let coo: Coo<V, I> = gap_to_coo(&gap).unwrap();
        prop_assert_eq!(&coo_to_gap(&coo, Duplicates::Refuse, value_type).unwrap(), &gap);
    }
    if csr.rows() * csr.cols() > 1 << 17 {
        return Ok(());
    }
    // Dense: all that is not 0; what was there before is overwritten.
    let mut dense = vec![V::from_f32(99.0); csr.rows() * csr.cols()];
    csr_to_dense(csr, &mut dense).unwrap();
    let nonzero = |value: V| value.to_f32() != 0.0;
    let back: Csr<V, I> = dense_to_csr(csr.rows(), csr.cols(), &dense, nonzero).unwrap();
    let map: Map = map_of(csr).into_iter().filter(|&(_, value)| value != 0.0).collect();
    prop_assert_eq!(map_of(&back), map);
    let coo: Coo<V, I> = dense_to_coo(csr.rows(), csr.cols(), &dense, nonzero).unwrap();
    prop_assert_eq!(&coo, &csr_to_coo(&back).unwrap());
    let mut again = vec![V::from_f32(99.0); dense.len()];
    coo_to_dense(&coo, Duplicates::Refuse, &mut again).unwrap();
    prop_assert_eq!(&again, &dense);
    for value_type in [ValueType::F32, ValueType::F16, ValueType::Bf16] {
        let gap = dense_to_gap(csr.rows(), csr.cols(), &dense, nonzero, value_type).unwrap();
        prop_assert_eq!(&gap, &csr_to_gap(&back, value_type).unwrap());
        again.fill(V::from_f32(99.0));
        gap_to_dense(&gap, &mut again).unwrap();
        prop_assert_eq!(&again, &dense);
    }
    Ok(())
}

fn widths<I: Index, J: Index>(csr: &Csr<f32, I>) -> Result<(), TestCaseError> {
    let other: Csr<f32, J> = csr_width(csr.clone()).unwrap();
    prop_assert_eq!(map_of(&other), map_of(csr));
    prop_assert_eq!(&csr_width::<f32, J, I>(other.clone()).unwrap(), csr);
    let coo: Coo<f32, J> = coo_width(csr_to_coo(csr).unwrap()).unwrap();
    prop_assert_eq!(coo, csr_to_coo(&other).unwrap());
    Ok(())
}

macro_rules! for_types {
    ($($name:ident: $value:ty, $index:ty;)*) => {$(
        mod $name {
            use super::*;
            proptest! {
                #[test]
                fn coo_to_csr_sums(coo in strategies::coo::<$value, $index>()) {
                    super::coo_to_csr_sums(&coo)?;
                }

                #[test]
                fn csr_through_all(csr in strategies::csr::<$value, $index>()) {
                    super::csr_through_all(&csr)?;
                }
            }
        }
    )*};
}

for_types! {
    f32_u32: f32, u32;
    f32_usize: f32, usize;
    f64_i32: f64, i32;
    f16_u32: f16, u32;
    bf16_i32: bf16, i32;
}

proptest! {
    #[test]
    fn index_widths(csr in strategies::csr::<f32, u32>()) {
        widths::<u32, i32>(&csr)?;
        widths::<u32, usize>(&csr)?;
        widths::<i32, usize>(&csr_width(csr.clone()).unwrap())?;
        widths::<u32, u32>(&csr)?;
    }

    /// Patterns, value types and scales that come from no encoder of ours decode to what `row` iterates over.
    #[test]
    fn gap_decodes(gap in strategies::any_gap_csr()) {
        let rows = |row| gap.row(row).map(move |(column, value)| ((row, column as usize), f64::from(value)));
        let map: Map = (0..gap.rows()).flat_map(rows).collect();
        prop_assert_eq!(map.len(), gap.nnz());
        let csr: Csr<f64, usize> = gap_to_csr(&gap).unwrap();
        prop_assert_eq!(map_of(&csr), map);
        prop_assert_eq!((0..gap.rows()).map(|row| gap.pattern().row_nnz(row)).sum::<usize>(), gap.nnz());
        if gap.value_type() != ValueType::I8 {
            prop_assert_eq!(csr_to_gap(&csr, gap.value_type()).unwrap(), gap);
        }
    }

    /// Decoding a row from any place on, and by steps, is decoding it at once.
    #[test]
    fn row_iteration_by_steps(pattern in strategies::pattern(2), skip in 0usize..10) {
        for row in 0..pattern.rows() {
            let mut iter = pattern.row(row);
            let steps: Vec<_> = std::iter::from_fn(|| iter.next()).collect();
            let mut rest = pattern.row(row);
            let skipped: Vec<_> = rest.by_ref().take(skip).collect();
            let mut folded = skipped;
            rest.for_each(|item| folded.push(item));
            prop_assert_eq!(&folded, &steps);
        }
    }
}

/// Rows long enough for the dense path, buckets and chunks enough for every loop to run more than once.
#[test]
fn many_triplets_sum_in_their_order() {
    let (rows, cols, nnz) = (3000, 2000, 400_000u64);
    let random = |i: u64, salt: u64| (i + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let row_indices: Vec<u32> = (0..nnz).map(|i| (random(i, 1) % rows) as u32).collect();
    let col_indices: Vec<u32> =
        (0..nnz).map(|i| (random(i, 1 << 40) % cols * (random(i, 7) % 2)) as u32).collect();
    // Not exact, so that the order of a sum shows.
    let values: Vec<f32> = (0..nnz).map(|i| (random(i, 3) as f32).sqrt() / 3.0).collect();
    let mut map: BTreeMap<(u32, u32), f32> = BTreeMap::new();
    for ((&row, &col), &value) in row_indices.iter().zip(&col_indices).zip(&values) {
        map.entry((row, col)).and_modify(|sum| *sum += value).or_insert(value);
    }
    let coo = Coo::new(rows as usize, cols as usize, row_indices, col_indices, values).unwrap();
    let csr = coo_to_csr(&coo, Duplicates::Sum).unwrap();
    let places: Vec<(u32, u32)> = {
        let coo = csr_to_coo(&csr).unwrap();
        coo.row_indices().iter().copied().zip(coo.col_indices().iter().copied()).collect()
    };
    assert!(places.iter().eq(map.keys()), "places");
    assert!(csr.values().iter().eq(map.values()), "sums");
    // The 64-bit keys of very wide matrices, and rows too short for the dense path.
    let (row_indices, col_indices, values) = coo.clone().into_raw();
    let wide = Coo::new(3000, u32::MAX as usize, row_indices, col_indices, values).unwrap();
    let wide = coo_to_csr(&wide, Duplicates::Sum).unwrap();
    assert_eq!(wide.into_raw(), csr.clone().into_raw());
    // One thread or several: the same bits.
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| coo_to_csr(&coo, Duplicates::Sum).unwrap()), csr);
    }
}

#[test]
fn negative_zero_survives() {
    let coo = Coo::<f32>::new(1, 3, vec![0; 2], vec![2, 0], vec![-0.0, 1.0]).unwrap();
    let csr = coo_to_csr(&coo, Duplicates::Sum).unwrap();
    assert!(csr.values()[1].is_sign_negative());
    let back: Csr<f32> = gap_to_csr(&csr_to_gap(&csr, ValueType::Bf16).unwrap()).unwrap();
    assert!(back.values()[1].is_sign_negative());
}

#[test]
fn widths_that_do_not_fit_are_errors() {
    let wide = |col| Csr::<f32, usize>::new(1, usize::MAX, vec![0, 1], vec![col], vec![1.0]).unwrap();
    let overflow = |found, width| FormatError::Overflow { what: "column", found, width };
    assert_eq!(csr_width::<_, _, u32>(wide(1 << 32)), Err(overflow(1 << 32, "u32")));
    assert_eq!(csr_width::<_, _, i32>(wide(1 << 31)), Err(overflow(1 << 31, "i32")));
    assert!(csr_width::<_, _, i32>(wide((1 << 31) - 1)).is_ok());
    let columns = FormatError::Overflow { what: "columns", found: u64::MAX, width: "u32" };
    assert_eq!(csr_to_gap(&wide(0), ValueType::F32), Err(columns));
    let row = FormatError::Overflow { what: "row", found: 1 << 31, width: "i32" };
    let coo = Coo::<f32, usize>::new(usize::MAX, 1, vec![1 << 31], vec![0], vec![1.0]).unwrap();
    assert_eq!(coo_width::<_, _, i32>(coo), Err(row));
}

/// Row and column share a key when triplets are sorted; here they need 31 to 74 bits of it.
#[test]
fn triplets_of_any_shape() {
    for cols in [1 << 31, u32::MAX as usize, 1 << 32, (1 << 63) - 1, usize::MAX] {
        for rows in [1, 2, 3, 1000] {
            let coo = Coo::<f32, usize>::new(
                rows,
                cols,
                vec![rows - 1, 0, rows - 1, 0, rows - 1],
                vec![cols - 1, 1, 0, cols - 1, cols - 1],
                vec![1.0, 2.0, 4.0, 8.0, 16.0],
            )
            .unwrap();
            let csr = coo_to_csr(&coo, Duplicates::Sum).unwrap();
            assert_eq!(map_of(&csr), map_of_coo(&coo), "{rows} {cols}");
        }
    }
    let coo = Coo::<f32>::new(1, u32::MAX as usize, vec![0], vec![u32::MAX - 1], vec![1.0]).unwrap();
    assert_eq!(coo_to_csr(&coo, Duplicates::Sum).unwrap().col_indices(), [u32::MAX - 1]);
}

#[test]
fn rows_beyond_memory_are_an_error() {
    let error = |rows: usize| FormatError::Overflow { what: "rows", found: rows as u64, width: "memory" };
    for rows in [usize::MAX, 1 << 60] {
        assert_eq!(coo_to_csr(&Coo::<f32>::empty(rows, 5), Duplicates::Sum), Err(error(rows)));
        assert_eq!(dense_to_csr::<f32, u32>(rows, 0, &[], |_| true), Err(error(rows)));
        assert_eq!(dense_to_gap::<f32>(rows, 0, &[], |_| true, ValueType::F32), Err(error(rows)));
    }
}

#[test]
fn the_last_column_that_u32_has() {
    let cols = u32::MAX as usize;
    let csr = Csr::<f32>::new(1, cols, vec![0, 2], vec![0, u32::MAX - 1], vec![1.0, 2.0]).unwrap();
    let gap = csr_to_gap(&csr, ValueType::F32).unwrap();
    assert_eq!(gap_to_csr::<f32, u32>(&gap).unwrap(), csr);
    let error = FormatError::Overflow { what: "column", found: u64::from(u32::MAX - 1), width: "i32" };
    assert_eq!(gap_to_csr::<f32, i32>(&gap), Err(error));
}
