//! What several tests need.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

pub mod real;

use nalgebra::{DMatrix, DMatrixView, DVector};
use residua_compensate::*;
use residua_memory::Budget;
use serde_json::Value;

pub struct Fixture(Value);

impl Fixture {
    pub fn methods() -> Self {
        Self(serde_json::from_str(include_str!("../fixtures/methods.json")).unwrap())
    }

    pub fn nonlinear() -> Self {
        Self(serde_json::from_str(include_str!("../fixtures/nonlinear.json")).unwrap())
    }

    pub fn number(&self, name: &str) -> f64 {
        self.0.pointer(name).unwrap().as_f64().unwrap()
    }

    pub fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(self.0.pointer(name).unwrap())
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name).into_iter().map(|v| v as f32).collect()
    }

    /// Statistics of the fixture's samples.
    pub fn statistics(&self, storage: Storage) -> ClassStatistics {
        let labels: Vec<u32> = self.numbers("/labels").into_iter().map(|v| v as u32).collect();
        collect(self.number("/dim") as usize, &self.floats("/rows"), &labels, storage)
    }
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// Statistics of rows `[n, dim]`.
pub fn collect(dim: usize, rows: &[f32], labels: &[u32], storage: Storage) -> ClassStatistics {
    builder(dim, rows, labels, labels.len()).finish(storage, Precision::F64).unwrap()
}

/// A builder that has rows `[n, dim]`, added in batches of `batch`.
pub fn builder(dim: usize, rows: &[f32], labels: &[u32], batch: usize) -> StatisticsBuilder {
    let mut builder = StatisticsBuilder::new(dim, &Budget::unlimited());
    for (rows, labels) in rows.chunks(batch * dim).zip(labels.chunks(batch)) {
        builder.add(rows, labels).unwrap();
    }
    builder
}

/// Deterministic standard normal numbers.
pub fn normal(count: usize, seed: u64) -> Vec<f32> {
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};
    let rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    StandardNormal.sample_iter(rng).take(count).collect()
}

/// Largest difference over largest number.
pub fn difference(a: &DMatrix<f64>, b: &DMatrix<f64>) -> f64 {
    assert_eq!(a.shape(), b.shape());
    (a - b).amax() / b.amax().max(f64::MIN_POSITIVE)
}

/// Features before `[n, dim]`, and after by an affine map.
pub fn affine_drift(dim: usize, count: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let before = normal(dim * count, seed);
    let matrix = DMatrix::from_iterator(dim, dim, normal(dim * dim, seed + 1).into_iter().map(f64::from));
    let matrix = DMatrix::identity(dim, dim) + matrix * 0.1;
    let x = DMatrixView::from_slice(&before, dim, count).map(f64::from);
    let after = (matrix * x).add_scalar(0.3).map(|v| v as f32);
    (before, after.data.into())
}

/// Features before `[n, dim]`, and after by a function of a feature and the number of a coordinate.
pub fn drift_by(
    dim: usize,
    count: usize,
    seed: u64,
    moved: impl Fn(&[f32], usize) -> f32,
) -> (Vec<f32>, Vec<f32>) {
    let before = normal(dim * count, seed);
    let after = before.chunks(dim).flat_map(|x| (0..dim).map(|i| moved(x, i)).collect::<Vec<_>>());
    let after = after.collect();
    (before, after)
}

/// Fits a method on pairs `[n, dim]`.
pub fn fit(method: &dyn Method, dim: usize, before: &[f32], after: &[f32]) -> Box<dyn Compensator> {
    let mut source = MemorySource::pairs(dim, before, after).unwrap();
    method.fit(&mut source, &Budget::unlimited()).unwrap()
}

/// Means and covariances, to compare bits.
pub fn moments(statistics: &ClassStatistics) -> Vec<(DVector<f64>, Covariance)> {
    statistics.iter().map(|(_, class)| (class.mean().clone(), class.covariance().clone())).collect()
}

/// Whether every covariance is positive semi-definite up to rounding.
pub fn are_positive(statistics: &ClassStatistics) -> bool {
    statistics.iter().all(|(_, class)| {
        let dense = class.covariance().to_dense();
        dense.clone().symmetric_eigenvalues().min() >= -1e-10 * dense.amax()
    })
}

/// Class moments and features that a method moves are those of the fixture; tolerances of moments and of features.
pub fn assert_reference(method: &dyn Method, expected: &Fixture, name: &str, tolerance: [f64; 2]) {
    let (fixture, budget) = (Fixture::methods(), Budget::unlimited());
    let dim = fixture.number("/dim") as usize;
    let fitted = fit(method, dim, &fixture.floats("/before"), &fixture.floats("/after"));
    for form in [Storage::Smallest, Storage::Packed] {
        for (label, class) in fitted.apply(&fixture.statistics(form), &budget).unwrap().iter() {
            let mean = DMatrix::from_vec(dim, 1, expected.numbers(&format!("/{name}/means/{label}")));
            let ours = DMatrix::from_column_slice(dim, 1, class.mean().as_slice());
            assert!(difference(&ours, &mean) < tolerance[0]);
            let covariance = expected.numbers(&format!("/{name}/covariances/{label}"));
            let covariance = DMatrix::from_vec(dim, dim, covariance);
            assert!(difference(&class.covariance().to_dense(), &covariance) < tolerance[0]);
        }
    }
    let moved = fitted.apply_features(&fixture.floats("/queries"), &budget).unwrap();
    let count = moved.len() / dim;
    let moved = DMatrix::from_vec(dim, count, moved).map(f64::from);
    let features = DMatrix::from_vec(dim, count, expected.numbers(&format!("/{name}/features")));
    assert!(difference(&moved, &features) < tolerance[1]);
}

/// An array in numpy's format.
pub fn npy(path: &std::path::Path, dtype: &str, shape: &str, data: &[u8]) {
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    let header = format!("{text:<117}\n");
    let bytes =
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat();
    std::fs::write(path, bytes).unwrap();
}
