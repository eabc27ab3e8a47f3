//! Feature sources: arrays written by NumPy and Python's safetensors, and what is refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::npy;
use proptest::prelude::*;
use residua_compensate::source::{
    ArrayAt, ChainSource, FileSource, IterSource, NpySource, SafetensorsSource, TensorNames, for_each_block,
};
use residua_compensate::*;
use residua_format::file::Checkpoint;
use residua_memory::Budget;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn expected(dtype: &str) -> Vec<f32> {
    let all: serde_json::Value = serde_json::from_str(include_str!("fixtures/features.json")).unwrap();
    all[dtype].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

fn read_all(source: &mut dyn FeatureSource, most: usize) -> FeatureBlock {
    let mut block = FeatureBlock::new(source.dim());
    while source.read(most, &mut block).unwrap() > 0 {}
    block
}

#[test]
fn npy_arrays() {
    for dtype in ["f16", "f32", "f64"] {
        let path = fixture(&format!("features_{dtype}.npy"));
        let mut source = NpySource::pairs(&path, &path).unwrap().with_labels(fixture("labels.npy")).unwrap();
        assert_eq!((source.dim(), source.rows()), (3, Some(7)));
        for most in [1, 3, 100] {
            source.rewind().unwrap();
            let block = read_all(&mut source, most);
            assert_eq!(block.before(), expected(dtype));
            assert_eq!(block.before(), block.after().unwrap());
            assert_eq!(block.labels().unwrap(), [3, 1, 3, 0, 1, 3, 70000]);
        }
    }
}

#[test]
fn safetensors_tensors() {
    for dtype in ["f16", "bf16", "f32", "f64"] {
        let names = TensorNames::features(dtype).with_labels("labels");
        let mut source = SafetensorsSource::open(fixture("features.safetensors"), &names).unwrap();
        let block = read_all(&mut source, 2);
        assert_eq!(block.before(), expected(dtype));
        assert!(matches!(block.after(), Err(CompensateError::Missing(_))));
        assert_eq!(block.labels().unwrap(), [3, 1, 3, 0, 1, 3, 2]);
    }
}

#[test]
fn arrays_of_different_files() {
    let file = Arc::new(Checkpoint::open(fixture("features.safetensors")).unwrap());
    let tensor = |name: &str| ArrayAt::Tensor(file.clone(), name.into());
    let npy = |name: &str| ArrayAt::Npy(fixture(name));
    let open = |before, after, labels| FileSource::open(&before, Some(&after), Some(&labels));
    let mut source = open(npy("features_f32.npy"), tensor("f64"), tensor("labels")).unwrap();
    let block = read_all(&mut source, 3);
    assert_eq!(block.before(), expected("f32"));
    assert_eq!(block.after().unwrap(), expected("f64"));
    assert_eq!(block.labels().unwrap(), [3, 1, 3, 0, 1, 3, 2]);
    let wrong = open(tensor("f16"), npy("labels.npy"), npy("labels.npy")).unwrap_err();
    assert!(matches!(wrong, CompensateError::Dimension { found: 1, expected: 3, .. }), "{wrong}");
}

#[test]
fn wrong_files_are_named() {
    let open = |name: &str| NpySource::features(fixture(name)).map(drop).unwrap_err().to_string();
    assert!(open("features.json").contains("features.json: no .npy array"));
    assert!(open("missing.npy").contains("cannot open"));
    let x = fixture("features_f32.npy");
    let read = |labels: &str| {
        let mut source = NpySource::labelled(&x, fixture(labels)).map_err(|e| e.to_string())?;
        source.read(10, &mut FeatureBlock::new(3)).map_err(|e| e.to_string())
    };
    assert!(read("labels_negative.npy").unwrap_err().contains("labels are integers from 0"));
    assert!(read("features_f16.npy").unwrap_err().contains("dimension 3, expected 1"));
    let names = |features: &str, labels: &str| TensorNames::features(features).with_labels(labels);
    let open = |names| SafetensorsSource::open(fixture("features.safetensors"), &names).map(drop);
    assert!(open(names("f16", "none")).unwrap_err().to_string().contains("no tensor none"));
}

#[test]
fn any_order_and_any_type_of_numbers_are_features() {
    for name in ["features_fortran.npy", "features_big.npy"] {
        let mut source = NpySource::features(fixture(name)).unwrap();
        assert_eq!(read_all(&mut source, 2).before(), expected("f32"), "{name}");
    }
    let names = TensorNames::features("labels").with_labels("labels");
    let mut source = SafetensorsSource::open(fixture("features.safetensors"), &names).unwrap();
    assert_eq!(read_all(&mut source, 3).before(), [3.0, 1.0, 3.0, 0.0, 1.0, 3.0, 2.0]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.npy");
    for (dtype, data, words) in [
        ("<i8", ((1i64 << 53) + 1).to_le_bytes(), "9007199254740993 is too large for f64"),
        ("<u8", u64::MAX.to_le_bytes(), "18446744073709551615 is too large for f64"),
        ("<c8", [0; 8], "complex"),
    ] {
        npy(&path, dtype, "(1,)", &data);
        let read = NpySource::features(&path).and_then(|mut x| x.read(1, &mut FeatureBlock::new(1)));
        let error = read.unwrap_err().to_string();
        assert!(error.contains("x.npy") && error.contains(words), "{error}");
    }
}

#[test]
fn truncated_npy_is_refused_on_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.npy");
    let mut bytes = std::fs::read(fixture("features_f32.npy")).unwrap();
    bytes.pop();
    std::fs::write(&path, bytes).unwrap();
    let error = NpySource::features(&path).map(drop).unwrap_err();
    assert!(error.to_string().contains("needs 212 bytes, 211 are there"), "{error}");
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn labels_come_in_every_integer_type() {
    let directory = tempfile::tempdir().unwrap();
    let (x, y) = (directory.path().join("x.npy"), directory.path().join("y.npy"));
    npy(&x, "<f4", "(3, 1)", &[0; 12]);
    let labels = |dtype: &str, data: &[u8]| -> Result<Vec<u32>> {
        npy(&y, dtype, "(3,)", data);
        let mut block = FeatureBlock::new(1);
        NpySource::labelled(&x, &y)?.read(3, &mut block)?;
        Ok(block.labels()?.to_vec())
    };
    let wide = |size: usize, at: [i64; 3]| -> Vec<u8> {
        at.iter().flat_map(|v| v.to_le_bytes()[..size].to_vec()).collect()
    };
    for size in [1, 2, 4, 8] {
        for kind in ["i", "u"] {
            assert_eq!(labels(&format!("<{kind}{size}"), &wide(size, [7, 0, 100])).unwrap(), [7, 0, 100]);
        }
    }
    for (size, label) in [(1, -1), (2, -3), (4, -2), (8, -9), (8, 1 << 40)] {
        let error = labels(&format!("<i{size}"), &wide(size, [7, label, 1])).unwrap_err().to_string();
        assert!(error.contains(&format!("y.npy: tensor array: element 1: {label} is outside")), "{error}");
    }
    let error = labels("<u8", &wide(8, [-1, 0, 0])).unwrap_err().to_string();
    assert!(error.contains("element 0: 18446744073709551615 is outside"), "{error}");
    assert_eq!(labels("<f4", &bytes(&[2.0, 0.0, 7.0])).unwrap(), [2, 0, 7]);
    let error = labels("<f4", &bytes(&[2.0, 0.5, 7.0])).unwrap_err().to_string();
    assert!(error.contains("element 1: 0.5 is not an integer"), "{error}");
}

/// However many rows: there would be no end to reading them.
#[test]
fn rows_of_nothing_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.npy");
    npy(&path, "<f4", "(4611686018427387904, 0)", &[]);
    let error = NpySource::features(&path).map(drop).unwrap_err().to_string();
    assert!(error.contains("shape [4611686018427387904, 0], expected"), "{error}");
}

#[test]
fn mismatched_rows_are_refused() {
    let rows = [1.0; 6];
    assert!(MemorySource::new(3, &rows, Some(&rows[..3]), None).is_err());
    assert!(MemorySource::new(3, &rows, None, Some(&[1])).is_err());
    assert!(MemorySource::new(4, &rows, None, None).is_err());
    let mut block = FeatureBlock::new(3);
    block.push(&rows, None, Some(&[1, 2])).unwrap();
    assert!(block.push(&rows, Some(&rows), Some(&[1, 2])).is_err());
    assert!(block.push(&rows, None, None).is_err());
}

#[test]
fn an_iterator_is_read_once() {
    let mut source = IterSource::new(2, std::iter::empty());
    source.rewind().unwrap();
    assert_eq!(source.read(5, &mut FeatureBlock::new(2)).unwrap(), 0);
    assert!(source.rewind().unwrap_err().to_string().contains("read once"));
}

proptest! {
    /// However a source cuts its batches, statistics are the same bits, and the same as from memory.
    #[test]
    fn batches_do_not_matter(sizes in prop::collection::vec(0usize..40, 1..20), dim in 1usize..5) {
        let n: usize = sizes.iter().sum();
        let rows: Vec<f32> = (0..n * dim).map(|i| ((i * 7919) % 101) as f32).collect();
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 4).collect();
        let mut start = 0;
        let batches = sizes.into_iter().map(|size| {
            let mut block = FeatureBlock::new(dim);
            block.push(&rows[start * dim..(start + size) * dim], None, Some(&labels[start..start + size]))?;
            start += size;
            Ok(block)
        });
        let collect = |source: &mut dyn FeatureSource| {
            let mut builder = StatisticsBuilder::new(dim, &Budget::unlimited());
            builder.add_source(source, Side::Before).unwrap();
            builder.finish(Storage::Smallest, Precision::F64).unwrap()
        };
        let streamed = collect(&mut IterSource::new(dim, batches));
        let held = collect(&mut MemorySource::labelled(dim, &rows, &labels).unwrap());
        prop_assert_eq!(streamed.samples(), n as u64);
        for ((_, a), (_, b)) in streamed.iter().zip(held.iter()) {
            prop_assert_eq!(a.mean(), b.mean());
            prop_assert_eq!(a.covariance(), b.covariance());
        }
    }
}

/// A chain reads its sources in order. An error about a row that is not finite names the file and the row in it.
#[test]
fn sources_in_a_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, rows: &[f32]| {
        let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
        npy(&path(name), "<f4", &format!("({}, 2)", rows.len() / 2), &bytes);
    };
    write("a.npy", &[1.0, 2.0, 3.0, 4.0]);
    write("b.npy", &[5.0, 6.0, 7.0, f32::NAN]);
    npy(&path("y.npy"), "<u1", "(2,)", &[7, 8]);
    let a = || Box::new(NpySource::labelled(path("a.npy"), path("y.npy")).unwrap());
    let mut chain = ChainSource::new(vec![a(), a()]).unwrap();
    let block = read_all(&mut chain, 3);
    assert_eq!((block.before(), chain.rows()), (&[1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0][..], Some(4)));
    assert_eq!(block.labels().unwrap(), [7, 8, 7, 8]);
    assert_eq!(chain.files(), [path("a.npy"), path("y.npy"), path("a.npy"), path("y.npy")]);
    let bare = NpySource::features(path("a.npy")).unwrap();
    let mut chain = ChainSource::new(vec![a(), Box::new(bare)]).unwrap().without_labels();
    let block = read_all(&mut chain, 3);
    assert_eq!((block.rows(), block.labels().is_err()), (4, true));
    let bad = NpySource::features(path("b.npy")).unwrap();
    let mut chain = ChainSource::new(vec![a(), Box::new(bad)]).unwrap().without_labels();
    let error = for_each_block(&mut chain, 3, &Budget::unlimited(), |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("b.npy: features: row 1, column 1: NaN"), "{error}");
    npy(&path("wide.npy"), "<f4", "(1, 3)", &[0; 12]);
    let wide = NpySource::features(path("wide.npy")).unwrap();
    let error = ChainSource::new(vec![a(), Box::new(wide)]).unwrap_err().to_string();
    assert!(
        error.contains("wide.npy") && error.contains("a.npy") && error.contains("3, expected 2"),
        "{error}"
    );
    assert!(ChainSource::new(Vec::new()).is_err());
}
