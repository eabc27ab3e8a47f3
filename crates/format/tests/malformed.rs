//! One malformed input per invariant of every type, with the exact error.

use half::f16;
use residua_format::convert::{csr_to_dense, csr_to_gap, dense_to_csr};
use residua_format::gap::{GapPattern, GapPatternBuilder, RowMode, RowPlan};
use residua_format::{BaseKind, Coo, Csr, FormatError, GapCsr, QuantizedBase, ValuePlane, ValueType};

/// Asserts that each made nothing but the error beside it.
fn check<T: std::fmt::Debug>(table: Vec<(&str, Result<T, FormatError>, FormatError)>) {
    for (name, made, expected) in table {
        assert_eq!(made.err(), Some(expected), "{name}");
    }
}

fn length(what: &'static str, found: usize, expected: usize) -> FormatError {
    FormatError::Length { what, found, expected }
}

fn outside(position: usize, axis: &'static str, found: i64) -> FormatError {
    FormatError::OutOfRange { position, axis, found, rows: 2, cols: 3 }
}

fn pointer(position: usize, found: i64, rule: &'static str) -> FormatError {
    FormatError::RowPointer { position, found, rule }
}

#[test]
fn coo() {
    let new = |rows: &[i32], cols: &[i32], nnz| {
        Coo::<f32, i32>::new(2, 3, rows.to_vec(), cols.to_vec(), vec![1.0; nnz])
    };
    assert!(new(&[1, 0, 1], &[2, 0, 2], 3).is_ok());
    check(vec![
        ("rows too few", new(&[0], &[0, 0], 2), length("row indices", 1, 2)),
        ("columns too many", new(&[0], &[0, 0], 1), length("column indices", 2, 1)),
        ("row at the bound", new(&[0, 2], &[0, 0], 2), outside(1, "row", 2)),
        ("row negative", new(&[-1, 0], &[0, 0], 2), outside(0, "row", -1)),
        ("column at the bound", new(&[0, 0], &[0, 3], 2), outside(1, "column", 3)),
        ("column negative", new(&[0, 0], &[0, i32::MIN], 2), outside(1, "column", i32::MIN.into())),
    ]);
    let empty = Coo::<f32>::new(0, 0, vec![0], vec![0], vec![1.0]).unwrap_err();
    assert_eq!(empty.to_string(), "entry 0: row 0 is outside a matrix of shape [0, 0]");
    // Far behind the first chunk that is looked at.
    let mut rows = vec![0u32; 100_000];
    rows[77_777] = 5;
    let far = Coo::new(5, 1, rows, vec![0; 100_000], vec![1.0f32; 100_000]).unwrap_err();
    assert_eq!(far, FormatError::OutOfRange { position: 77_777, axis: "row", found: 5, rows: 5, cols: 1 });
}

#[test]
fn csr() {
    let new = |row_ptr: &[i32], cols: &[i32], nnz| {
        Csr::<f32, i32>::new(2, 3, row_ptr.to_vec(), cols.to_vec(), vec![1.0; nnz])
    };
    assert!(new(&[0, 2, 3], &[0, 2, 0], 3).is_ok());
    let (first, last, falls) = ("the first is 0", "the last is the number of entries", "they never fall");
    let unsorted = |row, position, found, previous| FormatError::Unsorted { row, position, found, previous };
    check(vec![
        ("no pointers", new(&[], &[], 0), length("row pointers", 0, 3)),
        ("a pointer missing", new(&[0, 1], &[0], 1), length("row pointers", 2, 3)),
        ("columns too few", new(&[0, 1, 2], &[0], 2), length("column indices", 1, 2)),
        ("first not 0", new(&[1, 1, 2], &[0, 1], 2), pointer(0, 1, first)),
        ("first negative", new(&[-1, 1, 2], &[0, 1], 2), pointer(0, -1, first)),
        ("last too small", new(&[0, 1, 1], &[0, 1], 2), pointer(2, 1, last)),
        ("last negative", new(&[0, 1, -2], &[0, 1], 2), pointer(2, -2, last)),
        ("falling", new(&[0, 3, 2], &[0, 1], 2), pointer(2, 2, falls)),
        ("negative between", new(&[0, -1, 2], &[0, 1], 2), pointer(1, -1, falls)),
        ("column at the bound", new(&[0, 1, 2], &[0, 3], 2), outside(1, "column", 3)),
        ("column negative", new(&[0, 2, 2], &[-1, 1], 2), outside(0, "column", -1)),
        ("column twice", new(&[0, 2, 2], &[1, 1], 2), unsorted(0, 1, 1, 1)),
        ("column falling", new(&[0, 1, 3], &[2, 2, 0], 3), unsorted(1, 2, 0, 2)),
    ]);
    let huge = Csr::<f32>::new(usize::MAX, 3, vec![0], vec![], vec![]);
    assert_eq!(huge, Err(length("row pointers", 1, usize::MAX)));
}

/// A `[2, cols]` pattern whose second row alone has entries, in a mode; `None` leaves the mode planes out.
fn second_row(
    cols: usize,
    entries: u32,
    index: &[u8],
    mode: Option<RowMode>,
) -> Result<GapPattern, FormatError> {
    let bytes = index.len() as u32;
    let modes = mode.map(|mode| ([0, mode as u8][..].into(), [0, 0, bytes][..].into()));
    GapPattern::new(2, cols, [0, 0, entries][..].into(), index.into(), modes)
}

#[test]
fn gap_pattern() {
    use RowMode::{Absolute16, Absolute32, Bitmap, Gap};
    let row = |problem| FormatError::GapRow { row: 1, problem };
    for (cols, entries, index, mode) in [
        (3, 2, &[1, 2][..], None),
        (256, 2, &[0, 1], None),
        (3, 2, &[1, 2], Some(Gap)),
        (3, 2, &[0, 0, 2, 0], Some(Absolute16)),
        (3, 2, &[0, 0, 0, 0, 2, 0, 0, 0], Some(Absolute32)),
        (3, 2, &[0b101], Some(Bitmap)),
        (8, 8, &[255], Some(Bitmap)),
        (9, 1, &[0, 1], Some(Bitmap)),
        (0, 0, &[], Some(Bitmap)),
    ] {
        assert!(second_row(cols, entries, index, mode).is_ok(), "{cols} {index:?} {mode:?}");
    }
    let bytes = "its index bytes do not match its entries";
    let outside = "a column lies outside the matrix";
    let rise = "its columns do not rise";
    let bits = "its bitmap does not have as many bits as the row has entries";
    let plane = "the last is the length of the plane";
    let new = |rows: usize, row_ptr: &[u32], index: &[u8], modes: Option<(&[u8], &[u32])>| {
        let modes = modes.map(|(modes, pointers)| (modes.into(), pointers.into()));
        GapPattern::new(rows, 3, row_ptr.into(), index.into(), modes)
    };
    let too_wide = GapPattern::new(0, 1 << 32, [0][..].into(), [][..].into(), None);
    let overflow = FormatError::Overflow { what: "columns", found: 1 << 32, width: "u32" };
    check(vec![
        ("too wide", too_wide, overflow),
        ("pointers missing", new(2, &[0, 1], &[1], None), length("row pointers", 2, 3)),
        ("first pointer not 0", new(1, &[1, 1], &[1], None), pointer(0, 1, "the first is 0")),
        ("pointers falling", new(2, &[0, 2, 1], &[1], None), pointer(2, 1, "they never fall")),
        ("last pointer too small", new(1, &[0, 1], &[1, 1], None), pointer(1, 1, plane)),
        ("last pointer too large", new(1, &[0, 3], &[1, 1], None), pointer(1, 3, plane)),
        ("modes too few", new(1, &[0, 1], &[1], Some((&[], &[0, 1]))), length("row modes", 0, 1)),
        ("index pointers too few", new(1, &[0, 1], &[1], Some((&[0], &[1]))), length("index pointers", 1, 2)),
        ("index pointers short", new(1, &[0, 1], &[1], Some((&[0], &[0, 0]))), pointer(1, 0, plane)),
        (
            "unknown mode",
            new(1, &[0, 1], &[1], Some((&[4], &[0, 1]))),
            FormatError::GapRow { row: 0, problem: "unknown row mode" },
        ),
        ("gap bytes too many", second_row(3, 1, &[1, 1], Some(Gap)), row(bytes)),
        ("absolute bytes odd", second_row(3, 1, &[1], Some(Absolute16)), row(bytes)),
        ("absolute bytes too few", second_row(3, 2, &[0, 0, 1, 0], Some(Absolute32)), row(bytes)),
        ("bitmap too long", second_row(3, 1, &[1, 0], Some(Bitmap)), row(bytes)),
        ("bitmap for no entries", second_row(3, 0, &[0], Some(Bitmap)), row(bytes)),
        ("ends in a filler", second_row(300, 2, &[1, 0], None), row("it ends in a filler")),
        ("gaps past the end", second_row(3, 2, &[1, 3], None), row(outside)),
        ("fillers past the end", second_row(255, 2, &[0, 1], None), row(outside)),
        ("a column in no columns", second_row(0, 1, &[1], None), row(outside)),
        ("absolute past the end", second_row(3, 2, &[0, 0, 3, 0], Some(Absolute16)), row(outside)),
        ("absolute twice", second_row(3, 2, &[1, 0, 1, 0], Some(Absolute16)), row(rise)),
        ("absolute falling", second_row(3, 2, &[1, 0, 0, 0, 0, 0, 0, 0], Some(Absolute32)), row(rise)),
        ("largest absolute", second_row(3, 1, &[255; 4], Some(Absolute32)), row(outside)),
        ("bits too few", second_row(3, 2, &[0b001], Some(Bitmap)), row(bits)),
        ("bits too many", second_row(3, 2, &[0b111], Some(Bitmap)), row(bits)),
        ("bit past the last column", second_row(3, 2, &[0b1001], Some(Bitmap)), row(outside)),
    ]);
}

/// Sums of gaps that a 32-bit column would wrap to a valid one.
#[test]
fn gaps_do_not_wrap() {
    let mut index = vec![0; (1 << 32) / 255 + 1];
    index.push(1);
    let made = second_row(100_000, index.len() as u32, &index, None);
    assert_eq!(made, Err(FormatError::GapRow { row: 1, problem: "a column lies outside the matrix" }));
}

/// The first bad row is named, whichever thread comes first.
#[test]
fn the_first_of_many_bad_rows() {
    let rows = 10_000;
    let mut index = vec![1u8; rows];
    index[700..].fill(9);
    let row_ptr: Vec<u32> = (0..=rows as u32).collect();
    let made = GapPattern::new(rows, 3, row_ptr.into(), index.into(), None);
    assert_eq!(made, Err(FormatError::GapRow { row: 700, problem: "a column lies outside the matrix" }));
}

#[test]
fn gap_csr() -> Result<(), FormatError> {
    // Columns 256 and 257 behind a filler.
    let pattern = || second_row(300, 3, &[0, 2, 1], None);
    let f32s = |values: &[f32]| ValuePlane::F32(values.into());
    let i8s = |codes: &[i8], scales: &[f32]| ValuePlane::I8 { codes: codes.into(), scales: scales.into() };
    assert!(GapCsr::new(pattern()?, f32s(&[0.0, f32::NAN, -0.0])).is_ok());
    assert!(GapCsr::new(pattern()?, i8s(&[0, -127, 127], &[0.0, f32::MAX / 128.0])).is_ok());
    let row = |problem| FormatError::GapRow { row: 1, problem };
    let filler = || row("a filler holds a value other than 0");
    let scale = |position, value| FormatError::Scale { position, value, limit: f32::MAX / 128.0 };
    let halves = ValuePlane::F16([1.0, 0.0, 0.0].map(f16::from_f32)[..].into());
    check(vec![
        ("a value missing", GapCsr::new(pattern()?, f32s(&[0.0, 1.0])), length("values", 2, 3)),
        ("a scale missing", GapCsr::new(pattern()?, i8s(&[0; 3], &[1.0])), length("row scales", 1, 2)),
        ("scale negative", GapCsr::new(pattern()?, i8s(&[0; 3], &[1.0, -1.0])), scale(1, -1.0)),
        (
            "scale infinite",
            GapCsr::new(pattern()?, i8s(&[0; 3], &[f32::INFINITY, 1.0])),
            scale(0, f32::INFINITY),
        ),
        ("scale too large", GapCsr::new(pattern()?, i8s(&[0; 3], &[1.0, 1e38])), scale(1, 1e38)),
        (
            "code -128",
            GapCsr::new(pattern()?, i8s(&[0, 1, -128], &[1.0; 2])),
            row("the code -128 is not allowed: its negation is no code"),
        ),
        ("filler with a value", GapCsr::new(pattern()?, f32s(&[1.0, 1.0, 1.0])), filler()),
        ("filler of -0", GapCsr::new(pattern()?, f32s(&[-0.0, 1.0, 1.0])), filler()),
        ("filler of f16", GapCsr::new(pattern()?, halves), filler()),
        ("filler of i8", GapCsr::new(pattern()?, i8s(&[1, 0, 0], &[1.0; 2])), filler()),
    ]);
    let nan = GapCsr::new(pattern()?, i8s(&[0; 3], &[f32::NAN, 1.0])).unwrap_err();
    assert!(nan.to_string().starts_with("scale 0: NaN is not a number from 0 to 2.65"), "{nan}");
    Ok(())
}

#[test]
fn quantized_base() {
    let new = |cols, kind, codes: &[u8], scales: &[f32]| {
        QuantizedBase::new(1, cols, kind, codes.into(), scales.into())
    };
    let scale = |value| FormatError::Scale { position: 1, value, limit: f32::MAX / 8.0 };
    let group = BaseKind::Int4G32;
    // Codes of -8 are allowed.
    let mut codes = [0x88; 17];
    codes[16] = 8;
    assert!(new(33, group, &codes, &[0.0, f32::MAX / 8.0]).is_ok());
    let nibble = FormatError::GapRow { row: 0, problem: "unused bits after its last code must be 0" };
    check(vec![
        ("codes missing", new(33, group, &[0; 16], &[1.0; 2]), length("base codes", 16, 17)),
        ("scales missing", new(33, group, &[0; 17], &[1.0]), length("base scales", 1, 2)),
        ("last high nibble", new(33, group, &[0x88; 17], &[1.0; 2]), nibble),
        ("scale negative", new(33, group, &[0; 17], &[1.0, -0.1]), scale(-0.1)),
        ("scale infinite", new(33, group, &[0; 17], &[1.0, f32::INFINITY]), scale(f32::INFINITY)),
        ("scale too large", new(33, group, &[0; 17], &[1.0, f32::MAX]), scale(f32::MAX)),
    ]);
}

#[test]
fn values_that_a_plane_cannot_hold() {
    let one = |value: f64| Csr::<f64>::new(2, 3, vec![0, 1, 2], vec![2, 1], vec![0.5, value]).unwrap();
    let too_large = |value, value_type| FormatError::ValueOverflow { row: 1, col: 1, value, value_type };
    check(vec![
        ("f16 rounds up", csr_to_gap(&one(65_520.0), ValueType::F16), too_large(65_520.0, ValueType::F16)),
        ("bf16 rounds up", csr_to_gap(&one(-3.4e38), ValueType::Bf16), too_large(-3.4e38, ValueType::Bf16)),
        ("f32", csr_to_gap(&one(1e39), ValueType::F32), too_large(1e39, ValueType::F32)),
        ("i8", csr_to_gap(&one(1e39), ValueType::I8), too_large(1e39, ValueType::I8)),
    ]);
    assert!(csr_to_gap(&one(65_519.9), ValueType::F16).is_ok());
    for value_type in ValueType::ALL {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = csr_to_gap(&one(value), value_type).unwrap_err();
            assert!(matches!(error, FormatError::NotFinite { row: 1, col: 1, .. }), "{value_type} {error}");
        }
    }
}

#[test]
fn dense_of_the_wrong_size() {
    let expected = |found| length("dense values", found, 6);
    assert_eq!(dense_to_csr::<f32, u32>(2, 3, &[0.0; 5], |_| true), Err(expected(5)));
    assert_eq!(csr_to_dense(&Csr::<f32>::empty(2, 3), &mut [0.0; 7]), Err(expected(7)));
    let huge = dense_to_csr::<f32, u32>(usize::MAX, usize::MAX, &[], |_| true);
    assert_eq!(huge, Err(length("dense values", 0, usize::MAX)));
}

#[test]
fn a_builder_stops_at_the_end_of_u32() {
    let mut builder = GapPatternBuilder::new();
    let plan = RowPlan { mode: RowMode::Absolute32, nnz: 1 << 29, entries: 1 << 29, index_bytes: 1 << 31 };
    builder.push(&plan).unwrap();
    let overflow = FormatError::Overflow { what: "index bytes", found: 1 << 32, width: "u32" };
    assert_eq!(builder.push(&plan), Err(overflow));
    assert_eq!((builder.rows(), builder.index_bytes()), (1, 1 << 31));
}
