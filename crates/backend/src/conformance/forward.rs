//! `y = base·x + alpha·(residual·x)`.

use residua_format::{BaseKind, ValueType};

use super::base::{Base, Kind};
use super::compare::{compare, same_bits};
use super::data::Data;
use super::operand::{Operand, Storage};
use super::product::{BATCHES, batches};
use super::shapes::{Shape, all};
use super::{Case, Outcome};
use crate::{Backend, BackendError, VectorShape, reference};

/// A test multiplies at most this many weights, counted once per vector.
const MOST: usize = 1 << 20;

/// Shapes for bases of f32 and f16. Their kernels differ from bf16 only in how they decode a value, and on an emulated
/// device time counts.
const FEW: [&str; 6] = ["no-rows", "no-columns", "one-place", "odd-size", "full", "wide"];

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = Vec::new();
    for shape in all().into_iter().filter(|shape| shape.rows.len() * shape.cols <= MOST / 2) {
        for kind in Kind::ALL {
            let few = matches!(kind, Kind::Dense(ValueType::F32 | ValueType::F16));
            if few && !FEW.contains(&shape.name) {
                continue;
            }
            let (shape, name) = (shape.clone(), format!("forward::{}::{}", shape.name, kind.name()));
            cases.push(Case::new(name, move |backend| layers(backend, &shape, kind)));
        }
    }
    for kind in Kind::ALL {
        cases.push(Case::new(format!("forward::group-boundaries::{}", kind.name()), move |backend| {
            group_boundaries(backend, kind)
        }));
    }
    cases
}

fn layers<B: Backend>(backend: &B, shape: &Shape, kind: Kind) -> Outcome {
    let places = (shape.rows.len() * shape.cols).max(1);
    let batches: Vec<usize> = batches(shape).filter(|batch| places * batch <= MOST).collect();
    let value_type = match kind {
        Kind::Quantized(BaseKind::Int8) => ValueType::I8,
        Kind::Quantized(_) => ValueType::Bf16,
        Kind::Dense(value_type) => value_type,
    };
    for data in Data::ALL {
        layer(backend, shape, kind, Storage::Gap(value_type), data, &batches)?;
    }
    Ok(())
}

/// Rows that end just before, at and after a block or group of columns.
fn group_boundaries<B: Backend>(backend: &B, kind: Kind) -> Outcome {
    for cols in [1, 2, 15, 31, 32, 33, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 320, 513] {
        let rows = (0..7).map(|row| (0..cols as u32).filter(|column| column % 7 == row).collect()).collect();
        let shape = Shape { name: "group-boundaries", cols, rows, zeros: false };
        for (data, storage) in Data::ALL.into_iter().zip([Storage::Csr, Storage::Gap(ValueType::F32)]) {
            layer(backend, &shape, kind, storage, data, &BATCHES[..5])
                .map_err(|error| format!("{cols} columns: {error}"))?;
        }
    }
    Ok(())
}

fn layer<B: Backend>(
    backend: &B,
    shape: &Shape,
    kind: Kind,
    storage: Storage,
    data: Data,
    batches: &[usize],
) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let base = Base::new([shape.rows.len(), shape.cols], kind, data)?;
    let operand = Operand::new(shape, data, storage)?;
    let on_device = base.upload(backend).map_err(text)?;
    let residual = operand.upload(backend).map_err(text)?;
    let empty = Shape { name: "", cols: shape.cols, rows: vec![vec![]; shape.rows.len()], zeros: false };
    let nothing = Operand::new(&empty, data, storage)?.upload(backend).map_err(text)?;
    for &batch in batches {
        let x = data.vector(6, shape.cols * batch);
        let expected = [base.product(&x, batch), operand.product(&x, batch)];
        for alpha in [0.0, 0.5, 1.0] {
            let what = format!("{} base, batch {batch}, alpha {alpha}", kind.name());
            let found = forward(backend, &on_device, &residual, alpha, &x, batch).map_err(text)?;
            compare(&what, data, batch, &found, &reference::layer(&expected[0], alpha, &expected[1]))?;
            if alpha == 0.0 {
                let alone = forward(backend, &on_device, &nothing, alpha, &x, batch).map_err(text)?;
                same_bits(&format!("{what}, against the base alone"), &found, &alone)?;
            }
        }
    }
    Ok(())
}

/// `base·x + alpha·(residual·x)` into a `y` of NaN.
pub(super) fn forward<B: Backend>(
    backend: &B,
    base: &B::Base,
    residual: &B::Matrix,
    alpha: f32,
    x: &[f32],
    batch: usize,
) -> Result<Vec<f32>, BackendError> {
    use crate::Shaped;
    let [rows, cols] = base.shape();
    let x = backend.upload_vector(x, VectorShape { len: cols, batch })?;
    let mut y = backend.upload_vector(&vec![f32::NAN; rows * batch], VectorShape { len: rows, batch })?;
    backend.forward(base, residual, alpha, &x, &mut y)?;
    backend.download(&y)
}
