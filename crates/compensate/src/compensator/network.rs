//! A residual network of one hidden layer, and its gradients.

use nalgebra::{DMatrix, DMatrixView};
use rayon::prelude::*;
use residua_format::vectorised;

use crate::algebra;

/// `f(x) = w₀·A·x + w₁·B₂·relu(B₁·x)` with `w = softmax(a/e^s)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Network {
    /// A `[d, d]`.
    pub(super) linear: DMatrix<f32>,
    /// B₁ `[h, d]`.
    pub(super) inner: DMatrix<f32>,
    /// B₂ `[d, h]`.
    pub(super) outer: DMatrix<f32>,
    /// a and s.
    pub(super) gates: [f32; 3],
}

impl Network {
    /// Number of weights.
    pub(super) fn len(dim: usize, hidden: usize) -> usize {
        dim * (dim + 2 * hidden) + 3
    }

    /// All numbers 0: the start of gradients and moments.
    pub(super) fn zeros(dim: usize, hidden: usize) -> Self {
        Self {
            linear: DMatrix::zeros(dim, dim),
            inner: DMatrix::zeros(hidden, dim),
            outer: DMatrix::zeros(dim, hidden),
            gates: [0.0; 3],
        }
    }

    /// The numbers, part by part.
    pub(super) fn parts(&self) -> [&[f32]; 4] {
        [self.linear.as_slice(), self.inner.as_slice(), self.outer.as_slice(), &self.gates]
    }

    pub(super) fn parts_mut(&mut self) -> [&mut [f32]; 4] {
        [self.linear.as_mut_slice(), self.inner.as_mut_slice(), self.outer.as_mut_slice(), &mut self.gates]
    }

    /// `softmax(a/e^s)`.
    pub(super) fn weights(&self) -> [f32; 2] {
        let scale = (-self.gates[2]).exp();
        softmax(self.gates[0] * scale, self.gates[1] * scale)
    }

    /// `f(x)` of `x [d, n]`.
    pub(super) fn forward(&self, x: DMatrixView<'_, f32>) -> DMatrix<f32> {
        let [w0, w1] = self.weights();
        let x = x.into_owned();
        let hidden = algebra::product(algebra::n(&self.inner), algebra::n(&x)).map(|z| z.max(0.0));
        let mut out = DMatrix::zeros(x.nrows(), x.ncols());
        algebra::add_product(&mut out, w0, algebra::n(&self.linear), algebra::n(&x));
        algebra::add_product(&mut out, w1, algebra::n(&self.outer), algebra::n(&hidden));
        out
    }

    /// The gradient of `scale·Σ|f(x) − y|²` over the samples of `piece`: written to `gradient`, or added to it if `add`.
    /// The next piece overwrites the layers.
    pub(super) fn gradient(&self, piece: &mut Piece, scale: f32, add: bool, gradient: &mut Self) {
        let [w0, w1] = self.weights();
        let Piece { x, y, hidden, straight, bent, error, back } = piece;
        let accumulate = if add { algebra::add_product } else { algebra::set_product };
        algebra::set_product(hidden, 1.0, algebra::n(&self.inner), algebra::n(x));
        hidden.apply(|z| *z = z.max(0.0));
        algebra::set_product(straight, 1.0, algebra::n(&self.linear), algebra::n(x));
        algebra::set_product(bent, 1.0, algebra::n(&self.outer), algebra::n(hidden));
        // ∂loss/∂f.
        for (((error, straight), bent), y) in
            error.iter_mut().zip(straight.iter()).zip(bent.iter()).zip(y.iter())
        {
            *error = (straight * w0 + bent * w1 - y) * (2.0 * scale);
        }

        accumulate(&mut gradient.linear, w0, algebra::n(error), algebra::t(x));
        accumulate(&mut gradient.outer, w1, algebra::n(error), algebra::t(hidden));
        algebra::set_product(back, 1.0, algebra::t(&self.outer), algebra::n(error));
        back.zip_apply(hidden, |back, hidden| *back = if hidden > 0.0 { w1 * *back } else { 0.0 });
        accumulate(&mut gradient.inner, 1.0, algebra::n(back), algebra::t(x));
        if !add {
            gradient.gates = [0.0; 3];
        }
        self.add_gate_gradient([error.dot(straight), error.dot(bent)], &mut gradient.gates);
    }

    /// Through the softmax of the scaled gates.
    fn add_gate_gradient(&self, by_weight: [f32; 2], gradient: &mut [f32; 3]) {
        let (weights, scale) = (self.weights(), (-self.gates[2]).exp());
        let mean = weights[0] * by_weight[0] + weights[1] * by_weight[1];
        for i in 0..2 {
            let by_logit = weights[i] * (by_weight[i] - mean);
            gradient[i] += by_logit * scale;
            // logit = a·e^(−s).
            gradient[2] -= by_logit * self.gates[i] * scale;
        }
    }

    /// Adds the gradient of `½(w₀ − 1)²`, whose w is `softmax(a)`.
    pub(super) fn add_pull(&self, gradient: &mut Self) {
        let [w0, w1] = softmax(self.gates[0], self.gates[1]);
        let by_logit = (w0 - 1.0) * w0 * w1;
        gradient.gates[0] += by_logit;
        gradient.gates[1] -= by_logit;
    }
}

/// Samples `x`, `y [d, n]` and the layers that a gradient needs. The next samples use the same memory.
pub(super) struct Piece {
    pub(super) x: DMatrix<f32>,
    pub(super) y: DMatrix<f32>,
    hidden: DMatrix<f32>,
    straight: DMatrix<f32>,
    bent: DMatrix<f32>,
    error: DMatrix<f32>,
    back: DMatrix<f32>,
}

impl Piece {
    pub(super) fn new(dim: usize, hidden: usize, samples: usize) -> Self {
        let features = || DMatrix::zeros(dim, samples);
        let units = || DMatrix::zeros(hidden, samples);
        Self {
            x: features(),
            y: features(),
            hidden: units(),
            straight: features(),
            bent: features(),
            error: features(),
            back: units(),
        }
    }
}

fn softmax(a: f32, b: f32) -> [f32; 2] {
    let first = 1.0 / (1.0 + (b - a).exp());
    [first, 1.0 - first]
}

/// AdamW (Loshchilov, Hutter 2019) with a learning rate that falls along a cosine.
pub(super) struct AdamW {
    first: Network,
    second: Network,
    step: u32,
}

impl AdamW {
    const BETA: (f64, f64) = (0.9, 0.999);
    const EPSILON: f64 = 1e-8;

    pub(super) fn new(dim: usize, hidden: usize) -> Self {
        Self { first: Network::zeros(dim, hidden), second: Network::zeros(dim, hidden), step: 0 }
    }

    /// One step.
    pub(super) fn step(&mut self, network: &mut Network, gradient: &Network, rate: f64, decay: f64) {
        const PIECE: usize = 1 << 14;
        self.step += 1;
        let correct = |beta: f64| 1.0 - beta.powi(self.step.try_into().unwrap_or(i32::MAX));
        let (size, root) = (rate / correct(Self::BETA.0), correct(Self::BETA.1).sqrt());
        // size·m / (√v/root + ε), with root taken out of the loop.
        let update = Update {
            first: (1.0 - Self::BETA.0) as f32,
            second: (1.0 - Self::BETA.1) as f32,
            keep: (1.0 - rate * decay) as f32,
            size: (size * root) as f32,
            epsilon: (Self::EPSILON * root) as f32,
        };
        let parts = network.parts_mut().into_iter().zip(gradient.parts());
        let moments = self.first.parts_mut().into_iter().zip(self.second.parts_mut());
        for ((weights, gradient), (first, second)) in parts.zip(moments) {
            let pieces = weights.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
            let moments = first.par_chunks_mut(PIECE).zip(second.par_chunks_mut(PIECE));
            pieces.zip(moments).for_each(|((weights, gradient), (first, second))| {
                move_weights(weights, gradient, first, second, update);
            });
        }
    }
}

/// The numbers of a step.
#[derive(Clone, Copy)]
struct Update {
    /// How far moments move towards the new ones.
    first: f32,
    second: f32,
    keep: f32,
    size: f32,
    epsilon: f32,
}

vectorised! {
    /// One step for weights side by side.
    fn move_weights(
        weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32], update: Update,
    ) {
        for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
            *m += update.first * (*g - *m);
            *v += update.second * (*g * *g - *v);
            *w = *w * update.keep - update.size * *m / (v.sqrt() + update.epsilon);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from −0.5 to 0.5.
    fn random(rows: usize, cols: usize, seed: u64) -> DMatrix<f32> {
        let mut state = seed;
        DMatrix::from_fn(rows, cols, |_, _| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        })
    }

    fn loss(network: &Network, x: &DMatrix<f32>, y: &DMatrix<f32>) -> f64 {
        let [w0, _] = softmax(network.gates[0], network.gates[1]);
        let squares: f64 = (network.forward(x.as_view()) - y).iter().map(|v| f64::from(*v).powi(2)).sum();
        squares / y.len() as f64 + 0.5 * f64::from(w0 - 1.0).powi(2)
    }

    #[test]
    fn gradients_are_differences_of_the_loss() {
        let (dim, hidden, n) = (4, 5, 7);
        let mut network = Network {
            linear: random(dim, dim, 1),
            inner: random(hidden, dim, 2),
            outer: random(dim, hidden, 3),
            gates: [0.7, 0.2, 0.3],
        };
        let (x, y) = (random(dim, n, 4) * 3.0, random(dim, n, 5));
        let mut gradient = Network::zeros(dim, hidden);
        // In two pieces.
        let scale = 1.0 / y.len() as f32;
        for (first, count) in [(0, 3), (3, 4)] {
            let mut piece = Piece::new(dim, hidden, count);
            piece.x.copy_from(&x.columns(first, count));
            piece.y.copy_from(&y.columns(first, count));
            network.gradient(&mut piece, scale, first > 0, &mut gradient);
        }
        network.add_pull(&mut gradient);
        let step = 1e-2;
        for part in 0..4 {
            for i in 0..network.parts()[part].len() {
                let start = network.parts()[part][i];
                network.parts_mut()[part][i] = start + step;
                let above = loss(&network, &x, &y);
                network.parts_mut()[part][i] = start - step;
                let below = loss(&network, &x, &y);
                network.parts_mut()[part][i] = start;
                let slope = (above - below) / f64::from(2.0 * step);
                let found = f64::from(gradient.parts()[part][i]);
                assert!((slope - found).abs() < 2e-3, "part {part}, number {i}: {found}, expected {slope}");
            }
        }
    }
}
