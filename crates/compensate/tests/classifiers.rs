//! Classifiers rebuilt from statistics, against scikit-learn and direct inverses.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, collect, difference, normal};
use nalgebra::{DMatrix, DVector};
use residua_compensate::classify::{LdaOptions, Metric, NcmOptions, Prior, QdaOptions, Ridge};
use residua_compensate::*;
use residua_memory::Budget;

fn scores(classifier: &dyn Classifier, fixture: &Fixture) -> DMatrix<f64> {
    matrix(classifier, &fixture.floats("/queries"))
}

/// Scores `[C, n]` of queries `[n, d]`.
fn matrix(classifier: &dyn Classifier, queries: &[f32]) -> DMatrix<f64> {
    let scores = classifier.scores(queries, &Budget::unlimited()).unwrap();
    DMatrix::from_vec(classifier.labels().len(), queries.len() / classifier.dim(), scores)
}

/// Scores `[C, n]` of the fixture.
fn expected(fixture: &Fixture, name: &str) -> DMatrix<f64> {
    let numbers = fixture.numbers(name);
    DMatrix::from_vec(3, numbers.len() / 3, numbers)
}

const FORMS: [Storage; 2] = [Storage::Smallest, Storage::Packed];

#[test]
fn nearest_class_mean() {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    let statistics = fixture.statistics(Storage::Smallest);
    let ncm = Ncm::new(&statistics, NcmOptions::default().with_prior(Prior::Counts), &budget).unwrap();
    assert!(difference(&scores(&ncm, &fixture), &expected(&fixture, "/ncm")) < 1e-12);
}

#[test]
fn linear_discriminant_is_that_of_the_correct_inverse() {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    let options = LdaOptions::default().with_ridge(Ridge::shrink(0.1)).with_uncertainty(false);
    for form in FORMS {
        let lda = Lda::new(&fixture.statistics(form), options, &budget).unwrap();
        // scikit-learn divides the scatter by n, we by n − C.
        let ours = scores(&lda, &fixture) * fixture.number("/lda_scale");
        assert!(difference(&ours, &expected(&fixture, "/lda")) < 1e-10);
    }
}

/// Averages of covariances that are moved task by task are those of covariances that are moved class by class.
#[test]
fn linear_discriminant_of_tasks_that_were_left_as_they_were() {
    let (dim, budget) = (5, Budget::unlimited());
    let options = LdaOptions::default().with_ridge(Ridge::shrink(0.1)).with_prior(Prior::Counts);
    let task = |classes: std::ops::Range<u32>, each: usize, seed: u64| {
        let labels: Vec<u32> = classes.flat_map(|label| vec![label; each + label as usize]).collect();
        collect(dim, &normal(dim * labels.len(), seed), &labels, Storage::Smallest)
    };
    let map = |mode, seed| {
        let (before, after) = (normal(dim * 40, seed), normal(dim * 40, seed + 1));
        let mut source = MemorySource::new(dim, &before, Some(&after), None).unwrap();
        Linear::new(mode).fit_map(&mut source, &budget).unwrap()
    };
    for (modes, each) in [([Mode::Exact; 2], 9), ([Mode::Compat; 2], 2), ([Mode::Compat, Mode::Exact], 9)] {
        let tasks = [task(3..6, each, 1), task(0..2, each, 2), task(8..9, each, 3)];
        let maps = [map(modes[0], 4), map(modes[1], 6)];
        let first = maps[1].apply(&maps[0].apply(&tasks[0], &budget).unwrap(), &budget).unwrap();
        let second = maps[1].apply(&tasks[1], &budget).unwrap();
        let all = first.merge(&second, &budget).unwrap().merge(&tasks[2], &budget).unwrap();
        let moved = Lda::new(&all, options, &budget).unwrap();
        let composed = maps[0].then(&maps[1], &budget).unwrap();
        let parts = [(&tasks[0], Some(&composed)), (&tasks[1], Some(&maps[1])), (&tasks[2], None)];
        let lazy = Lda::of_tasks(&parts, options, &budget).unwrap();
        assert_eq!(lazy.labels(), moved.labels());
        let queries = normal(dim * 20, 8);
        let scores = [&lazy, &moved].map(|lda| matrix(lda, &queries));
        assert!(difference(&scores[0], &scores[1]) < 1e-9);
    }
    let twice = task(0..2, 5, 1);
    let error = Lda::of_tasks(&[(&twice, None), (&twice, None)], options, &budget);
    assert!(error.unwrap_err().to_string().contains("class 0"));
    assert!(Lda::of_tasks(&[], options, &budget).is_err());
}

#[test]
fn quadratic_discriminants() {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    for form in FORMS {
        let statistics = fixture.statistics(form);
        let ridge = QdaOptions::default().with_ridge(Ridge::identity(0.1)).with_uncertainty(false);
        let qda = Qda::new(&statistics, ridge, &budget).unwrap();
        assert!(difference(&scores(&qda, &fixture), &expected(&fixture, "/qda")) < 1e-10);
        let rgda = Qda::new(&statistics, QdaOptions::reference(), &budget).unwrap();
        assert!(difference(&scores(&rgda, &fixture), &expected(&fixture, "/rgda")) < 1e-10);
        let low = Qda::new(&statistics, QdaOptions::reference().with_rank(2), &budget).unwrap();
        assert!(difference(&scores(&low, &fixture), &expected(&fixture, "/rgda_rank_2")) < 1e-10);
    }
}

/// Woodbury's identity gives what the dense inverse gives, for every form and weight.
#[test]
fn storage_forms_score_alike() {
    let (dim, budget) = (30, Budget::unlimited());
    let labels: Vec<u32> = (0..60).map(|i| [0, 1, 1, 2, 5, 5][i % 6]).collect();
    let rows = normal(dim * labels.len(), 3);
    let queries = normal(dim * 300, 4);
    let factors = collect(dim, &rows, &labels, Storage::Smallest);
    assert!(factors.iter().any(|(_, class)| class.covariance().form() == "factor"));
    let packed = factors.store(Storage::Packed, Precision::F64, &budget).unwrap();
    let low = factors.store(Storage::LowRank(4), Precision::F64, &budget).unwrap();
    let low_packed = low.store(Storage::Packed, Precision::F64, &budget).unwrap();
    let mixed = Ridge::relative(0.1).with_covariance(0.7).with_identity(0.2);
    let options = QdaOptions::default().with_prior(Prior::Counts);
    for options in [
        options,
        QdaOptions::reference().with_prior(Prior::Counts),
        options.with_ridge(mixed).with_pooled(0.3),
        options.with_ridge(Ridge::relative(1e-9)),
        options.with_ridge(Ridge::relative(1e-9)).with_uncertainty(false),
        options.with_ridge(Ridge::shrink(0.1)).with_uncertainty(false),
    ] {
        for (a, b) in [(&factors, &packed), (&low, &low_packed)] {
            let score = |statistics| matrix(&Qda::new(statistics, options, &budget).unwrap(), &queries);
            let apart = difference(&score(a), &score(b));
            assert!(apart < 1e-7, "{options:?}: {apart:e}");
        }
    }
}

/// The budget decides how many classes are worked on at a time, not what comes out; threads neither.
#[test]
fn the_same_bits_whatever_budget_and_threads() {
    let dim = 40;
    let labels: Vec<u32> = (0..400).map(|i| i % 8).collect();
    let rows = normal(dim * labels.len(), 5);
    let queries = normal(dim * 1500, 6);
    let statistics = collect(dim, &rows, &labels, Storage::Smallest);
    let qda = Qda::new(&statistics, QdaOptions::default(), &Budget::unlimited()).unwrap();
    let run = |threads, limit| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let budget = Budget::new(limit);
        let predicted = pool.install(|| qda.predict(&queries, &budget)).unwrap();
        assert_eq!(budget.used(), 0);
        let scores = pool.install(|| qda.scores(&queries[..200 * dim], &Budget::unlimited())).unwrap();
        (predicted, scores)
    };
    let once = run(1, u64::MAX);
    assert_eq!(once, run(4, u64::MAX));
    assert_eq!(once, run(3, 3 << 20));
    let error = qda.predict(&queries, &Budget::new(1 << 16)).unwrap_err();
    assert!(matches!(error, CompensateError::Budget(_)), "{error}");
}

#[test]
fn singular_and_empty_are_refused() {
    let budget = Budget::unlimited();
    let statistics = collect(4, &normal(12, 1), &[0, 0, 0], Storage::Smallest);
    let none = Ridge::relative(0.0);
    let error = Lda::new(&statistics, LdaOptions::default().with_ridge(none), &budget).unwrap_err();
    assert!(error.to_string().contains("larger ridge"), "{error}");
    let qda = Qda::new(&statistics, QdaOptions::default().with_ridge(none), &budget).unwrap();
    let point = [0.0; 4];
    assert!(qda.scores(&point, &budget).is_err());
    let negative = LdaOptions::default().with_ridge(Ridge::relative(-1.0));
    assert!(Lda::new(&statistics, negative, &budget).is_err());
    let empty = ClassStatistics::new(4);
    assert!(Ncm::new(&empty, NcmOptions::default(), &budget).is_err());
    let ncm = Ncm::new(&statistics, NcmOptions::default().with_metric(Metric::Euclidean), &budget).unwrap();
    assert!(matches!(ncm.predict(&point[..2], &budget).unwrap_err(), CompensateError::Dimension { .. }));
    let nan = [f32::NAN; 4];
    assert!(ncm.predict(&nan, &budget).is_err());
}

#[test]
fn labels_are_those_of_the_classes() {
    let budget = Budget::unlimited();
    let mut statistics = ClassStatistics::new(1);
    for (label, mean) in [(7, -1.0), (900_000, 1.0)] {
        let covariance = Covariance::isotropic(1, 1.0);
        let class = ClassGaussian::new(5, DVector::from_element(1, mean), covariance, &budget).unwrap();
        statistics.insert(label, class).unwrap();
    }
    let ridge = QdaOptions::default().with_ridge(Ridge::identity(0.0));
    let qda = Qda::new(&statistics, ridge, &budget).unwrap();
    let points = [-3.0, 0.5, 2.0];
    assert_eq!(qda.predict(&points, &budget).unwrap(), [7, 900_000, 900_000]);
}

/// So a small budget, in which fewer features are scored at a time, changes no label.
#[test]
fn scores_do_not_depend_on_the_features_beside() {
    let (dim, budget) = (24, Budget::new(64 << 20));
    let labels: Vec<u32> = (0..300).map(|i| i % 7 + u32::from(i < 30)).collect();
    let statistics = collect(dim, &normal(300 * dim, 1), &labels, Storage::Smallest);
    let classifiers: [Box<dyn Classifier>; 4] = [
        Box::new(Ncm::new(&statistics, NcmOptions::default(), &budget).unwrap()),
        Box::new(Lda::new(&statistics, LdaOptions::default(), &budget).unwrap()),
        Box::new(Qda::new(&statistics, QdaOptions::default(), &budget).unwrap()),
        Box::new(Qda::new(&statistics, QdaOptions::reference().with_rank(5), &budget).unwrap()),
    ];
    let features = normal(1000 * dim, 2);
    for classifier in classifiers {
        let all = classifier.scores(&features, &budget).unwrap();
        let parts = features.chunks(32 * dim).flat_map(|part| classifier.scores(part, &budget).unwrap());
        assert!(parts.eq(all));
    }
}
