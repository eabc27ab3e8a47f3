//! Estimated errors of moved means, and warnings, on real drift.
#![allow(clippy::unwrap_used)]

mod common;

use common::real::{Drift, OLD_CLASSES, Samples};
use residua_compensate::compensator::{Checks, Compensator, Warning, WarningKind};
use residua_compensate::tasks::SequenceReader;
use residua_compensate::*;
use residua_memory::Budget;

const DIM: usize = 384;

/// Squared distances between the means of the same classes.
fn squared_errors(moved: &ClassStatistics, truth: &ClassStatistics) -> Vec<f64> {
    let pairs = moved.iter().zip(truth.iter());
    pairs.map(|((_, moved), (_, truth))| (moved.mean() - truth.mean()).norm_squared()).collect()
}

fn estimates(moved: &ClassStatistics) -> Vec<f64> {
    moved.iter().map(|(_, class)| class.error()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Spearman's rank correlation; no two numbers are equal.
fn rank_correlation(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        values.iter().map(|value| values.iter().filter(|other| *other < value).count() as f64).collect()
    };
    let n = a.len() as f64;
    let squares: f64 = ranks(a).iter().zip(ranks(b)).map(|(a, b)| (a - b).powi(2)).sum();
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

fn fit(drift: &Drift, pairs: &Samples, labelled: bool, swapped: bool) -> Box<dyn Compensator> {
    let (mut before, mut after) = (&pairs.before, &pairs.after);
    if swapped {
        (before, after) = (after, before);
    }
    let labels = labelled.then_some(&pairs.labels[..]);
    let mut source = MemorySource::new(DIM, before, Some(after), labels).unwrap();
    Linear::default().fit(&mut source, &drift.budget).unwrap()
}

fn warnings(fitted: &dyn Compensator, stale: &ClassStatistics, budget: &Budget) -> Vec<Warning> {
    let moved = fitted.apply(stale, budget).unwrap();
    let mut checks = Checks::new(fitted.uncertainty().unwrap(), false, budget).unwrap();
    stale.iter().zip(moved.iter()).for_each(|((label, old), (_, new))| checks.add(label, old, new));
    checks.finish(Some(&stale.spread(budget).unwrap()), budget).unwrap()
}

fn has(warnings: &[Warning], kind: WarningKind) -> bool {
    warnings.iter().any(|warning| warning.kind == kind)
}

/// With and without labels of the pairs; the true errors are those that nobody knows.
#[test]
fn estimated_errors_rank_classes_as_true_errors_do() {
    for variant in ["full", "lora"] {
        let drift = Drift::open(variant);
        let (stale, truth) = (drift.stale(), drift.truth());
        let pairs = drift.samples("cur_before", Some("cur_after"), "y_cur");
        for (labelled, every) in [(true, 1), (false, 1), (true, 13), (false, 13)] {
            let pairs = pairs.select(|row| row % every == 0);
            let fitted = fit(&drift, &pairs, labelled, false);
            let moved = fitted.apply(&stale, &drift.budget).unwrap();
            let (estimated, found) = (estimates(&moved), squared_errors(&moved, &truth));
            let (rank, level) = (rank_correlation(&estimated, &found), mean(&estimated) / mean(&found));
            let known = fitted.uncertainty().unwrap();
            println!(
                "{variant}, {} pairs, labels {labelled}: rank correlation {rank:.2}, estimate {:.2}, true {:.2}, left out \
                 {:.3} of no move",
                pairs.labels.len(),
                mean(&estimated),
                mean(&found),
                known.held_out_error()
            );
            assert!(rank >= 0.7, "{variant} {labelled} {every}: {rank}");
            assert!((0.5..8.0).contains(&level), "{variant} {labelled} {every}: {level}");
            assert_eq!(known.by_class(), labelled);
            assert!(!known.is_no_help() && known.drift() > 0.0);
        }
    }
}

#[test]
fn what_is_wrong_with_pairs_is_told() {
    for variant in ["full", "lora"] {
        let drift = Drift::open(variant);
        let (stale, budget) = (drift.stale(), &drift.budget);
        let pairs = drift.samples("cur_before", Some("cur_after"), "y_cur");
        let good = warnings(&*fit(&drift, &pairs, true, false), &stale, budget);
        for kind in
            [WarningKind::Swapped, WarningKind::NoHelp, WarningKind::FewPairs, WarningKind::UnequalCounts]
        {
            assert!(!has(&good, kind), "{variant}: {good:?}");
        }
        println!("{variant}: {good:?}");
        let swapped = warnings(&*fit(&drift, &pairs, true, true), &stale, budget);
        assert!(has(&swapped, WarningKind::Swapped), "{variant}: {swapped:?}");
        let few = warnings(&*fit(&drift, &pairs.select(|row| row % 53 == 0), true, false), &stale, budget);
        let few = few.iter().find(|warning| warning.kind == WarningKind::FewPairs).unwrap();
        assert!(few.message.contains("give 668 more"), "{few}");
        // Rows after the task that belong to other inputs: no map predicts them.
        let mut shuffled = pairs.select(|_| true);
        let rows = pairs.labels.len();
        let other = |row: usize| (row * 7919 + 13) % rows * DIM;
        shuffled.after = (0..rows).flat_map(|row| pairs.after[other(row)..][..DIM].to_vec()).collect();
        let mut fitted = fit(&drift, &shuffled, false, false);
        let found = warnings(&*fitted, &stale, budget);
        assert!(
            has(&found, WarningKind::NoHelp),
            "{variant}: {}",
            fitted.uncertainty().unwrap().unexplained()
        );
        let moved = fitted.apply(&stale, budget).unwrap();
        assert!(squared_errors(&moved, &stale).iter().all(|&distance| distance > 0.0));
        fitted.keep_if_worse();
        let moved = fitted.apply(&stale, budget).unwrap();
        assert!(squared_errors(&moved, &stale).iter().all(|&distance| distance == 0.0));
        assert!(estimates(&moved).iter().all(|&error| error > 0.0));
    }
}

/// Errors of several moves add up, and files keep them.
#[test]
fn errors_add_up_and_are_saved() {
    let folder = tempfile::tempdir().unwrap();
    let (path, state) = (folder.path().join("statistics"), folder.path().join("state"));
    let drift = Drift::open("full");
    let budget = &drift.budget;
    let stale = drift.stale();
    assert!(estimates(&stale).iter().all(|&error| error == 0.0));
    let pairs = drift.samples("cur_before", Some("cur_after"), "y_cur");
    let once = fit(&drift, &pairs, true, false).apply(&stale, budget).unwrap();
    once.save(&path, budget).unwrap();
    let again = ClassStatistics::load(&path, budget).unwrap();
    assert_eq!(estimates(&once), estimates(&again));
    assert_eq!(once.tag(), again.tag());
    let back = fit(&drift, &pairs, true, true);
    let error = back.apply(&again, budget).map(drop).unwrap_err();
    assert!(error.to_string().contains("swapped"), "{error}");
    let twice = back.apply(&again.with_tag(Tag::default()), budget).unwrap();
    assert!(estimates(&twice).iter().zip(estimates(&once)).all(|(twice, once)| *twice > once));
    // The mean of a class and itself has half its squared error.
    let class = twice.get(0).unwrap();
    let merged = class.merge(class, budget).unwrap();
    assert!((merged.error() / class.error() - 0.5).abs() < 1e-12);

    let sequence = || TaskSequence::new(DIM, [Variant::SeqFt, Variant::Linear]);
    let mut old = drift.source("old_before", Some("old_before"), Some("y_old"));
    sequence().finish_task_in(&state, Task::new(&mut old), budget).unwrap();
    let mut new = drift.source("cur_before", Some("cur_after"), Some("y_cur"));
    let prepared = sequence().prepare_task_in(&state, Task::new(&mut new), budget).unwrap();
    assert!(!prepared.warnings().iter().any(|(_, warning)| warning.kind == WarningKind::Labels));
    prepared.commit(budget).unwrap();
    let saved = SequenceReader::open(&state, budget).unwrap();
    let errors: Vec<f64> = saved.overview().errors("SeqFT + linear").map(|(_, error)| error).collect();
    let close = errors.iter().zip(estimates(&once)).all(|(a, b)| (a / b - 1.0).abs() < 1e-6);
    assert!(close, "{errors:?}");
    assert!(errors[OLD_CLASSES as usize..].iter().all(|&error| error == 0.0));
    assert!(saved.overview().errors("SeqFT").all(|(_, error)| error == 0.0));
}

/// Labels of another task, and labels of old classes.
#[test]
fn labels_that_do_not_fit_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let drift = Drift::open("lora");
    let budget = &drift.budget;
    let sequence = || TaskSequence::new(DIM, [Variant::SeqFt, Variant::Linear]);
    let mut old = drift.source("old_before", Some("old_before"), Some("y_old"));
    sequence().finish_task_in(&state, Task::new(&mut old), budget).unwrap();
    let pairs = drift.samples("cur_before", Some("cur_after"), "y_cur");
    let told = |labels: &[u32]| {
        let mut source = MemorySource::new(DIM, &pairs.before, Some(&pairs.after), Some(labels)).unwrap();
        let prepared = sequence().prepare_task_in(&state, Task::new(&mut source), budget).unwrap();
        let warnings = prepared.warnings().iter().map(|(_, warning)| warning.clone()).collect::<Vec<_>>();
        (has(&warnings, WarningKind::Labels), has(&warnings, WarningKind::OtherClass))
    };
    assert_eq!(told(&pairs.labels), (false, false));
    let random: Vec<u32> =
        (0..pairs.labels.len()).map(|row| OLD_CLASSES + (row * 7919 % 15) as u32).collect();
    assert_eq!(told(&random), (true, false));
    let of_old: Vec<u32> = pairs.labels.iter().map(|label| label - OLD_CLASSES).collect();
    assert_eq!(told(&of_old), (false, true));
}
