//! `y = alpha·A·x + beta·y`.

use super::compare::compare;
use super::data::Data;
use super::operand::{Operand, Storage};
use super::shapes::{Shape, all};
use super::{Case, Outcome};
use crate::reference::scaled;
use crate::{Backend, BackendError, VectorShape};

/// Batches that kernels cut into different tiles.
pub(super) const BATCHES: [usize; 6] = [1, 2, 7, 8, 33, 512];
/// A test has at most this many products and values of `x`: only the smaller shapes see 512 vectors.
const MOST: usize = 2 << 20;

/// `(alpha, beta)` pairs.
const SCALES: [(f32, f32); 6] = [(1.0, 0.0), (0.5, 0.5), (1.0, 1.0), (-1.0, 0.0), (0.0, 0.5), (0.0, 0.0)];

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = Vec::new();
    for shape in all() {
        for storage in Storage::ALL {
            let (shape, name) = (shape.clone(), format!("product::{}::{}", shape.name, storage.name()));
            cases.push(Case::new(name, move |backend| products(backend, &shape, storage)));
        }
    }
    cases
}

/// The batches for a shape.
pub(super) fn batches(shape: &Shape) -> impl Iterator<Item = usize> {
    let most = MOST / shape.cols.max(shape.nnz()).max(1);
    BATCHES.into_iter().filter(move |&batch| batch <= most)
}

fn products<B: Backend>(backend: &B, shape: &Shape, storage: Storage) -> Outcome {
    for data in Data::ALL {
        let operand = Operand::new(shape, data, storage)?;
        let a = operand.upload(backend).map_err(|error| error.to_string())?;
        for batch in batches(shape) {
            let x = data.vector(2, shape.cols * batch);
            let expected = operand.product(&x, batch);
            for (alpha, beta) in SCALES {
                let what = format!("batch {batch}, alpha {alpha}, beta {beta}");
                // With beta 0, y must not be read.
                let y = match beta {
                    0.0 => vec![f32::NAN; shape.rows.len() * batch],
                    _ => data.vector(3, shape.rows.len() * batch),
                };
                let found = product(backend, alpha, &a, &x, batch, beta, &y);
                let found = found.map_err(|error| format!("{what}: {error}"))?;
                compare(&what, data, batch, &found, &scaled(alpha, &expected, beta, &y))?;
            }
        }
    }
    Ok(())
}

/// `alpha·A·x + beta·y`, through `spmv` where the batch is 1.
pub(super) fn product<B: Backend>(
    backend: &B,
    alpha: f32,
    a: &B::Matrix,
    x: &[f32],
    batch: usize,
    beta: f32,
    y: &[f32],
) -> Result<Vec<f32>, BackendError> {
    let x = backend.upload_vector(x, VectorShape { len: x.len() / batch, batch })?;
    let mut y = backend.upload_vector(y, VectorShape { len: y.len() / batch, batch })?;
    match batch {
        1 => backend.spmv(alpha, a, &x, beta, &mut y)?,
        _ => backend.spmm(alpha, a, &x, beta, &mut y)?,
    }
    backend.download(&y)
}
