//! Arrays in `.npy` files read by blocks of rows: every order, byte order and type gives the same rows.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use residua_format::file::*;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    (dir, path)
}

fn write(path: &Path, descr: &str, fortran: bool, shape: &str, data: &[u8]) {
    let order = if fortran { "True" } else { "False" };
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    let length = (header.len() as u16).to_le_bytes();
    std::fs::write(path, [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()).unwrap();
}

/// Element (row, column) of a test array of three columns.
fn value(row: usize, column: usize) -> u8 {
    (10 * row + column) as u8
}

#[test]
fn rows_are_the_same_in_every_order_and_type() {
    const ROWS: usize = 5;
    type Encode = fn(u8) -> Vec<u8>;
    let types: [(&str, Encode); 10] = [
        ("|u1", |v| vec![v]),
        ("|i1", |v| vec![v]),
        ("<i2", |v| i16::from(v).to_le_bytes().into()),
        (">u4", |v| u32::from(v).to_be_bytes().into()),
        ("<i8", |v| i64::from(v).to_le_bytes().into()),
        (">u8", |v| u64::from(v).to_be_bytes().into()),
        (">f2", |v| half::f16::from(v).to_be_bytes().into()),
        ("<f4", |v| f32::from(v).to_le_bytes().into()),
        (">f8", |v| f64::from(v).to_be_bytes().into()),
        ("d", |v| f64::from(v).to_le_bytes().into()),
    ];
    let (_dir, path) = scratch();
    for (descr, encode) in types {
        for fortran in [false, true] {
            let place = |i: usize| if fortran { (i % ROWS, i / ROWS) } else { (i / 3, i % 3) };
            let data: Vec<u8> = (0..3 * ROWS).flat_map(|i| encode(value(place(i).0, place(i).1))).collect();
            write(&path, descr, fortran, "(5, 3)", &data);
            let file = NpyFile::open(&path).unwrap();
            assert_eq!((file.shape(), file.rows(), file.width()), (&[ROWS, 3][..], ROWS, 3), "{descr}");
            assert_eq!(file.is_fortran(), fortran);
            for rows in [0..ROWS, 1..3, 4..5, 2..2] {
                let expected: Vec<u8> =
                    rows.clone().flat_map(|row| (0..3).map(move |column| value(row, column))).collect();
                let mut wide = vec![0f64; expected.len()];
                let mut narrow = vec![0f32; expected.len()];
                let mut whole = vec![0u32; expected.len()];
                file.read_rows(rows.clone(), &mut wide).unwrap();
                file.read_rows(rows.clone(), &mut narrow).unwrap();
                file.read_integers(rows.clone(), &mut whole).unwrap();
                let case = format!("{descr} {fortran} {rows:?}");
                assert!(wide.iter().zip(&expected).all(|(a, &b)| *a == f64::from(b)), "{case}: {wide:?}");
                assert!(narrow.iter().zip(&expected).all(|(a, &b)| *a == f32::from(b)), "{case}: {narrow:?}");
                assert!(whole.iter().zip(&expected).all(|(a, &b)| *a == u32::from(b)), "{case}: {whole:?}");
            }
        }
    }
}

#[test]
fn f64_is_read_as_f64() {
    let (_dir, path) = scratch();
    let values = [1e6 + 1e-9, -1e300, f64::MIN_POSITIVE, f64::NAN];
    write(&path, "<f8", false, "(4,)", bytemuck::cast_slice(&values));
    let mut read = [0f64; 4];
    NpyFile::open(&path).unwrap().read_rows(0..4, &mut read).unwrap();
    assert_eq!(read.map(f64::to_bits), values.map(f64::to_bits));
}

#[test]
fn what_a_type_cannot_hold_is_named() {
    let (_dir, path) = scratch();
    let large = (1i64 << 53) + 1;
    for (fortran, element) in [(false, 4), (true, 3)] {
        write(&path, "<i8", fortran, "(3, 2)", bytemuck::cast_slice(&[1, 2, 3, 4, large, 6]));
        let file = NpyFile::open(&path).unwrap();
        let error = file.read_rows(0..3, &mut [0f64; 6]).unwrap_err().to_string();
        let expected = format!("element {element}: {large} is too large for f64 to hold it exactly");
        assert!(error.contains(&expected) && error.contains("x.npy"), "{error}");
        let mut exact = [0i64; 6];
        file.read_integers(0..3, &mut exact).unwrap();
        assert_eq!(exact[element], large);
        let error = file.read_integers(1..3, &mut [0u32; 4]).unwrap_err().to_string();
        assert!(
            error.contains(&format!("element {element}: {large} is outside the range of u32")),
            "{error}"
        );
    }
    write(&path, "|b1", false, "(2,)", &[0, 1]);
    let mut labels = [7u32; 2];
    NpyFile::open(&path).unwrap().read_integers(0..2, &mut labels).unwrap();
    assert_eq!(labels, [0, 1]);
    write(&path, "<f4", false, "(2,)", bytemuck::cast_slice(&[1f32, 1.5]));
    let error = NpyFile::open(&path).unwrap().read_integers(0..2, &mut labels).unwrap_err().to_string();
    assert!(error.contains("element 1: 1.5 is not an integer"), "{error}");
}

#[test]
fn arrays_without_elements_are_read() {
    let (_dir, path) = scratch();
    for (shape, rows, width) in
        [("(0, 3)", 0, 3), ("(3, 0)", 3, 0), ("(0, 1152921504606846976, 64)", 0, usize::MAX)]
    {
        for fortran in [false, true] {
            write(&path, "<f4", fortran, shape, &[]);
            let file = NpyFile::open(&path).unwrap();
            assert_eq!((file.rows(), file.width()), (rows, width), "{shape}");
            file.read_rows::<f32>(0..rows, &mut []).unwrap();
        }
    }
}

#[test]
fn tensors_are_read_by_elements_the_same_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let large = (1u64 << 53) + 1;
    let mut writer = SafetensorsWriter::create(&path, 4096).unwrap();
    writer.tensor("f64", Dtype::F64, &[3], bytemuck::cast_slice(&[0.1, 1e300, 3.0])).unwrap();
    writer.tensor("u64", Dtype::U64, &[3], bytemuck::cast_slice(&[1, large, 3])).unwrap();
    writer.tensor("f8", Dtype::F8_E4M3, &[3], &[1, 2, 3]).unwrap();
    writer.finish().unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let tensor = |name: &str| file.tensor(name).unwrap();
    let mut two = [0f64; 2];
    file.read_values(tensor("f64"), 1, &mut two).unwrap();
    assert_eq!(two, [1e300, 3.0]);
    let error = |result: Result<(), FileError>| result.unwrap_err().to_string();
    let text = error(file.read_values(tensor("f64"), 1, &mut [0f32; 2]));
    assert!(text.contains("tensor f64: element 1: 1e300 is too large for f32"), "{text}");
    let text = error(file.read_values(tensor("u64"), 1, &mut two));
    assert!(text.contains(&format!("tensor u64: element 1: {large} is too large for f64")), "{text}");
    let mut exact = [0u64; 2];
    file.read_integers(tensor("u64"), 1, &mut exact).unwrap();
    assert_eq!(exact, [large, 3]);
    let text = error(file.read_values(tensor("f8"), 0, &mut two));
    assert!(text.contains("tensor f8: element type F8_E4M3"), "{text}");
    for first in [2, u64::MAX] {
        assert!(file.read_values(tensor("f64"), first, &mut two).is_err());
    }
}
