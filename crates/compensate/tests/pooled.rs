//! Pooled QDA: accuracy on real features, its laws, and the choice of its weights.
#![allow(clippy::unwrap_used)]

mod common;

use common::real::{DIM, Drift};
use common::{collect, normal};
use residua_compensate::classify::{Pooling, QdaOptions};
use residua_compensate::*;
use residua_memory::Budget;

/// From moved statistics it is beyond plain QDA from true ones, and near itself from true ones.
#[test]
fn pooled_does_best_on_real_features() {
    for (variant, least) in [("full", 76.0), ("lora", 75.6)] {
        let drift = Drift::open(variant);
        let mut samples = drift.source("cur_before", None, Some("y_cur"));
        let chosen = Pooling::choose(&mut samples, &drift.budget).unwrap();
        let new = drift.new_classes();
        let accuracy = |name: &str, old: &ClassStatistics| {
            let all = old.merge(&new, &drift.budget).unwrap();
            let pooling = chosen.unwrap_or(Pooling::of(&all));
            let qda = Qda::new(&all, QdaOptions::pooled(pooling), &drift.budget).unwrap();
            let found = drift.accuracy(&qda);
            println!("{variant} {name} {pooling:?}: {found:.1?}");
            found[0]
        };
        let moved = accuracy("linear", &drift.moved(&Linear::default()));
        let truth = accuracy("true", &drift.truth());
        assert!(moved >= least && moved >= truth - 0.5, "{variant}: {moved} {truth}");
    }
}

/// 64 directions of a class are enough on real features, and all of them are the whole classifier.
#[test]
fn a_low_rank_loses_little() {
    for variant in ["full", "lora"] {
        let drift = Drift::open(variant);
        let all = drift.moved(&Linear::default()).merge(&drift.new_classes(), &drift.budget).unwrap();
        let qda = Qda::new(&all, QdaOptions::pooled(Pooling::of(&all)), &drift.budget).unwrap();
        let whole = drift.accuracy(&qda);
        let low = [16, 32, 64].map(|rank| drift.accuracy(&qda.low_rank(rank, &drift.budget).unwrap()));
        println!("{variant}: {whole:.1?}, ranks 16, 32, 64: {low:.1?}");
        assert!(low[2][0] >= whole[0] - 0.5, "{variant}: {low:?} {whole:?}");
    }
}

/// Factors and dense covariances, equal counts and others: with all directions scores are those of the whole classifier.
#[test]
fn all_directions_are_the_whole_classifier() {
    let (dim, budget) = (20, Budget::unlimited());
    let labels: Vec<u32> = (0..120).map(|i| [0, 1, 1, 2, 2, 2][i % 6]).collect();
    let rows = normal(dim * labels.len(), 3);
    let queries = normal(dim * 300, 4);
    for options in [QdaOptions::pooled(Pooling::new(0.4, 0.1)), QdaOptions::pooled(Pooling::new(1.0, 0.3))] {
        for storage in [Storage::Smallest, Storage::Packed, Storage::LowRank(3)] {
            let statistics = collect(dim, &rows, &labels, Storage::Smallest);
            let statistics = statistics.store(storage, Precision::F64, &budget).unwrap();
            let qda = Qda::new(&statistics, options, &budget).unwrap();
            let whole = qda.scores(&queries, &budget).unwrap();
            let low = qda.low_rank(dim, &budget).unwrap().scores(&queries, &budget).unwrap();
            for (low, whole) in low.iter().zip(&whole) {
                assert!((low - whole).abs() < 1e-4 * whole.abs().max(1.0), "{storage:?}: {low} {whole}");
            }
            let none = qda.low_rank(0, &budget).unwrap();
            assert_ne!(none.scores(&queries, &budget).unwrap(), whole);
        }
    }
    let own_trace = QdaOptions::default().with_pooled(0.5).with_uncertainty(false);
    let statistics = collect(dim, &rows, &labels, Storage::Smallest);
    let qda = Qda::new(&statistics, own_trace, &budget).unwrap();
    assert!(qda.low_rank(2, &budget).unwrap_err().to_string().contains("ridge.trace"));
}

#[test]
fn a_low_rank_has_the_same_bits_whatever_budget_and_threads() {
    let dim = 40;
    let labels: Vec<u32> = (0..400).map(|i| i % 8).collect();
    let statistics = collect(dim, &normal(dim * labels.len(), 5), &labels, Storage::Smallest);
    let queries = normal(dim * 1500, 6);
    let qda =
        Qda::new(&statistics, QdaOptions::pooled(Pooling::of(&statistics)), &Budget::unlimited()).unwrap();
    let run = |threads, limit| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let budget = Budget::new(limit);
        let low = pool.install(|| qda.low_rank(5, &budget)).unwrap();
        let predicted = pool.install(|| low.predict(&queries, &budget)).unwrap();
        let scores = pool.install(|| low.scores(&queries[..200 * dim], &Budget::unlimited())).unwrap();
        drop(low);
        assert_eq!(budget.used(), 0);
        (predicted, scores)
    };
    let once = run(1, u64::MAX);
    assert_eq!(once, run(4, u64::MAX));
    assert_eq!(once, run(3, 2 << 20));
    assert!(matches!(qda.low_rank(5, &Budget::new(1 << 14)).unwrap_err(), CompensateError::Budget(_)));
}

/// Multiplying all features changes no label and no choice.
#[test]
fn scale_does_not_matter() {
    let (dim, budget) = (16, Budget::unlimited());
    let labels: Vec<u32> = (0..200).map(|i| [0, 1, 1, 2, 3, 3][i % 6]).collect();
    let mut rows = normal(dim * labels.len(), 1);
    for (row, label) in rows.chunks_mut(dim).zip(&labels) {
        row.iter_mut().enumerate().for_each(|(at, v)| *v *= 1.0 + ((at as u32 + label) % 4) as f32);
        row[0] += *label as f32;
    }
    let queries = normal(dim * 500, 2);
    let run = |scale: f32| {
        let scaled = |numbers: &[f32]| numbers.iter().map(|v| v * scale).collect::<Vec<_>>();
        let (rows, queries) = (scaled(&rows), scaled(&queries));
        let mut source = MemorySource::labelled(dim, &rows, &labels).unwrap();
        let chosen = Pooling::choose(&mut source, &budget).unwrap();
        let statistics = collect(dim, &rows, &labels, Storage::Smallest);
        let predict = |pooling| {
            let qda = Qda::new(&statistics, QdaOptions::pooled(pooling), &budget).unwrap();
            qda.predict(&queries, &budget).unwrap()
        };
        (chosen, predict(Pooling::of(&statistics)), predict(Pooling::new(0.7, 0.02)))
    };
    assert_eq!(run(1.0), run(10.0));
    assert_eq!(run(1.0), run(1e-3));
}

/// Weights half or twice as large do hardly better, however many samples a class has. The samples are ones that the model
/// was not trained on: new classes before the task.
#[test]
fn default_weights_suit_few_samples_and_many() {
    let drift = Drift::open("full");
    let samples = drift.samples("cur_before", None, "y_cur");
    let mut seen = [0; 30];
    let place: Vec<usize> = samples
        .labels
        .iter()
        .map(|&label| {
            seen[label as usize] += 1;
            seen[label as usize]
        })
        .collect();
    let test = samples.select(|row| place[row] > 280);
    for each in [11, 27, 54, 120, 280] {
        let train = samples.select(|row| place[row] <= each);
        let statistics = collect(DIM, &train.before, &train.labels, Storage::Smallest);
        let Pooling { own, ridge, .. } = Pooling::of(&statistics);
        let right = [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.5), (1.0, 2.0)].map(|(a, b)| {
            let options = QdaOptions::pooled(Pooling::new(a * own, b * ridge));
            let qda = Qda::new(&statistics, options, &drift.budget).unwrap();
            let found = qda.predict(&test.before, &drift.budget).unwrap();
            let hits = found.iter().zip(&test.labels).filter(|(found, label)| found == label).count();
            100.0 * hits as f64 / found.len() as f64
        });
        println!("{each} samples of a class, weights times 1 1, ½ 1, 2 1, 1 ½, 1 2: {right:.1?}");
        assert!(right.iter().all(|other| right[0] > other - 1.5), "{each}: {right:?}");
    }
}

#[test]
fn default_weights_follow_the_counts() {
    let dim = 9;
    let weights = |counts: [usize; 2]| {
        let labels: Vec<u32> = (0..2).flat_map(|class| vec![class; counts[class as usize]]).collect();
        Pooling::of(&collect(dim, &normal(dim * labels.len(), 1), &labels, Storage::Smallest))
    };
    let ridge = 0.15 + 9.0 / (40.0 * 4.0);
    assert_eq!(weights([4, 4]), Pooling::new(0.2, ridge));
    let known = |count: f64| count / (count + 16.0 * dim as f64);
    let share: f64 = known(4.0) / known(40.0);
    assert_eq!(weights([40, 4]), Pooling::new(0.2 * share.cbrt(), ridge));
}
