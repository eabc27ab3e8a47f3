//! The smallest of the fixed workloads, d = 768: every method on it, and what moments of attention are worth.
#![allow(clippy::unwrap_used)]

#[path = "../examples/workload/accuracy.rs"]
mod accuracy;
#[path = "../examples/workload/generator.rs"]
mod generator;

use std::sync::LazyLock;

use generator::{DIM, Generator};
use nalgebra::DMatrix;
use residua_compensate::statistics::{StatisticsReader, StatisticsWriter};
use residua_compensate::*;
use residua_memory::Budget;

/// Pairs, classes, samples a class: workload S.
const PAIRS: usize = 2048;
const CLASSES: usize = 20;
const EACH: usize = 50;
/// Classes that are moved here, for time's sake.
const MOVED: usize = 3;

static WORKLOAD: LazyLock<Workload> = LazyLock::new(Workload::new);

struct Workload {
    before: DMatrix<f32>,
    after: DMatrix<f32>,
    /// Samples of old classes, one class after the other.
    old: DMatrix<f32>,
    stale: ClassStatistics,
    /// From the same samples after the task.
    truth: ClassStatistics,
}

impl Workload {
    fn new() -> Self {
        let mut generator = Generator::new();
        let (before, after) = generator.samples(PAIRS, |i| i);
        let (old, old_after) = generator.samples(MOVED * EACH, |i| i / EACH * CLASSES / MOVED);
        let labels: Vec<u32> = (0..MOVED * EACH).map(|i| (i / EACH) as u32).collect();
        let collect = |features: &DMatrix<f32>| {
            let mut source = MemorySource::labelled(DIM, features.as_slice(), &labels).unwrap();
            ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &Budget::unlimited())
                .unwrap()
        };
        Self { stale: collect(&old), truth: collect(&old_after), before, after, old }
    }

    fn fit(&self, method: &dyn Method) -> Box<dyn Compensator> {
        let mut source = MemorySource::pairs(DIM, self.before.as_slice(), self.after.as_slice()).unwrap();
        method.fit(&mut source, &Budget::new(256 << 20)).unwrap()
    }
}

#[test]
fn every_method_follows_the_drift() {
    let (workload, budget) = (&*WORKLOAD, Budget::new(256 << 20));
    let attention = |mode| Attention::new(mode).with_temperature(0.05).with_nearest(400).with_points(800);
    let methods: [(Box<dyn Method>, f64); 6] = [
        (Box::new(Linear::new(Mode::Exact)), 0.1),
        (Box::new(Linear::new(Mode::Compat)), 0.3),
        (Box::new(Rff::new(Mode::Exact).with_features(256)), 0.1),
        (Box::new(WeakNonlinear::new(Mode::Exact).with_hidden(256)), 0.1),
        (Box::new(attention(Mode::Exact)), 0.2),
        (Box::new(attention(Mode::Compat)), 0.3),
    ];
    for (method, most) in methods {
        let fitted = workload.fit(&*method);
        let moved = fitted.apply(&workload.stale, &budget).unwrap();
        for ((label, moved), (_, truth)) in moved.iter().zip(workload.truth.iter()) {
            let stale = workload.stale.get(label).unwrap();
            assert_eq!(moved.count(), EACH as u64);
            let distance = |class: &ClassGaussian| (class.mean() - truth.mean()).norm();
            let left = distance(moved) / distance(stale);
            println!("{} {label}: {left:.3} of the drift left", method.name());
            assert!(left < most, "{} {label}: {left} of the drift left", method.name());
            // A variance in every direction that the class had one in, and none that is negative.
            let (trace, expected) = (moved.covariance().trace(), truth.covariance().trace());
            assert!((0.5..2.0).contains(&(trace / expected)), "{}: {trace}, {expected}", method.name());
        }
        if method.name() == "linear" {
            // 50 samples stay a factor of 50 columns.
            assert!(moved.iter().all(|(_, class)| class.covariance().rank() == Some(EACH)));
        }
    }
}

#[test]
fn cubature_is_as_good_as_very_many_points() {
    let (workload, budget) = (&*WORKLOAD, Budget::unlimited());
    let attention = Attention::default().with_temperature(0.05).with_nearest(400);
    let precise = attention.clone().with_precision(Precision::F32);
    let (exact, precise) = (workload.fit(&attention), workload.fit(&precise));
    let samples = workload.old.columns(0, EACH).map(f64::from);
    let errors = accuracy::of_class(&*exact, &*precise, &samples, 4096, 800, &budget).unwrap();
    println!("{errors:?}");
    assert!(errors.exact.iter().all(|error| *error <= 0.02), "{errors:?}");
    assert!(errors.exact.iter().zip(&errors.draws).all(|(exact, draws)| 3.0 * exact < *draws), "{errors:?}");
}

#[test]
fn from_file_to_file_is_the_same_and_a_file_that_is_not_finished_is_not_there() {
    let (workload, budget) = (&*WORKLOAD, Budget::unlimited());
    let fitted = workload.fit(&Linear::default());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    workload.stale.save(path("stale"), &budget).unwrap();
    let moved = fitted.apply(&workload.stale, &budget).unwrap();
    moved.save(path("moved"), &budget).unwrap();
    let stale = StatisticsReader::open(path("stale"), &budget).unwrap();
    assert_eq!((stale.dim(), stale.len(), stale.is_empty()), (DIM, MOVED, false));
    for finish in [false, true] {
        let mut file = StatisticsWriter::create(path("again"), DIM, MOVED, &budget).unwrap();
        file = file.with_tag(moved.tag().clone());
        let mut add = |label, old: &ClassGaussian, new: &ClassGaussian| {
            assert_eq!(old.mean(), workload.stale.get(label).unwrap().mean());
            file.add(label, new)
        };
        // Room for one class at a time.
        fitted.apply_each(&stale, &Budget::new(24 << 20), &mut add).unwrap();
        assert!(!path("again").exists());
        if finish {
            file.finish().unwrap();
        } else {
            drop(file);
        }
    }
    assert_eq!(std::fs::read(path("again")).unwrap(), std::fs::read(path("moved")).unwrap());
    let mut labels = Vec::new();
    let bytes = fitted.apply_file(path("stale"), path("once"), &budget, |label, _, _| {
        labels.push(label);
        Ok(())
    });
    assert_eq!(std::fs::read(path("once")).unwrap(), std::fs::read(path("moved")).unwrap());
    let onto_itself = fitted.apply_file(path("stale"), path("stale"), &budget, |_, _, _| Ok(()));
    assert_eq!(onto_itself.unwrap_err().kind(), residua_memory::ErrorKind::Usage);
    assert_eq!((bytes.unwrap().file_bytes, labels), (path("once").metadata().unwrap().len(), vec![0, 1, 2]));
    let other = Linear::default().fit(&mut MemorySource::pairs(2, &[1.0; 4], &[1.0; 4]).unwrap(), &budget);
    assert!(other.unwrap().apply_each(&stale, &budget, &mut |_, _, _| Ok(())).is_err());
    assert!(stale.class(99, &budget).unwrap().is_none());
}
