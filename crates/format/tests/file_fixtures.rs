//! Files that NumPy, scipy and Python's safetensors wrote (`fixtures/make.py`) are read as what they hold.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use residua_format::convert::Duplicates;
use residua_format::file::*;
use residua_memory::Budget;
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    shape: [usize; 2],
    entries: Vec<(u32, u32, f64)>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The matrix in a fixture; a tensor of a safetensors file stands behind a colon.
fn read(name: &str, budget: &Budget) -> Result<FileMatrix<f64>, FileError> {
    let path = fixture(name);
    Ok(match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("npz") => read_npz(&path, budget)?.into_inner(),
        Some("mtx") => read_mtx(&path, budget)?.into_inner(),
        Some("npy") => FileMatrix::Dense(read_npy(&path, budget)?.into_inner()),
        _ => {
            let (file, tensor) = name.split_once(':').unwrap();
            let file = Checkpoint::open(fixture(file))?;
            FileMatrix::Dense(file.read_dense(tensor, budget)?.into_inner())
        }
    })
}

#[test]
fn what_python_wrote_is_read() {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let table: BTreeMap<String, Expected> = serde_json::from_str(&text).unwrap();
    assert!(table.len() > 30);
    for (name, expected) in table {
        let budget = Budget::unlimited();
        let matrix = read(&name, &budget).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(matrix.shape(), expected.shape, "{name}");
        let csr = matrix.into_csr(Duplicates::Sum).unwrap();
        let entries: Vec<_> = (0..csr.rows())
            .flat_map(|row| {
                let (columns, values) = csr.row(row);
                columns.iter().zip(values).map(move |(&col, &value)| (row as u32, col, value))
            })
            .filter(|entry| entry.2 != 0.0)
            .collect();
        assert_eq!(entries, expected.entries, "{name}");
        assert!(budget.peak() > 0 || expected.entries.is_empty(), "{name} took memory without asking");
        assert!(!matches!(read(&name, &Budget::new(7)), Ok(m) if m.nnz() > 0), "{name} ignores its budget");
    }
}

#[test]
fn the_form_of_the_file_is_kept() {
    let budget = Budget::unlimited();
    for (name, sorted) in [("csr_stored_f8.npz", true), ("csr_unsorted.npz", false), ("csc_f4.npz", false)] {
        assert_eq!(matches!(read(name, &budget).unwrap(), FileMatrix::Csr(_)), sorted, "{name}");
    }
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let table = [
        (
            "refused_i8.npz",
            "tensor data: element 0: 9007199254740993 is too large for f64 to hold it exactly",
        ),
        (
            "refused_i8.npy",
            "tensor array: element 1: 9007199254740993 is too large for f64 to hold it exactly",
        ),
        ("refused_i8.mtx", "line 3: 9007199254740993 is too large for f64 to hold it exactly"),
        ("refused_nan.mtx", "line 3: nan is not finite"),
        ("refused_longdouble.npz", "tensor data: element type \"<f16\": a long double"),
        ("refused_longdouble.npy", "element type \"<f16\": a long double"),
        ("refused_3d.npz", "tensor shape: 3 dimensions, but one or two are needed"),
        ("refused_crc.npz", "the archive is damaged: Invalid checksum"),
        ("refused_complex.npz", "tensor data: element type \"<c8\": complex numbers"),
        ("refused_complex.mtx", "line 1: complex numbers"),
        ("refused_object.npy", "Python objects are not read"),
        ("refused_complex.npy", "complex numbers"),
        ("refused_record.npy", "record"),
        ("refused_text.npy", "text is not read"),
        ("refused_3d.npy", "shape [2, 2, 2]"),
        ("single.safetensors:cube", "tensor cube: shape [2, 3, 4]"),
        ("single.safetensors:scalar", "tensor scalar: shape []"),
        ("single.safetensors:nothing", "there is no tensor nothing, but "),
    ];
    for (name, expected) in table {
        let error = read(name, &Budget::unlimited()).unwrap_err().to_string();
        let file = name.split(':').next().unwrap();
        assert!(error.contains(expected) && error.contains(file), "{name}: {error}");
    }
}

#[test]
fn checkpoints_of_python_are_opened() {
    let single = Checkpoint::open(fixture("single.safetensors")).unwrap();
    assert_eq!(single.metadata()["text"], "\"ü\n");
    assert_eq!(single.tensor("cube").unwrap().shape, [2, 3, 4]);
    assert_eq!(single.tensor("scalar").unwrap().elements(), 1);

    let sharded = Checkpoint::open(fixture("sharded")).unwrap();
    let by_index = Checkpoint::open(fixture("sharded/model.safetensors.index.json")).unwrap();
    assert_eq!(sharded.tensors(), by_index.tensors());
    assert_eq!((sharded.files().count(), sharded.matrices().count()), (2, 6));
    assert_eq!(sharded.metadata()["format"], "pt");
    // The same tensors in another order and number of files have the same hash.
    let mut buffer = [0; 100];
    let mut part = CheckpointHasher::new();
    for name in ["bool", "f16", "f32", "f64", "i64", "u8"] {
        let tensor = single.tensor(name).unwrap();
        part.tensor(tensor, &single.hash_tensor(tensor, &mut buffer).unwrap());
    }
    assert_eq!(sharded.hash(&mut [0; 7]).unwrap(), part.finish());
}
