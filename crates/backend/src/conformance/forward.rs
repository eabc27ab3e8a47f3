//! `y = base·x + alpha·(residual·x)`.

use residua_format::{BaseKind, QuantizedBase, ValueType};

use super::compare::{compare, same_bits};
use super::data::{Data, Random};
use super::operand::{Operand, Storage};
use super::product::{BATCHES, batches};
use super::shapes::{Shape, all};
use super::{Case, Outcome};
use crate::reference::{self, product};
use crate::{Backend, BackendError, VectorShape};

/// The most weights of a base times vectors that a test multiplies out.
const MOST: usize = 1 << 20;

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = Vec::new();
    for shape in all().into_iter().filter(|shape| shape.rows.len() * shape.cols <= MOST / 2) {
        for kind in BaseKind::ALL {
            let (shape, name) = (shape.clone(), format!("forward::{}::{kind}", shape.name));
            cases.push(Case::new(name, move |backend| layers(backend, &shape, kind)));
        }
    }
    for kind in BaseKind::ALL {
        cases.push(Case::new(format!("forward::group-boundaries::{kind}"), move |backend| {
            group_boundaries(backend, kind)
        }));
    }
    cases
}

/// A base of a kind. Scales of exact data are powers of two.
pub(super) fn base(rows: usize, cols: usize, kind: BaseKind, data: Data) -> Result<QuantizedBase, String> {
    let mut random = Random(4);
    let row_bytes = kind.row_bytes(cols);
    let mut codes: Vec<u8> = (0..rows * row_bytes).map(|_| random.next() as u8).collect();
    if kind != BaseKind::Int8 && cols % 2 == 1 {
        // The last high nibble of an odd row is 0.
        codes.iter_mut().skip(row_bytes - 1).step_by(row_bytes).for_each(|byte| *byte &= 0xF);
    }
    if data == Data::Exact {
        // Smaller INT8 codes, so that sums of long rows stay exact.
        let mask = if kind == BaseKind::Int8 { 0x1F } else { 0xFF };
        codes.iter_mut().for_each(|byte| *byte = (*byte & mask).wrapping_sub(mask & 0x10));
        if kind != BaseKind::Int8 && cols % 2 == 1 {
            codes.iter_mut().skip(row_bytes - 1).step_by(row_bytes).for_each(|byte| *byte &= 0xF);
        }
    }
    let scale = |random: &mut Random| match data {
        Data::Exact => [0.0, 1.0, 2.0, 0.5][random.below(4)],
        Data::Rough => data.number(random).abs(),
    };
    let scales: Vec<f32> = (0..rows * kind.groups(cols)).map(|_| scale(&mut random)).collect();
    QuantizedBase::new(rows, cols, kind, codes.into(), scales.into()).map_err(|error| error.to_string())
}

fn layers<B: Backend>(backend: &B, shape: &Shape, kind: BaseKind) -> Outcome {
    let places = (shape.rows.len() * shape.cols).max(1);
    let batches: Vec<usize> = batches(shape).filter(|batch| places * batch <= MOST).collect();
    let storage =
        if kind == BaseKind::Int8 { Storage::Gap(ValueType::I8) } else { Storage::Gap(ValueType::Bf16) };
    for data in Data::ALL {
        layer(backend, shape, kind, storage, data, &batches)?;
    }
    Ok(())
}

/// Rows that end just before, at and after a block or group of columns.
fn group_boundaries<B: Backend>(backend: &B, kind: BaseKind) -> Outcome {
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
    kind: BaseKind,
    storage: Storage,
    data: Data,
    batches: &[usize],
) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let base = base(shape.rows.len(), shape.cols, kind, data)?;
    let operand = Operand::new(shape, data, storage)?;
    let on_device = backend.upload_base(&base).map_err(text)?;
    let residual = operand.upload(backend).map_err(text)?;
    let empty = Shape { name: "", cols: shape.cols, rows: vec![vec![]; shape.rows.len()], zeros: false };
    let nothing = Operand::new(&empty, data, storage)?.upload(backend).map_err(text)?;
    for &batch in batches {
        let x = data.vector(6, shape.cols * batch);
        let expected = [product(&base, &x, batch), operand.product(&x, batch)];
        for alpha in [0.0, 0.5, 1.0] {
            let what = format!("{kind} base, batch {batch}, alpha {alpha}");
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
