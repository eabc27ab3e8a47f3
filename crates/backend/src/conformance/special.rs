//! Infinities and NaN: where they must show and where they must not.

use residua_format::{BaseKind, Csr, ValueType};

use super::base::{Base, Kind};
use super::compare::{compare, same_bits};
use super::data::Data;
use super::forward::forward;
use super::operand::{Operand, Storage};
use super::product::{batches, product};
use super::shapes::{Shape, all};
use super::{Case, Outcome};
use crate::reference::layer;
use crate::{Backend, BackendError};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = vec![
        Case::new("special::alpha-0-reads-nothing", alpha_zero_reads_nothing),
        Case::new("special::values-not-finite", values_not_finite),
    ];
    for shape in all() {
        for storage in Storage::ALL {
            let (shape, name) =
                (shape.clone(), format!("special::x-not-finite::{}::{}", shape.name, storage.name()));
            cases.push(Case::new(name, move |backend| x_not_finite(backend, &shape, storage)));
        }
    }
    for kind in Kind::ALL {
        let name = format!("special::x-not-finite::forward::{}", kind.name());
        cases.push(Case::new(name, move |backend| x_not_finite_forward(backend, kind)));
    }
    cases
}

/// `x` is poisoned at every column where one row has no entry. That row must stay clean; the others follow IEEE 754.
fn x_not_finite<B: Backend>(backend: &B, shape: &Shape, storage: Storage) -> Outcome {
    let data = Data::Rough;
    let operand = Operand::new(shape, data, storage)?;
    let a = operand.upload(backend).map_err(|error| error.to_string())?;
    for batch in batches(shape).filter(|batch| [1, 7, 33].contains(batch)) {
        for clean in [0, shape.rows.len() / 2, shape.rows.len().saturating_sub(1)] {
            let mut x = data.vector(7, shape.cols * batch);
            let own = shape.rows.get(clean).map_or(&[][..], |row| row);
            poison(&mut x, batch, own, shape.zeros);
            let y = vec![f32::NAN; shape.rows.len() * batch];
            let what = format!("batch {batch}, x poisoned around row {clean}");
            let found = product(backend, 1.0, &a, &x, batch, 0.0, &y).map_err(|error| error.to_string())?;
            compare(&what, data, batch, &found, &operand.product(&x, batch))?;
        }
    }
    Ok(())
}

/// Poisons every column outside `own`, in every other vector of a batch. A test of stored zeros also poisons the columns
/// of zeros that a layout might take for fillers: 0 times infinity is NaN.
fn poison(x: &mut [f32], batch: usize, own: &[u32], zeros: bool) {
    let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    // 255 and 65,535 are the largest gaps of one and two bytes; the first divides the second.
    let like_filler = |i: usize| i % 2 == 1 && (own[i] - own[i - 1]).is_multiple_of(255);
    for (column, x) in x.chunks_exact_mut(batch).enumerate() {
        if own.binary_search(&(column as u32)).map_or(true, |i| zeros && like_filler(i)) {
            x.iter_mut().step_by(2).for_each(|x| *x = bad[column % 3]);
        }
    }
}

/// Every column of a base is an entry; its padding is not.
fn x_not_finite_forward<B: Backend>(backend: &B, kind: Kind) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let data = Data::Rough;
    for cols in [5, 67, 130] {
        let rows = vec![vec![], vec![0], vec![cols as u32 - 1]];
        let shape = Shape { name: "", cols, rows, zeros: false };
        let (operand, base) = (Operand::new(&shape, data, Storage::Csr)?, Base::new([3, cols], kind, data)?);
        let residual = operand.upload(backend).map_err(text)?;
        let on_device = base.upload(backend).map_err(text)?;
        for (batch, bad) in [(1, f32::INFINITY), (1, f32::NAN), (7, f32::NEG_INFINITY)] {
            let mut x = data.vector(8, cols * batch);
            x[batch * (cols / 2)] = bad;
            let found = forward(backend, &on_device, &residual, 1.0, &x, batch).map_err(text)?;
            let what = format!("{cols} columns, batch {batch}, {bad} in x");
            compare(
                &what,
                data,
                batch,
                &found,
                &layer(&base.product(&x, batch), 1.0, &operand.product(&x, batch)),
            )?;
        }
    }
    Ok(())
}

fn hostile() -> Result<Csr<f32, u32>, String> {
    let values = vec![f32::NAN, 1.0, f32::INFINITY, 2.0, f32::NEG_INFINITY, -0.0];
    Csr::new(4, 300, vec![0, 2, 3, 3, 6], vec![0, 299, 5, 7, 8, 9], values).map_err(|error| error.to_string())
}

/// Stored NaN and infinities follow IEEE 754.
fn values_not_finite<B: Backend>(backend: &B) -> Outcome {
    let operand = Operand::Csr(hostile()?);
    let a = operand.upload(backend).map_err(|error| error.to_string())?;
    for batch in [1, 7, 8, 33] {
        let x = Data::Exact.vector(9, 300 * batch);
        let y = vec![f32::NAN; 4 * batch];
        let found = product(backend, 1.0, &a, &x, batch, 0.0, &y).map_err(|error| error.to_string())?;
        let expected = operand.product(&x, batch);
        compare(&format!("batch {batch}"), Data::Exact, batch, &found, &expected)?;
    }
    Ok(())
}

/// With alpha = 0, NaN and infinities of the matrix and of `x` do not show.
fn alpha_zero_reads_nothing<B: Backend>(backend: &B) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let a = backend.upload_csr(&hostile()?).map_err(text)?;
    for batch in [1, 8, 33] {
        let (x, y) = (vec![f32::NAN; 300 * batch], Data::Rough.vector(10, 4 * batch));
        for (beta, expected) in [(1.0, y.clone()), (0.0, vec![0.0; 4 * batch])] {
            let found = product(backend, 0.0, &a, &x, batch, beta, &y).map_err(text)?;
            same_bits(&format!("batch {batch}, beta {beta}"), &found, &expected)?;
        }
        for kind in [Kind::Quantized(BaseKind::Int4), Kind::Dense(ValueType::Bf16)] {
            let base = Base::new([4, 300], kind, Data::Exact)?;
            let on_device = base.upload(backend).map_err(text)?;
            let x = Data::Exact.vector(11, 300 * batch);
            let found = forward(backend, &on_device, &a, 0.0, &x, batch).map_err(text)?;
            let what = format!("forward with {}, batch {batch}", kind.name());
            compare(&what, Data::Exact, batch, &found, &base.product(&x, batch))?;
        }
    }
    Ok(())
}
