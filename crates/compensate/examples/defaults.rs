//! What the defaults of the compensators rest on: a sweep over synthetic drift, one setting at a time.
//!
//! ```sh
//! cargo run --release -p residua-compensate --example defaults
//! ```
//!
//! Ten old and ten new classes (d = 96, 150 samples each, spectrum 5/i), the new ones the pairs. Features drift by
//! `L·x`, `tanh(2·B·x)` and noise, mixed in three ways, by 28 % of their norm. For each setting the table has the error
//! of old classes' means in parts of their drift and of their covariances in parts of the true ones, both against
//! statistics of the same samples after the drift, and the accuracy in percent of a shared and a quadratic classifier over
//! all twenty classes, less what the true statistics give; means over drifts.

use nalgebra::DMatrix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use residua_compensate::classify::{Classifier, Lda, LdaOptions, Qda, QdaOptions, Ridge};
use residua_compensate::source::MemorySource;
use residua_compensate::*;
use residua_memory::Budget;

type Outcome<T = ()> = Result<T, CompensateError>;

const DIM: usize = 96;
const CLASSES: usize = 10;
const EACH: usize = 150;
const DRIFTS: u64 = 5;

/// How much of the drift is linear, bent and noise.
const MIXES: [(&str, [f32; 3]); 3] =
    [("linear and bent", [1.0, 1.0, 0.1]), ("bent", [0.2, 1.0, 0.1]), ("noisy", [1.0, 0.3, 1.0])];

struct World {
    rng: ChaCha8Rng,
    centres: DMatrix<f32>,
    linear: DMatrix<f32>,
    bend: DMatrix<f32>,
    mix: [f32; 3],
    gain: f32,
}

/// Features before and after `[DIM, n]`, and labels.
struct Samples {
    before: DMatrix<f32>,
    after: DMatrix<f32>,
    labels: Vec<u32>,
}

impl World {
    fn new(seed: u64, mix: [f32; 3]) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let unit = 1.0 / (DIM as f32).sqrt();
        let centres = normal(&mut rng, 2 * CLASSES) * 0.1;
        let (linear, bend) = (normal(&mut rng, DIM) * unit, normal(&mut rng, DIM) * unit);
        let mut new = Self { rng, centres, linear, bend, mix, gain: 1.0 };
        let sample = new.samples(0..2 * CLASSES, 50);
        new.gain = 0.28 * sample.before.norm() / (sample.after - &sample.before).norm();
        new
    }

    fn samples(&mut self, classes: std::ops::Range<usize>, each: usize) -> Samples {
        let labels: Vec<u32> = classes.flat_map(|class| std::iter::repeat_n(class as u32, each)).collect();
        let mut before = normal(&mut self.rng, labels.len());
        for (row, mut values) in before.row_iter_mut().enumerate() {
            values *= (5.0 / (row + 1) as f32).sqrt();
        }
        for (mut column, &label) in before.column_iter_mut().zip(&labels) {
            column += self.centres.column(label as usize);
        }
        let [linear, bend, noise] = self.mix;
        let mut drift =
            &self.linear * &before * linear + (&self.bend * &before).map(|v| (2.0 * v).tanh()) * bend;
        drift += normal(&mut self.rng, labels.len()) * noise;
        let after = &before + drift * self.gain;
        Samples { before, after, labels }
    }
}

fn normal(rng: &mut ChaCha8Rng, count: usize) -> DMatrix<f32> {
    DMatrix::from_fn(DIM, count, |_, _| StandardNormal.sample(rng))
}

fn collect(features: &DMatrix<f32>, labels: &[u32], budget: &Budget) -> Outcome<ClassStatistics> {
    let mut source = MemorySource::labelled(DIM, features.as_slice(), labels)?;
    ClassStatistics::collect(&mut source, &StatisticsOptions::default(), budget)
}

/// Errors of means and covariances, and accuracies beyond the true ones.
fn measure(method: &dyn Method, mix: [f32; 3], seed: u64, budget: &Budget) -> Outcome<[f64; 4]> {
    let mut world = World::new(seed, mix);
    let (old, new) = (world.samples(0..CLASSES, EACH), world.samples(CLASSES..2 * CLASSES, EACH));
    let test = world.samples(0..2 * CLASSES, 100);
    let stale = collect(&old.before, &old.labels, budget)?;
    let truth = collect(&old.after, &old.labels, budget)?;
    let current = collect(&new.after, &new.labels, budget)?;
    let mut pairs = MemorySource::pairs(DIM, new.before.as_slice(), new.after.as_slice())?;
    let moved = method.fit(&mut pairs, budget)?.apply(&stale, budget)?;

    let mut errors = [0.0; 2];
    for (((_, moved), (_, truth)), (_, stale)) in moved.iter().zip(truth.iter()).zip(stale.iter()) {
        let drift = (truth.mean() - stale.mean()).norm();
        errors[0] += (moved.mean() - truth.mean()).norm() / drift / CLASSES as f64;
        let (found, whole) = (moved.covariance().to_dense(), truth.covariance().to_dense());
        errors[1] += (found - &whole).norm() / whole.norm() / CLASSES as f64;
    }
    let accuracy = |old: &ClassStatistics| -> Outcome<[f64; 2]> {
        let all = old.merge(&current, budget)?;
        let classifiers: [Box<dyn Classifier>; 2] = [
            Box::new(Lda::new(&all, LdaOptions::default().with_ridge(Ridge::relative(1e-6)), budget)?),
            Box::new(Qda::new(&all, QdaOptions::default(), budget)?),
        ];
        let mut right = [0.0; 2];
        for (right, classifier) in right.iter_mut().zip(&classifiers) {
            let found = classifier.predict(test.after.as_slice(), budget)?;
            let hits = found.iter().zip(&test.labels).filter(|(found, label)| found == label).count();
            *right = 100.0 * hits as f64 / found.len() as f64;
        }
        Ok(right)
    };
    let (found, best) = (accuracy(&moved)?, accuracy(&truth)?);
    Ok([errors[0], errors[1], found[0] - best[0], found[1] - best[1]])
}

fn settings() -> Vec<(String, Box<dyn Method>)> {
    let mut all: Vec<(String, Box<dyn Method>)> = Vec::new();
    let mut add = |name: String, method: Box<dyn Method>| all.push((name, method));
    add("linear".into(), Box::<Linear>::default());
    for ridge in [1e-6, 1e-4, 1e-2, 1e-1] {
        add(format!("linear, ridge {ridge}"), Box::new(Linear::default().with_ridge(ridge)));
    }
    for noise in [0.0, 0.5] {
        add(format!("linear, noise {noise}"), Box::new(Linear::default().with_noise(noise)));
    }
    add("rff".into(), Box::<Rff>::default());
    for noise in [0.0, 0.5] {
        add(format!("rff, noise {noise}"), Box::new(Rff::default().with_noise(noise)));
    }
    for bandwidth in [0.5, 2.0] {
        add(format!("rff, bandwidth {bandwidth}"), Box::new(Rff::default().with_bandwidth(bandwidth)));
    }
    for features in [256, 2048] {
        add(format!("rff, features {features}"), Box::new(Rff::default().with_features(features)));
    }
    for ridge in [1e-3, 1e-1, 10.0] {
        add(format!("rff, ridge {ridge}"), Box::new(Rff::default().with_ridge(ridge)));
    }
    add("weak-nonlinear".into(), Box::<WeakNonlinear>::default());
    for noise in [0.0, 0.5] {
        let method = WeakNonlinear::default().with_noise(noise);
        add(format!("weak-nonlinear, noise {noise}"), Box::new(method));
    }
    for hidden in [256, 2048] {
        let method = WeakNonlinear::default().with_hidden(hidden);
        add(format!("weak-nonlinear, hidden {hidden}"), Box::new(method));
    }
    add("attention".into(), Box::<Attention>::default());
    for temperature in [0.02, 0.05] {
        let method = Attention::default().with_temperature(temperature);
        add(format!("attention, temperature {temperature}"), Box::new(method));
    }
    for mode in [Variant::Linear, Variant::Rff, Variant::WeakNonlinear, Variant::Attention] {
        let Some(method) = mode.method_in(Mode::Compat) else { continue };
        add(format!("{}, compat", method.name()), method);
    }
    all
}

fn main() -> Outcome {
    let budget = Budget::unlimited();
    print!("| setting |");
    MIXES.iter().for_each(|(name, _)| print!(" {name}: mean | covariance | LDA | QDA |"));
    println!("\n|---|{}", "---|".repeat(4 * MIXES.len()));
    for (name, method) in settings() {
        print!("| {name} |");
        for (_, mix) in MIXES {
            let mut sum = [0.0; 4];
            for seed in 0..DRIFTS {
                let found = measure(&*method, mix, seed, &budget)?;
                sum.iter_mut().zip(found).for_each(|(sum, found)| *sum += found / DRIFTS as f64);
            }
            print!(" {:.3} | {:.3} | {:+.1} | {:+.1} |", sum[0], sum[1], sum[2], sum[3]);
        }
        println!();
    }
    Ok(())
}
