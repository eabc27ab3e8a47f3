//! Tensors in memory become the new checkpoint's, or stay as they are.
#![allow(clippy::unwrap_used)]

mod diff_support;

use std::path::PathBuf;

use diff_support::{DTYPES, Tensor, write};
use proptest::prelude::*;
use residua_memory::{Budget, ErrorKind};
use residua_split::{
    Delta, DeltaOp, DiffOptions, New, NoProgress, Old, Output, PatchReport, Progress, SplitError, Stored,
    TensorMut, apply_into, diff,
};

/// The delta from `old` to `new`, in a folder that lives as long as it is held.
fn delta(old: &[Tensor], new: &[Tensor], op: DeltaOp) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let at = |name| folder.path().join(name);
    let (old, new) = (write(&at("old"), old, ""), write(&at("new"), new, ""));
    let options = DiffOptions::default().op(op);
    diff(Old(old), New(new), Output(at("delta")), &options, &Budget::unlimited(), &NoProgress).unwrap();
    let delta = at("delta");
    (folder, delta)
}

fn apply(
    tensors: &mut [Tensor],
    delta: &PathBuf,
    budget: u64,
    progress: &dyn Progress,
) -> Result<PatchReport, SplitError> {
    let mut views: Vec<_> = tensors
        .iter_mut()
        .map(|Tensor { name, dtype, shape, bytes }| TensorMut { name, dtype: *dtype, shape, bytes })
        .collect();
    let budget = Budget::new(budget);
    let done = apply_into(&mut views, Delta(delta), &budget, progress);
    assert_eq!(budget.used(), 0);
    done
}

fn shape() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        1 => Just(vec![]),
        1 => Just(vec![0, 4]),
        4 => (1usize..40, 1usize..40).prop_map(|(r, c)| vec![r, 4 * c]),
        // Row ends: 65,536 elements and one more or less; several rows.
        2 => (65_535usize..65_538).prop_map(|n| vec![n, 4]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn memory_becomes_the_new_checkpoint(
        tensors in prop::collection::vec((0..DTYPES.len(), shape(), any::<u64>()), 1..5),
        share in prop_oneof![Just(0.0), Just(0.02), Just(1.0)],
        xor in any::<bool>(),
    ) {
        let build = |(i, (dtype, shape, seed)): (usize, &(usize, Vec<usize>, u64))| {
            // Elements of less than a byte come in whole bytes.
            let dtype = DTYPES[*dtype];
            let shape = if dtype.bitsize() < 8 && shape.is_empty() { &[4][..] } else { shape };
            Tensor::random(&format!("layer.{i}"), dtype, shape, *seed)
        };
        let old: Vec<_> = tensors.iter().enumerate().map(build).collect();
        let new: Vec<_> = old.iter().map(|tensor| tensor.changed(share, 5).0).collect();
        let op = if xor { DeltaOp::Xor } else { DeltaOp::Overwrite };
        let (_folder, delta) = delta(&old, &new, op);
        let mut live = old.clone();
        // A tensor that the delta does not know, first and under its own name.
        live.insert(0, Tensor::random("other", DTYPES[0], &[3], 1));
        let other = live[0].clone();
        let report = apply(&mut live, &delta, 64 << 20, &NoProgress).unwrap();
        prop_assert_eq!(report.tensors.len(), new.len());
        prop_assert_eq!(&live[0], &other);
        prop_assert!(live[1..] == new, "a tensor is not the new one");
        // They are the new checkpoint now, and not what the delta was made from.
        if new != old {
            let again = apply(&mut live, &delta, 64 << 20, &NoProgress).unwrap_err();
            prop_assert_eq!(again.kind(), ErrorKind::Input);
            prop_assert!(live[1..] == new);
        }
    }
}

/// Two tensors: one with a few changes in several rows, one whole.
fn two() -> (Vec<Tensor>, Vec<Tensor>) {
    let old = vec![
        Tensor::random("sparse", DTYPES[17], &[3, 65_536], 1),
        Tensor::random("whole", DTYPES[14], &[64], 2),
    ];
    let new = vec![old[0].changed(0.01, 3).0, old[1].changed(1.0, 4).0];
    (old, new)
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let (old, new) = two();
    let (_folder, file) = delta(&old, &new, DeltaOp::Overwrite);
    let refused = |change: &dyn Fn(&mut Vec<Tensor>), budget: u64| {
        let mut live = old.clone();
        change(&mut live);
        let before = live.clone();
        let error = apply(&mut live, &file, budget, &NoProgress).unwrap_err();
        assert!(live == before, "{error}");
        (error.kind(), error.to_string())
    };
    const ROOM: u64 = 64 << 20;
    let (kind, text) = refused(&|live| live[1].bytes[127] ^= 1, ROOM);
    assert!(kind == ErrorKind::Input && text.contains("tensor whole: the tensor in memory is not"), "{text}");
    // The bits that a sparse change replaces count, too.
    let at = old[0].bytes.iter().zip(&new[0].bytes).position(|(old, new)| old != new).unwrap();
    let (_, text) = refused(&|live| live[0].bytes[at] ^= 0x55, ROOM);
    assert!(text.contains("tensor sparse: the tensor in memory is not"), "{text}");
    let (_, text) = refused(&|live| drop(live.pop()), ROOM);
    assert!(text.contains("tensor whole: it is missing"), "{text}");
    let (_, text) = refused(&|live| live[1].shape = vec![8, 8], ROOM);
    assert!(text.contains("it is BF16 [8, 8], not BF16 [64]"), "{text}");
    let (_, text) = refused(&|live| live[1].bytes.truncate(127), ROOM);
    assert!(text.contains("it has 127 bytes, not 128"), "{text}");
    assert_eq!(refused(&|_| {}, 4096).0, ErrorKind::Budget);
}

#[test]
fn a_damaged_delta_changes_nothing() {
    let (old, new) = two();
    let (_folder, file) = delta(&old, &new, DeltaOp::Xor);
    let mut bytes = std::fs::read(&file).unwrap();
    let whole = bytes.windows(128).position(|window| window == new[1].bytes).unwrap();
    bytes[whole + 5] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let mut live = old.clone();
    let error = apply(&mut live, &file, 64 << 20, &NoProgress).unwrap_err();
    assert!(error.to_string().contains("what tensor whole becomes (the delta is damaged)"), "{error}");
    assert!(live == old);
}

#[test]
fn memory_cannot_follow_every_delta() {
    let (old, new) = two();
    let cases: [(&[Tensor], &[Tensor], &str); 3] = [
        (&old[..1], &new, "adds it"),
        (&old, &new[..1], "removes it"),
        (&old[1..], &[Tensor { shape: vec![8, 8], ..new[1].clone() }], "changes its shape"),
    ];
    for (old, new, words) in cases {
        let (_folder, file) = delta(old, new, DeltaOp::Overwrite);
        let mut live = old.to_vec();
        let error = apply(&mut live, &file, 64 << 20, &NoProgress).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(live == old);
    }
}

#[test]
fn a_stopped_job_changes_nothing() {
    struct Stop;
    impl Progress for Stop {
        fn stop(&self) -> bool {
            true
        }
    }
    let (old, new) = two();
    let (_folder, file) = delta(&old, &new, DeltaOp::Overwrite);
    let mut live = old.clone();
    assert!(matches!(apply(&mut live, &file, 64 << 20, &Stop), Err(SplitError::Interrupted)));
    assert!(live == old);
    let report = apply(&mut live, &file, 64 << 20, &NoProgress).unwrap();
    let stored: Vec<_> = report.tensors.iter().map(|tensor| tensor.stored).collect();
    assert_eq!(stored, [Stored::Sparse, Stored::Replaced]);
}
