//! What several tests need.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use nalgebra::{DMatrix, DMatrixView};
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
        self.0.pointer(name).unwrap().as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    pub fn floats(&self, name: &str) -> Vec<f32> {
        self.numbers(name).into_iter().map(|v| v as f32).collect()
    }

    pub fn statistics(&self, storage: Storage) -> ClassStatistics {
        let labels: Vec<u32> = self.numbers("/labels").into_iter().map(|v| v as u32).collect();
        collect(self.number("/dim") as usize, &self.floats("/rows"), &labels, storage)
    }
}

pub fn collect(dim: usize, rows: &[f32], labels: &[u32], storage: Storage) -> ClassStatistics {
    let mut builder = StatisticsBuilder::new(dim, &Budget::unlimited());
    builder.add(DMatrixView::from_slice(rows, dim, labels.len()), labels).unwrap();
    builder.finish(storage, Precision::F64).unwrap()
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
