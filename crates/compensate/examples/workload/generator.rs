//! The samples of the fixed workloads.

use nalgebra::DMatrix;
use rand::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// The feature dimension.
pub(crate) const DIM: usize = 768;
/// What samples lie around.
pub(crate) const CLUSTERS: usize = 20;

/// Samples around 20 clusters with a spectrum of 5/i, and their drift: linear, a bend, and noise, about 28 % of
/// the feature's norm.
pub(crate) struct Generator {
    rng: rand_chacha::ChaCha8Rng,
    centres: DMatrix<f32>,
    linear: DMatrix<f32>,
    bend: DMatrix<f32>,
    gain: f32,
}

impl Generator {
    pub(crate) fn new() -> Self {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(17);
        let mut matrix = |rows: usize, cols: usize, scale: f32| {
            DMatrix::from_iterator(rows, cols, normal(&mut rng, rows * cols)) * scale
        };
        let unit = 1.0 / (DIM as f32).sqrt();
        let centres = matrix(DIM, CLUSTERS, 0.3);
        let (linear, bend) = (matrix(DIM, DIM, unit), matrix(DIM, DIM, unit));
        let mut new = Self { rng, centres, linear, bend, gain: 1.0 };
        let (x, y) = new.samples(512, |i| i);
        new.gain = 0.28 * x.norm() / (y - x).norm();
        new
    }

    /// Features before and after of `count` samples, the clusters given.
    pub(crate) fn samples(
        &mut self,
        count: usize,
        cluster: impl Fn(usize) -> usize,
    ) -> (DMatrix<f32>, DMatrix<f32>) {
        let mut x = DMatrix::from_iterator(DIM, count, normal(&mut self.rng, DIM * count));
        for (row, mut values) in x.row_iter_mut().enumerate() {
            values *= (5.0 / (row + 1) as f32).sqrt();
        }
        for (i, mut column) in x.column_iter_mut().enumerate() {
            column += self.centres.column(cluster(i) % CLUSTERS);
        }
        let mut drift = &self.linear * &x + (&self.bend * &x).map(|v| (2.0 * v).tanh());
        drift += DMatrix::from_iterator(DIM, count, normal(&mut self.rng, DIM * count)) * 0.1;
        let y = &x + drift * self.gain;
        (x, y)
    }
}

fn normal(rng: &mut rand_chacha::ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| StandardNormal.sample(rng)).collect()
}
