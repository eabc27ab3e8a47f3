//! Task after task: variants, shared classes, pairs, and a state that survives.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::normal;
use residua_compensate::tasks::SequenceReader;
use residua_compensate::*;
use residua_memory::Budget;

const DIM: usize = 4;

/// Features that every task turns and stretches a little.
fn features(task: usize, seed: u64, count: usize) -> Vec<f32> {
    let rows = normal(DIM * count, seed);
    let moved = rows.chunks(DIM).flat_map(|x| {
        let mut x: Vec<f32> = x.iter().map(|v| v + 2.0).collect();
        for _ in 0..task {
            x = (0..DIM).map(|i| 1.1 * x[i] + 0.2 * x[(i + 1) % DIM] - 0.3).collect();
        }
        x
    });
    moved.collect()
}

fn run(state: &mut TaskSequence, task: usize, budget: &Budget) -> Result<()> {
    with_task(task, 2, |task| state.finish_task(task, budget))
}

/// Hands a task of two classes to `f`; the next one's have labels that are higher by `step`.
fn with_task<T>(task: usize, step: u32, f: impl FnOnce(Task<'_>) -> Result<T>) -> Result<T> {
    let count = 60;
    let seed = task as u64 * 10;
    let before = features(task.saturating_sub(1), seed, count);
    let after = features(task, seed, count);
    let labels: Vec<u32> = (0..count as u32).map(|i| step * task as u32 + i % 2).collect();
    let mut current = MemorySource::new(DIM, &before, Some(&after), Some(&labels)).unwrap();
    let (before, after) = (features(task.saturating_sub(1), 999, count), features(task, 999, count));
    let mut auxiliary = MemorySource::new(DIM, &before, Some(&after), None).unwrap();
    f(Task::new(&mut current).with_auxiliary(&mut auxiliary))
}

fn small() -> TaskSequence {
    let weak = WeakNonlinear::default().with_hidden(8).with_points(64);
    TaskSequence::new(DIM, Variant::ALL)
        .with_method(Variant::WeakNonlinear.name(), Some(Box::new(weak)))
        .with_method(Variant::Rff.name(), Some(Box::new(Rff::default().with_features(8).with_points(64))))
}

#[test]
fn classes_follow_over_tasks() {
    for pairs in [Pairs::Current, Pairs::Auxiliary, Pairs::Both] {
        let budget = Budget::new(64 << 20);
        let mut state = small();
        state.pairs = pairs;
        (0..4).for_each(|task| run(&mut state, task, &budget).unwrap());
        assert_eq!(state.tasks(), 4);
        // Class 0 as it would be, had it been seen after all tasks.
        let truth: Vec<f32> =
            features(3, 0, 60).chunks(2 * DIM).flat_map(|pair| pair[..DIM].to_vec()).collect();
        let truth = common::collect(DIM, &truth, &[0; 30], Storage::Packed);
        let truth = truth.get(0).unwrap();
        let error = |name: &str| {
            let class = state.statistics(name).unwrap().get(0).unwrap();
            (class.mean() - truth.mean()).norm() / truth.mean().norm()
        };
        let stale = error("SeqFT");
        assert!(stale > 0.2, "{stale}");
        for variant in Variant::ALL.into_iter().filter(|variant| *variant != Variant::SeqFt) {
            let error = error(variant.name());
            // Attention averages over neighbours, which few samples are no good for.
            let most = if variant == Variant::Attention { 0.5 * stale } else { 0.01 };
            assert!(error < most, "{pairs:?} {}: {error}, stale {stale}", variant.name());
        }
    }
}

#[test]
fn what_is_alike_is_held_once() {
    let budget = Budget::new(64 << 20);
    let mut state = small();
    run(&mut state, 0, &budget).unwrap();
    let one = state.statistics("SeqFT").unwrap();
    // A class takes some hundred bytes beside its numbers.
    let counted = Budget::unlimited();
    let copy = one.store(Storage::Smallest, Precision::F32, &counted).unwrap();
    assert_eq!((copy.bytes(), budget.used()), (one.bytes(), counted.used()));
    run(&mut state, 1, &budget).unwrap();
    let class = |name, label| Arc::clone(state.statistics(name).unwrap().get(label).unwrap());
    assert!(Arc::ptr_eq(&class("SeqFT", 2), &class("SeqFT + rff", 2)));
    assert!(!Arc::ptr_eq(&class("SeqFT", 0), &class("SeqFT + rff", 0)));
    drop(state);
    assert_eq!(class_free(&budget), 0);
}

/// Bytes in use once nothing should be.
fn class_free(budget: &Budget) -> u64 {
    budget.used()
}

#[test]
fn saved_and_resumed_is_uninterrupted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.safetensors");
    let budget = Budget::new(64 << 20);
    let mut whole = small();
    (0..2).for_each(|task| run(&mut whole, task, &budget).unwrap());
    whole.save(&path, &Budget::unlimited()).unwrap();
    let saved = std::fs::metadata(&path).unwrap().len();
    let resumed = small().resume(&path, &budget).unwrap();
    // Shared classes are written and read once.
    let class = |name, label| Arc::clone(resumed.statistics(name).unwrap().get(label).unwrap());
    assert!(Arc::ptr_eq(&class("SeqFT", 2), &class("SeqFT + rff", 2)));
    let mut resumed = resumed;
    run(&mut whole, 2, &budget).unwrap();
    run(&mut resumed, 2, &budget).unwrap();
    assert_eq!(resumed.tasks(), 3);
    for name in whole.names() {
        let (a, b) = (whole.statistics(name).unwrap(), resumed.statistics(name).unwrap());
        assert_eq!(a.len(), b.len());
        for ((_, a), (_, b)) in a.iter().zip(b.iter()) {
            assert_eq!((a.count(), a.mean(), a.covariance()), (b.count(), b.mean(), b.covariance()));
        }
    }
    // A run that is stopped while it writes leaves the file of the last finished task.
    let before = std::fs::read(&path).unwrap();
    std::fs::create_dir(directory.path().join("taken")).unwrap();
    assert!(whole.save(directory.path().join("taken"), &Budget::unlimited()).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(saved, before.len() as u64);
}

/// With classes that come once, and with some that come again.
#[test]
fn from_file_to_file_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    for step in [2, 1] {
        let [streamed, whole] =
            ["streamed", "whole"].map(|name| directory.path().join(format!("{name}{step}")));
        let budget = Budget::new(64 << 20);
        // Two variants that leave classes where they are have them in common.
        let new = || small().with_method("also stale", None);
        let mut state = new();
        for task in 0..3 {
            with_task(task, step, |task| state.finish_task(task, &budget)).unwrap();
            let held = budget.used();
            let saved = with_task(task, step, |task| new().finish_task_in(&streamed, task, &budget)).unwrap();
            assert_eq!((saved.tasks(), saved.dim()), (task as u64 + 1, DIM));
            drop(saved);
            assert_eq!(budget.used(), held);
        }
        state.save(&whole, &Budget::unlimited()).unwrap();
        let saved = new().resume(&streamed, &budget).unwrap();
        let reader = SequenceReader::open(&streamed, &Budget::unlimited()).unwrap();
        for name in state.names() {
            let (one, other) = (state.statistics(name).unwrap(), saved.statistics(name).unwrap());
            assert_eq!(one.len(), if step == 2 { 6 } else { 4 });
            assert_eq!(one.len(), other.len());
            // A factor is stored with what its diagonal is.
            let (bytes, diagonals) = (one.bytes(), 8 * one.len() as u64);
            assert!(
                (bytes..=bytes + diagonals)
                    .contains(&reader.statistics(name, &budget).unwrap().unwrap().bytes())
            );
            for ((label, a), (other, b)) in one.iter().zip(other.iter()) {
                assert_eq!(label, other);
                assert_eq!((a.count(), a.mean(), a.covariance()), (b.count(), b.mean(), b.covariance()));
            }
        }
        if step == 2 {
            assert_eq!(std::fs::read(&streamed).unwrap(), std::fs::read(&whole).unwrap());
        }
        // A task that fails.
        let before = std::fs::read(&streamed).unwrap();
        let fails = |result: Result<SequenceReader>| result.map(drop).unwrap_err().to_string();
        let rows = [f32::NAN; DIM];
        let mut bad = MemorySource::new(DIM, &rows, Some(&[1.0; DIM]), Some(&[7])).unwrap();
        let task = Task::new(&mut bad);
        assert!(fails(new().finish_task_in(&streamed, task, &budget)).contains("not a finite"));
        let other = with_task(0, step, |task| small().finish_task_in(&streamed, task, &budget));
        assert!(fails(other).contains("saved for the variants"));
        assert_eq!(std::fs::read(&streamed).unwrap(), before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), if step == 2 { 2 } else { 4 });
    }
}

#[test]
fn a_task_that_fails_changes_nothing() {
    let budget = Budget::new(64 << 20);
    let mut state = small();
    run(&mut state, 0, &budget).unwrap();
    let (used, classes) = (budget.used(), state.statistics("SeqFT").unwrap().len());
    let rows = features(1, 5, 4);
    let mut bad = features(1, 5, 4);
    bad[6] = f32::NAN;
    let fails = |state: &mut TaskSequence, current: &mut dyn FeatureSource| {
        state.finish_task(Task::new(current), &budget).unwrap_err().to_string()
    };
    let labels = [8, 8, 9, 9];
    let mut empty = MemorySource::new(DIM, &[], Some(&[]), Some(&[])).unwrap();
    assert!(fails(&mut state, &mut empty).contains("empty"));
    let mut unlabelled = MemorySource::new(DIM, &rows, Some(&rows), None).unwrap();
    assert!(fails(&mut state, &mut unlabelled).contains("labels"));
    let mut one_sided = MemorySource::new(DIM, &rows, None, Some(&labels)).unwrap();
    assert!(fails(&mut state, &mut one_sided).contains("after the task"));
    let mut not_finite = MemorySource::new(DIM, &bad, Some(&rows), Some(&labels)).unwrap();
    assert!(fails(&mut state, &mut not_finite).contains("row 1, column 2"));
    let mut narrow = MemorySource::new(2, &rows, Some(&rows), Some(&[0; 8])).unwrap();
    assert!(fails(&mut state, &mut narrow).contains("dimension 2, expected 4"));
    state.pairs = Pairs::Auxiliary;
    let mut good = MemorySource::new(DIM, &rows, Some(&rows), Some(&labels)).unwrap();
    assert!(fails(&mut state, &mut good).contains("auxiliary"));
    assert_eq!((state.tasks(), state.statistics("SeqFT").unwrap().len()), (1, classes));
    assert_eq!(budget.used(), used);
}

#[test]
fn files_of_something_else_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.safetensors");
    let budget = Budget::new(64 << 20);
    let mut state = small();
    run(&mut state, 0, &budget).unwrap();
    state.save(&path, &Budget::unlimited()).unwrap();
    let resume = |state: TaskSequence| state.resume(&path, &budget).map(drop).unwrap_err().to_string();
    assert!(resume(TaskSequence::new(5, Variant::ALL)).contains("dimension 4, not 5"));
    assert!(resume(TaskSequence::new(DIM, [Variant::SeqFt])).contains("saved for the variants"));
    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
    assert!(text.contains(r#"\"tasks\":1"#) && text.contains(r#"\"version\":1"#));
    // One byte of the metadata after the other.
    let bytes = std::fs::read(&path).unwrap();
    for at in 0..600.min(bytes.len()) {
        let mut damaged = bytes.clone();
        damaged[at] = b'9';
        std::fs::write(&path, damaged).unwrap();
        // No panic; what is read keeps its invariants.
        drop(small().resume(&path, &budget));
    }
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(small().resume(&path, &budget).is_err());
    state.statistics("SeqFT").unwrap().save(&path, &Budget::unlimited()).unwrap();
    assert!(resume(small()).contains("class statistics, not the state"));
}

#[test]
fn a_state_is_no_input() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    let rows = features(0, 1, 4);
    let mut file = residua_format::file::SafetensorsWriter::create(&path, 512).unwrap();
    let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
    file.tensor("x", residua_format::file::Dtype::F32, &[4, DIM], &bytes).unwrap();
    file.tensor("y", residua_format::file::Dtype::U8, &[4], &[0, 0, 1, 1]).unwrap();
    file.finish().unwrap();
    let before = std::fs::read(&path).unwrap();
    let names = residua_compensate::source::TensorNames::features("x").with_after("x").with_labels("y");
    let mut source = residua_compensate::source::SafetensorsSource::open(&path, &names).unwrap();
    let error = small().finish_task_in(&path, Task::new(&mut source), &Budget::unlimited()).unwrap_err();
    assert_eq!(error.kind(), residua_memory::ErrorKind::Usage, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// In memory and from file to file, also across the two.
#[test]
fn samples_of_a_finished_task_are_refused_unless_they_may_come_again() {
    let budget = Budget::new(64 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut state = small();
    (0..2).for_each(|task| run(&mut state, task, &budget).unwrap());
    state.save(&path, &Budget::unlimited()).unwrap();
    let before = std::fs::read(&path).unwrap();
    for (task, number) in [(0, 1), (1, 2)] {
        let error = run(&mut state, task, &budget).unwrap_err();
        assert!(matches!(error, CompensateError::Repeated { task } if task == number), "{error}");
        let error = with_task(task, 2, |task| small().finish_task_in(&path, task, &budget)).unwrap_err();
        assert!(matches!(error, CompensateError::Repeated { task } if task == number), "{error}");
        let error = run(&mut small().resume(&path, &budget).unwrap(), task, &budget).unwrap_err();
        assert!(matches!(error, CompensateError::Repeated { task } if task == number), "{error}");
    }
    assert_eq!(state.tasks(), 2);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let mut again = small();
    again.repeats = true;
    with_task(1, 2, |task| again.finish_task_in(&path, task, &budget)).unwrap();
    state.repeats = true;
    run(&mut state, 1, &budget).unwrap();
    let saved = folder.path().join("saved");
    state.save(&saved, &Budget::unlimited()).unwrap();
    assert_eq!(SequenceReader::open(&path, &Budget::unlimited()).unwrap().tasks(), 3);
    assert_eq!(small().resume(&saved, &budget).unwrap().tasks(), 3);
}
