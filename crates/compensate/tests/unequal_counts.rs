//! Classes of few samples beside classes of many: real features, and laws on synthetic ones.
#![allow(clippy::unwrap_used)]

mod common;

use common::real::{DIM, Drift};
use common::{collect, normal};
use nalgebra::DMatrix;
use residua_compensate::classify::{LdaOptions, Pooling, Prior, QdaOptions, Ridge};
use residua_compensate::*;
use residua_memory::Budget;

/// Old classes have 350 samples, moved by what all pairs tell or the few of the new classes alone.
#[test]
fn classes_of_few_samples_keep_their_share() {
    for variant in ["full", "lora"] {
        let drift = Drift::open(variant);
        let task = drift.samples("cur_before", Some("cur_after"), "y_cur");
        let stale = drift.stale();
        let of_all = drift.moved(&Linear::default());
        for (each, least) in [(11, 69.0), (27, 72.0), (54, 73.0)] {
            let mut seen = [0; 30];
            let firsts: Vec<bool> = task
                .labels
                .iter()
                .map(|&label| {
                    seen[label as usize] += 1;
                    seen[label as usize] <= each
                })
                .collect();
            let few = task.select(|row| firsts[row]);
            let mut source = MemorySource::labelled(DIM, &few.after, &few.labels).unwrap();
            let new =
                ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &drift.budget).unwrap();
            let mut pairs = MemorySource::pairs(DIM, &few.before, &few.after).unwrap();
            let of_few = Linear::default().fit(&mut pairs, &drift.budget).unwrap();
            let of_few = of_few.apply(&stale, &drift.budget).unwrap();
            for (name, old) in [("all", &of_all), ("few", &of_few)] {
                let all = old.merge(&new, &drift.budget).unwrap();
                let qda = Qda::new(&all, QdaOptions::default(), &drift.budget).unwrap();
                let pooled = QdaOptions::pooled(Pooling::of(&all));
                let pooled = Qda::new(&all, pooled, &drift.budget).unwrap();
                let lda = Lda::new(&all, LdaOptions::default(), &drift.budget).unwrap();
                let plain = LdaOptions::default().with_uncertainty(false);
                let plain = Lda::new(&all, plain, &drift.budget).unwrap();
                let [qda, pooled, lda, plain] = [&qda as &dyn Classifier, &pooled, &lda, &plain]
                    .map(|classifier| drift.accuracy(classifier));
                println!(
                    "{variant} {each} {name}: QDA {qda:.1?}, pooled {pooled:.1?}, LDA {lda:.1?}, without uncertainty {plain:.1?}"
                );
                assert!(qda[0] >= least, "{variant} {each} {name}: {qda:?}");
                assert!(pooled[0] >= least, "{variant} {each} {name}: {pooled:?}");
                assert!(lda[0] >= plain[0], "{variant} {each} {name}: {lda:?} {plain:?}");
            }
        }
    }
}

/// Where counts are equal, nothing changes by a bit.
#[test]
fn equal_counts_are_left_alone() {
    let (dim, budget) = (12, Budget::unlimited());
    let labels: Vec<u32> = (0..60).map(|i| i % 5).collect();
    let rows = normal(dim * labels.len(), 1);
    let queries = normal(dim * 40, 2);
    for storage in [Storage::Smallest, Storage::Packed] {
        let statistics = collect(dim, &rows, &labels, storage);
        let lda =
            |options| Lda::new(&statistics, options, &budget).unwrap().scores(&queries, &budget).unwrap();
        let options = LdaOptions::default().with_prior(Prior::Counts);
        assert_eq!(lda(options), lda(options.with_uncertainty(false)));
        let qda =
            |options| Qda::new(&statistics, options, &budget).unwrap().scores(&queries, &budget).unwrap();
        let pooled = QdaOptions::pooled(Pooling::of(&statistics));
        for options in [QdaOptions::default(), QdaOptions::default().with_pooled(0.3), pooled] {
            assert_eq!(qda(options), qda(options.with_uncertainty(false)));
        }
    }
}

/// The credit is `½·tr(M⁻¹·Σ̄)·(1/n − 1/n_max)` with every class's own matrix, however classes are stored.
#[test]
fn credits_are_the_formula() {
    let (dim, budget) = (9, Budget::unlimited());
    let labels: Vec<u32> = (0..64)
        .map(|i| {
            if i < 4 {
                0
            } else if i < 24 {
                1
            } else {
                2
            }
        })
        .collect();
    let counts = [4.0, 20.0, 40.0];
    let rows = normal(dim * labels.len(), 3);
    let queries = normal(dim * 7, 4);
    for storage in [Storage::Smallest, Storage::Packed, Storage::LowRank(2)] {
        let statistics = collect(dim, &rows, &labels, Storage::Smallest);
        let statistics = statistics.store(storage, Precision::F64, &budget).unwrap();
        let dense: Vec<_> = statistics.iter().map(|(_, class)| class.covariance().to_dense()).collect();
        let average = dense.iter().zip(counts).fold(DMatrix::zeros(dim, dim), |sum, (covariance, count)| {
            sum + covariance * ((count - 1.0) / 61.0)
        });
        let mean_variance = average.trace() / dim as f64;
        let known = |count: f64| count / (count + 16.0 * dim as f64);
        let alone = known(4.0) / known(40.0);
        // Beside a chosen weight of the average, covariances keep theirs.
        for (pooled, share) in [(0.0, alone), (0.4, 1.0)] {
            let options = QdaOptions::default().with_pooled(pooled);
            let found = Qda::new(&statistics, options, &budget).unwrap().scores(&queries, &budget).unwrap();
            let half = 0.45 * (1.0 - share);
            let diagonal = (half + 0.1) * mean_variance;
            let ridge = Ridge::relative(0.0).with_covariance(0.9 * share).with_identity(diagonal);
            let plain = options.with_ridge(ridge).with_pooled(pooled + half).with_uncertainty(false);
            let plain = Qda::new(&statistics, plain, &budget).unwrap().scores(&queries, &budget).unwrap();
            for (class, (covariance, count)) in dense.iter().zip(counts).enumerate() {
                let mut matrix = covariance * (0.9 * share) + &average * (pooled + half);
                (0..dim).for_each(|i| matrix[(i, i)] += diagonal);
                let spread = (matrix.try_inverse().unwrap() * &average).trace();
                let credit = 0.5 * spread * (1.0 / count - 1.0 / 40.0);
                for query in 0..7 {
                    let difference = found[3 * query + class] - plain[3 * query + class];
                    assert!((difference - credit).abs() < 1e-9, "{storage:?} {class}: {difference} {credit}");
                }
            }
        }
        let lda =
            |options| Lda::new(&statistics, options, &budget).unwrap().scores(&queries, &budget).unwrap();
        let (found, plain) = (lda(LdaOptions::default()), lda(LdaOptions::default().with_uncertainty(false)));
        let matrix = &average + DMatrix::identity(dim, dim) * (0.1 * mean_variance);
        let spread = (matrix.try_inverse().unwrap() * &average).trace();
        for (class, count) in counts.iter().enumerate() {
            let credit = 0.5 * spread * (1.0 / count - 1.0 / 40.0);
            assert!((found[class] - plain[class] - credit).abs() < 1e-9, "{class}");
        }
    }
}
