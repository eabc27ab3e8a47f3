//! What makes a split file sound: the hashes of its planes, and one verdict of verify and materialize.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use residua_format::ValueType;
use residua_format::file::{Dtype, Plane};
use residua_memory::Budget;
use residua_split::{ErrorKind, MaterializeOptions, NoProgress, Output, SplitOptions, VerifyOptions};
use serde_json::{Value, json};
use split_support::{Bench, Dense, weights};

/// The problem that verify finds, and the error of materialize.
fn verdicts(bench: &Bench, file: &Path) -> [Option<String>; 2] {
    let (budget, out) = (Budget::new(64 << 20), bench.path("out"));
    let (verify, materialize) = (VerifyOptions::default(), MaterializeOptions::default());
    let verified = residua_split::verify(file, &verify, &budget, &NoProgress);
    let problem = verified.map(|report| report.tensors.into_iter().find_map(|tensor| tensor.problem));
    let written = residua_split::materialize(file, Output(&out), &materialize, &budget, &NoProgress);
    [problem.unwrap_or_else(|error| Some(error.to_string())), written.err().map(|error| error.to_string())]
}

/// Splits a matrix whose residual has a plane of each kind: most rows have one entry, so gaps of 255 do not pay.
fn every_plane(bench: &Bench, options: SplitOptions) {
    let mut values = weights(12, 2000, 3);
    values.iter_mut().for_each(|weight| *weight *= 0.01);
    (0..12).for_each(|row| values[row * 2000 + 1999 - row] = 1.0);
    bench.write("w", &[Dense::new("w", Dtype::F16, &[12, 2000], &values)]);
    bench.split("w", &options.density(0.0005).values(ValueType::I8)).unwrap();
}

#[test]
fn one_changed_byte_of_any_plane_is_found_and_named() {
    let bench = Bench::new();
    every_plane(&bench, SplitOptions::default());
    let path = bench.split_path("w");
    let (container, sound) = (bench.container("w"), std::fs::read(&path).unwrap());
    let meta = container.matrix("w").unwrap();
    assert_eq!(verdicts(&bench, &path), [None, None]);
    let names: Vec<_> = Plane::ALL.iter().map(|plane| plane.suffix()).collect();
    assert_eq!(meta.hashes.keys().collect::<BTreeSet<_>>().len(), names.len(), "{meta:?}");
    for plane in Plane::ALL {
        let tensor = container.plane("w", plane).unwrap();
        let bytes = plane.elements(meta).unwrap() * (tensor.dtype.bitsize() as u64 / 8);
        let stored = &sound[tensor.offset() as usize..][..bytes as usize];
        assert_eq!(meta.hashes[plane.suffix()], blake3::hash(stored).to_hex().to_string());
        for at in [0, bytes / 2, bytes - 1] {
            let mut damaged = sound.clone();
            damaged[(tensor.offset() + at) as usize] ^= 1;
            std::fs::write(&path, damaged).unwrap();
            for verdict in verdicts(&bench, &path) {
                let expected = format!("plane {} of tensor w has hash", plane.suffix());
                assert!(verdict.as_ref().is_some_and(|text| text.contains(&expected)), "{verdict:?}");
            }
        }
        // Padding is no part of the plane.
        if bytes < tensor.bytes {
            let mut padded = sound.clone();
            padded[(tensor.offset() + bytes) as usize] ^= 1;
            std::fs::write(&path, padded).unwrap();
            assert_eq!(verdicts(&bench, &path), [None, None]);
        }
    }
}

#[test]
fn the_base_alone_needs_its_own_planes() {
    let bench = Bench::new();
    every_plane(&bench, SplitOptions::default());
    let damage = |plane| {
        let at = bench.container("w").plane("w", plane).unwrap().offset() as usize;
        let mut damaged = std::fs::read(bench.split_path("w")).unwrap();
        damaged[at] ^= 1;
        std::fs::write(bench.split_path("w"), damaged).unwrap();
    };
    damage(Plane::Values);
    bench.materialize("w", 0.0).unwrap();
    damage(Plane::Base);
    let error = bench.materialize("w", 0.0).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("plane base of"), "{error}");
}

#[test]
fn a_file_without_hashes_is_sound() {
    let bench = Bench::new();
    every_plane(&bench, SplitOptions::default().hashes(false));
    assert!(bench.container("w").matrix("w").unwrap().hashes.is_empty());
    assert_eq!(verdicts(&bench, &bench.split_path("w")), [None, None]);
}

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// Flips bits of a byte behind the header.
    Data(Index, u8),
    /// Puts another byte into the header.
    Header(Index, u8),
    /// Sets a field of the matrix, or removes it.
    Field(&'static str, Value),
    /// Sets the metadata of the checkpoint that was split.
    Original(&'static str),
    /// Gives the matrix another name.
    Name(&'static str),
    /// Removes the hashes of the planes, so that what lies behind them is reached.
    NoHashes,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let fields = vec![
        ("dtype", json!("F32")),
        ("dtype", json!("BF16")),
        ("dtype", json!("I16")),
        ("op", json!("xor")),
        ("nnz", json!(0)),
        ("nnz", json!(30)),
        ("shape", json!([10, 6])),
        ("shape", json!([0, 10])),
        ("tensor_shape", json!([60])),
        ("values", json!("f16")),
        ("values", Value::Null),
        ("base", Value::Null),
        ("base", json!("int8")),
        ("base_hash", json!("00")),
        ("base_hash", Value::Null),
        ("hashes", json!({"gaps": "00"})),
        ("hashes", json!({"unknown": "00"})),
    ];
    let originals = vec![
        "",
        "{}",
        "[]",
        "null",
        "7",
        "{\"a\":7}",
        "{\"a\":\"b\"}",
        "{\"a\":null}",
        "{\"a\":\"\\ud800\"}",
    ];
    let names = vec!["", "v", "w.base", "__metadata__", "\u{0}"];
    // The hashes go first in half of the cases, or they would find every change of a plane.
    let hashes = select(vec![Vec::new(), vec![Change::NoHashes]]);
    let change = prop_oneof![
        4 => (any::<Index>(), 1..=255u8).prop_map(|(at, bits)| Change::Data(at, bits)),
        2 => (any::<Index>(), select(b"0179\":,{}[]aFx".to_vec())).prop_map(|(at, to)| Change::Header(at, to)),
        2 => select(fields).prop_map(|(field, value)| Change::Field(field, value)),
        1 => select(originals).prop_map(Change::Original),
        1 => select(names).prop_map(Change::Name),
    ];
    (hashes, prop::collection::vec(change, 1..4)).prop_map(|(first, then)| [first, then].concat())
}

/// The file after a change. A change that no longer applies does nothing.
fn changed(file: &[u8], change: &Change) -> Option<Vec<u8>> {
    let (length, rest) = file.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let (mut header, mut data) = (header.to_vec(), data.to_vec());
    let mut edit = |edit: &dyn Fn(&mut Value) -> Option<()>| {
        let mut json: Value = serde_json::from_slice(&header).ok()?;
        edit(&mut json["__metadata__"])?;
        header = serde_json::to_vec(&json).ok()?;
        Some(())
    };
    let mut set = |field: &str, value: &Value| {
        edit(&|metadata| {
            let (_, text) =
                metadata.as_object_mut()?.iter_mut().find(|(key, _)| key.starts_with("matrix:"))?;
            let mut meta: Value = serde_json::from_str(text.as_str()?).ok()?;
            match value {
                Value::Null => drop(meta.as_object_mut()?.remove(field)),
                value => meta[field] = value.clone(),
            }
            *text = meta.to_string().into();
            Some(())
        })
    };
    match change {
        Change::Data(at, bits) => *at.get_mut(&mut data) ^= bits,
        Change::Header(at, to) => *at.get_mut(&mut header) = *to,
        Change::Field(field, value) => set(field, value)?,
        Change::NoHashes => set("hashes", &Value::Null)?,
        Change::Original(text) => edit(&|metadata| {
            metadata.as_object_mut()?.insert("original_metadata".into(), (*text).into());
            Some(())
        })?,
        Change::Name(name) => {
            let (text, name) = (String::from_utf8(header.clone()).ok()?, json!(name).to_string());
            let name = name.trim_matches('"');
            header = text.replace("\"matrix:w\"", &format!("\"matrix:{name}\"")).into_bytes();
            for plane in Plane::ALL.map(Plane::suffix) {
                let text = String::from_utf8(header).ok()?;
                header = text.replace(&format!("\"w.{plane}\""), &format!("\"{name}.{plane}\"")).into_bytes();
            }
        }
    }
    Some([&(header.len() as u64).to_le_bytes()[..], &header, &data].concat())
}

/// What materialize refuses, verify refuses, and the reverse.
#[test]
fn verify_and_materialize_agree() {
    let bench = Bench::new();
    let values = weights(6, 10, 1);
    let matrix = |values: &[f32]| Dense::new("w", Dtype::F16, &[6, 10], values);
    bench.write("w", &[Dense::new("bias", Dtype::F32, &[3], &[1.0; 3]), matrix(&values)]);
    let base = bench.write("base", &[matrix(&values.iter().map(|w| w + 0.5).collect::<Vec<_>>())]);
    let options = SplitOptions::default().density(0.3);
    let sound = [options.clone(), options.base(base)].map(|options| {
        bench.split("w", &options).unwrap();
        std::fs::read(bench.split_path("w")).unwrap()
    });
    let run = |(changes, which): (Vec<Change>, usize)| {
        let mut file = sound[which].clone();
        for change in &changes {
            file = changed(&file, change).unwrap_or(file);
        }
        std::fs::write(bench.split_path("w"), &file).unwrap();
        let [verify, materialize] = verdicts(&bench, &bench.split_path("w"));
        prop_assert_eq!(verify.is_some(), materialize.is_some(), "{:?} {:?}", verify, materialize);
        Ok(())
    };
    let mut runner = TestRunner::new(ProptestConfig::with_cases(1500));
    runner.run(&(changes(), 0..2usize), run).unwrap();
}
