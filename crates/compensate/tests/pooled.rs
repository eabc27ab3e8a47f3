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
