//! `patch(old, diff(old, new))` is `new`, byte by byte.

// Helpers outside of test functions too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod diff_support;

use std::slice::from_ref;

use diff_support::{DTYPES, Tensor, file, listing, write, write_shards};
use proptest::prelude::*;
use residua_format::file::{Checkpoint, Dtype};
use residua_memory::Budget;
use residua_split::{
    Delta, DeltaOp, DiffOptions, DiffReport, New, NoProgress, Old, Output, Stored, diff, patch, read_delta,
};

const METADATA: &str = r#"{"format": "pt", "note": "ü \"quoted\" \n"}"#;

/// Diffs and patches; the delta's report and bytes. Panics unless the patched file is `new`'s.
fn round_trip(old: &[Tensor], new: &[Tensor], op: DeltaOp, budget: u64) -> (DiffReport, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let (old, new) = (write(&at("old"), old, ""), write(&at("new"), new, METADATA));
    let budget = Budget::new(budget);
    let report =
        diff(Old(&old), New(&new), Output(at("delta")), &DiffOptions::default().op(op), &budget, &NoProgress)
            .unwrap();
    assert_eq!(report, read_delta(at("delta")).unwrap());
    let patched = patch(Old(&old), Delta(at("delta")), Output(at("patched")), &budget, &NoProgress).unwrap();
    let bytes = std::fs::read(&new).unwrap();
    assert!(std::fs::read(at("patched")).unwrap() == bytes, "the patched file differs");
    assert_eq!(patched.output_bytes, bytes.len() as u64);
    assert_eq!(listing(dir.path()), ["delta", "new", "old", "patched"]);
    assert_eq!(budget.used(), 0);
    let mut buffer = vec![0; 4096];
    let mut hash = |path| Checkpoint::open(path).unwrap().hash(&mut buffer).unwrap();
    assert_eq!((report.base_hash.clone(), report.target_hash.clone()), (hash(&old), hash(&new)));
    (report, std::fs::read(at("delta")).unwrap())
}

/// What becomes of a tensor.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Change(f64),
    Add,
    Remove,
    Retype,
    Reshape,
}

fn fate() -> impl Strategy<Value = Fate> {
    let share = prop_oneof![Just(0.0), Just(0.02), Just(0.5), Just(1.0)];
    prop_oneof![
        6 => share.prop_map(Fate::Change),
        1 => Just(Fate::Add),
        1 => Just(Fate::Remove),
        1 => Just(Fate::Retype),
        1 => Just(Fate::Reshape),
    ]
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![]),
        1 => Just(vec![3, 0, 2]),
        3 => (1usize..40).prop_map(|n| vec![n]),
        3 => (1usize..40, 1usize..40).prop_map(|(r, c)| vec![r, c]),
        1 => (1usize..4, 1usize..5, 1usize..6).prop_map(|(a, b, c)| vec![a, b, c]),
        // Row ends: 65,536 elements and one more or less.
        1 => (65_535usize..65_538).prop_map(|n| vec![n]),
    ]
}

fn tensors() -> impl Strategy<Value = Vec<(Tensor, Fate, u64)>> {
    let one = (0..DTYPES.len(), shape(), fate(), any::<u64>());
    prop::collection::vec(one, 0..7).prop_map(|all| {
        let build = |(i, (dtype, mut shape, fate, seed)): (usize, (usize, Vec<usize>, Fate, u64))| {
            let dtype = DTYPES[dtype];
            // Elements of less than a byte come in whole bytes.
            if dtype.bitsize() < 8 {
                shape.push(4);
            }
            (Tensor::random(&format!("layer.{i}\u{e9}\"weight"), dtype, &shape, seed), fate, seed)
        };
        all.into_iter().enumerate().map(build).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn new_comes_back_bit_for_bit(tensors in tensors(), xor in any::<bool>()) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        let mut expected = Vec::new();
        let mut removed = Vec::new();
        for (tensor, fate, seed) in tensors {
            let elements = tensor.bytes.len() / (tensor.dtype.bitsize() / 8).max(1);
            let mut next = tensor.clone();
            match fate {
                Fate::Change(share) => {
                    let (changed, count) = tensor.changed(share, !seed);
                    expected.push((changed.name.clone(), count, None));
                    next = changed;
                }
                Fate::Add => expected.push((tensor.name.clone(), elements as u64, Some(Stored::Added))),
                Fate::Remove => removed.push(tensor.name.clone()),
                Fate::Retype => {
                    next.dtype = if tensor.dtype == Dtype::U8 { Dtype::BOOL } else { Dtype::U8 };
                    next.shape = vec![next.bytes.len()];
                    let bytes = next.bytes.len() as u64;
                    expected.push((tensor.name.clone(), bytes, Some(Stored::Reshaped)));
                }
                Fate::Reshape => {
                    next.shape.insert(0, 1);
                    expected.push((tensor.name.clone(), elements as u64, Some(Stored::Reshaped)));
                }
            }
            if !matches!(fate, Fate::Add) {
                old.push(tensor);
            }
            if !matches!(fate, Fate::Remove) {
                new.push(next);
            }
        }
        new.reverse();
        let op = if xor { DeltaOp::Xor } else { DeltaOp::Overwrite };
        let (report, bytes) = round_trip(&old, &new, op, 16 << 20);
        prop_assert_eq!(report.op, op);
        removed.sort();
        let mut gone = report.removed.clone();
        gone.sort();
        prop_assert_eq!(gone, removed);
        prop_assert_eq!(report.tensors.len(), expected.len());
        for (name, changed, stored) in expected {
            let found = report.tensors.iter().find(|tensor| tensor.name == name).unwrap();
            prop_assert_eq!(found.changed, changed, "{}", name);
            match stored {
                Some(stored) => prop_assert_eq!(found.stored, stored),
                None => prop_assert_eq!(found.stored == Stored::Same, changed == 0),
            }
        }
        prop_assert!(safetensors::SafeTensors::deserialize(&bytes).is_ok());
    }
}

#[test]
fn every_dtype_op_and_density_over_several_rows() {
    for (i, dtype) in DTYPES.into_iter().enumerate() {
        for (shape, share) in
            [(&[3, 65_536][..], 0.01), (&[150_001, 4], 0.3), (&[70_000, 4], 1.0), (&[400_000], 0.0002)]
        {
            let old = Tensor::random("w", dtype, shape, i as u64);
            let (new, changed) = old.changed(share, 99);
            let sizes = DeltaOp::ALL.map(|op| {
                let (report, delta) = round_trip(from_ref(&old), from_ref(&new), op, u64::MAX);
                assert_eq!(report.changed(), changed);
                delta.len()
            });
            // The ops' names differ in length, which padding may or may not hide.
            assert!(sizes[0].abs_diff(sizes[1]) <= 128, "{dtype}: {sizes:?}");
            let most = old.bytes.len() + 2048;
            assert!(sizes[0] <= most, "{dtype} {shape:?} {share}: {} bytes, {most} at most", sizes[0]);
        }
    }
}

#[test]
fn nans_and_negative_zeros_keep_their_bits() {
    let old: Vec<u8> = [0.0f32, -0.0, f32::NAN, 1.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let new: Vec<u8> =
        [0x8000_0000u32, 0, 0x7fc0_beef, 0xff80_0001].iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = |part: &[u8]| {
        let mut all = part.to_vec();
        all.resize(8000, 7);
        [Tensor { name: "w".into(), dtype: Dtype::F32, shape: vec![2000], bytes: all }]
    };
    for op in DeltaOp::ALL {
        let (report, _) = round_trip(&tensor(&old), &tensor(&new), op, u64::MAX);
        assert_eq!((report.changed(), report.tensors[0].stored), (4, Stored::Sparse));
    }
}

#[test]
fn budget_and_threads_do_not_change_the_delta() {
    let old = [
        Tensor::random("a", Dtype::BF16, &[1000, 700], 1),
        Tensor::random("b", Dtype::F64, &[300_000], 2),
        Tensor::random("c", Dtype::U8, &[777], 3),
    ];
    let new: Vec<Tensor> = old.iter().map(|tensor| tensor.changed(0.02, 5).0).collect();
    let (_, reference) = round_trip(&old, &new, DeltaOp::Xor, u64::MAX);
    for (budget, threads) in [(u64::MAX, 1), (4 << 20, 1), (4 << 20, 3), (9 << 20, 2), (200 << 20, 7)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (_, delta) = pool.install(|| round_trip(&old, &new, DeltaOp::Xor, budget));
        assert!(delta == reference, "{budget} bytes, {threads} threads");
    }
}

#[test]
fn shards_on_either_side() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let old: Vec<Tensor> =
        (0..5).map(|i| Tensor::random(&format!("t{i}"), Dtype::BF16, &[40, 50], i)).collect();
    let new: Vec<Tensor> = old.iter().map(|tensor| tensor.changed(0.05, 5).0).collect();
    let (old_one, new_one) = (write(&at("old"), &old, METADATA), write(&at("new"), &new, METADATA));
    let old_shards = write_shards(&at("old-shards"), &old, 2, METADATA);
    let new_shards = write_shards(&at("new-shards"), &new, 3, METADATA);
    let budget = Budget::unlimited();
    for (from, base, to) in [
        (&old_shards, &old_one, &new_one),
        (&old_one, &old_shards, &new_shards),
        (&old_shards, &old_shards, &new_shards),
    ] {
        diff(Old(from), New(to), Output(at("delta")), &DiffOptions::default(), &budget, &NoProgress).unwrap();
        patch(Old(base), Delta(at("delta")), Output(at("patched")), &budget, &NoProgress).unwrap();
        let (expected, found) = (Checkpoint::open(to).unwrap(), Checkpoint::open(at("patched")).unwrap());
        assert_eq!(found.metadata(), expected.metadata());
        let names = |file: &Checkpoint| file.tensors().iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected));
        let mut buffer = vec![0; 4096];
        assert_eq!(found.hash(&mut buffer).unwrap(), expected.hash(&mut buffer).unwrap());
    }
    // A single new file comes back as it was, whatever the old side was.
    let xor = DiffOptions::default().op(DeltaOp::Xor);
    diff(Old(&old_shards), New(&new_one), Output(at("delta")), &xor, &budget, &NoProgress).unwrap();
    patch(Old(&old_one), Delta(at("delta")), Output(at("patched")), &budget, &NoProgress).unwrap();
    assert!(std::fs::read(at("patched")).unwrap() == file(&new, METADATA));
}

/// Empty tensors share their place. A reader of the file that a patch writes sorts them by name, wherever they were
/// before.
#[test]
fn empty_tensors_of_several_shards() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let tensor = |name, rows, seed| Tensor::random(name, Dtype::BF16, &[rows, 50], seed);
    let old = [tensor("w", 40, 1), tensor("z", 0, 2), tensor("b", 0, 3), tensor("v", 40, 4)];
    let mut new: Vec<Tensor> = old.iter().map(|tensor| tensor.changed(0.05, 5).0).collect();
    new.insert(3, tensor("a", 0, 6));
    let (old, new) =
        (write_shards(&at("old"), &old, 2, METADATA), write_shards(&at("new"), &new, 5, METADATA));
    let budget = Budget::unlimited();
    diff(Old(&old), New(&new), Output(at("delta")), &DiffOptions::default(), &budget, &NoProgress).unwrap();
    patch(Old(&old), Delta(at("delta")), Output(at("patched")), &budget, &NoProgress).unwrap();
    let (expected, found) = (Checkpoint::open(&new).unwrap(), Checkpoint::open(at("patched")).unwrap());
    let mut buffer = vec![0; 4096];
    assert_eq!(found.hash(&mut buffer).unwrap(), expected.hash(&mut buffer).unwrap());
}

#[test]
fn a_base_is_not_patched_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let old = [Tensor::random("w", Dtype::F16, &[300, 300], 1)];
    let new = [old[0].changed(0.01, 2).0];
    let (old, new) = (write(&at("old"), &old, ""), write(&at("new"), &new, ""));
    let budget = Budget::unlimited();
    diff(Old(&old), New(&new), Output(at("delta")), &DiffOptions::default(), &budget, &NoProgress).unwrap();
    let files = || ["old", "delta"].map(|name| std::fs::read(at(name)).unwrap());
    let before = files();
    for output in ["old", "delta"] {
        let error =
            patch(Old(&old), Delta(at("delta")), Output(at(output)), &budget, &NoProgress).unwrap_err();
        assert!(error.to_string().contains("the output is the input"), "{error}");
    }
    assert!(files() == before);
    assert_eq!(listing(dir.path()), ["delta", "new", "old"]);
}

#[test]
fn one_percent_of_bf16_costs_at_most_3_6_bytes_a_change() {
    // Weights and small tensors, which cost more; headers, hashes and padding counted.
    let shapes: [&[usize]; 6] = [&[1024, 1024], &[1024], &[4096, 1024], &[4096], &[1024, 4096], &[1024]];
    let tensor = |(i, shape): (u64, &&[usize])| {
        Tensor::random(&format!("model.layers.0.part.{i}.weight"), Dtype::BF16, shape, i)
    };
    let old: Vec<Tensor> = (0..).zip(&shapes).map(tensor).collect();
    let new: Vec<Tensor> = old.iter().map(|tensor| tensor.changed(0.01, 77).0).collect();
    for op in DeltaOp::ALL {
        let (report, _) = round_trip(&old, &new, op, u64::MAX);
        assert!(report.bytes_per_change() <= 3.6, "{}", report.bytes_per_change());
    }
}

/// The tables of a delta give way to tensors of their names.
#[test]
fn tensors_may_have_the_names_of_the_tables() {
    let names = ["delta.table", "delta.table_", "delta.target_header"];
    let old = names.map(|name| Tensor::random(name, Dtype::U8, &[200], 1));
    let new: Vec<_> = old.iter().map(|tensor| tensor.changed(1.0, 2).0).collect();
    let (report, _) = round_trip(&old, &new, DeltaOp::Overwrite, 1 << 24);
    assert!(report.tensors.iter().all(|tensor| tensor.stored == Stored::Replaced));
}
