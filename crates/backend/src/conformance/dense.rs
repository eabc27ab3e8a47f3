//! Values that only a base of floats can hold.

use half::{bf16, f16};
use residua_format::{Csr, ValueType};

use super::base::{Base, dense};
use super::compare::compare;
use super::data::Data;
use super::forward::forward;
use super::{Case, Outcome};
use crate::{Backend, BackendError};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = Vec::new();
    for value_type in [ValueType::F16, ValueType::Bf16] {
        let name = format!("dense::every-value::{}", value_type.name());
        cases.push(Case::new(name, move |backend| every_value(backend, value_type)));
    }
    for value_type in [ValueType::F32, ValueType::F16, ValueType::Bf16] {
        let name = format!("dense::values-not-finite::{}", value_type.name());
        cases.push(Case::new(name, move |backend| values_not_finite(backend, value_type)));
    }
    cases
}

/// The base times the identity is the base: every finite value of 16 bits is decoded exactly.
fn every_value<B: Backend>(backend: &B, value_type: ValueType) -> Outcome {
    const COLS: usize = 32;
    let decode = |bits: u16| match value_type {
        ValueType::F16 => f16::from_bits(bits).to_f32(),
        _ => bf16::from_bits(bits).to_f32(),
    };
    // A device may flush subnormal f32 values to 0; those of f16 are normal in f32.
    let values: Vec<f32> =
        (0..=u16::MAX).map(|bits| if decode(bits).is_normal() { decode(bits) } else { 0.0 }).collect();
    let shape = [values.len() / COLS, COLS];
    let base = Base::Dense(dense(shape, value_type, &values)?);
    let identity: Vec<f32> = (0..COLS * COLS).map(|i| if i / COLS == i % COLS { 1.0 } else { 0.0 }).collect();
    agrees("times the identity", backend, &base, shape, &identity, COLS)?;
    // One vector runs other kernels than a batch.
    for column in [0, 17, COLS - 1] {
        let x = &identity[column * COLS..(column + 1) * COLS];
        agrees(&format!("column {column}"), backend, &base, shape, x, 1)?;
    }
    Ok(())
}

/// NaN and infinities of a base follow IEEE 754 and stay in their row.
fn values_not_finite<B: Backend>(backend: &B, value_type: ValueType) -> Outcome {
    for cols in [5, 67, 300] {
        let rows = 13;
        let mut values = Data::Exact.vector(15, rows * cols);
        for (row, column, value) in [
            (1, 0, f32::NAN),
            (3, cols - 1, f32::INFINITY),
            (6, cols / 2, f32::NEG_INFINITY),
            // Both infinities in one row add up to NaN where x has one sign.
            (8, 0, f32::INFINITY),
            (8, cols - 1, f32::NEG_INFINITY),
            (12, cols - 1, f32::NAN),
        ] {
            values[row * cols + column] = value;
        }
        let base = Base::Dense(dense([rows, cols], value_type, &values)?);
        for batch in [1, 2, 7, 8, 33] {
            // x has zeros: 0 times infinity is NaN.
            let x = Data::Exact.vector(16, cols * batch);
            agrees(&format!("{cols} columns, batch {batch}"), backend, &base, [rows, cols], &x, batch)?;
        }
    }
    Ok(())
}

/// Checks that `base·x` is exact, without a residual.
fn agrees<B: Backend>(
    what: &str,
    backend: &B,
    base: &Base,
    [rows, cols]: [usize; 2],
    x: &[f32],
    batch: usize,
) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let on_device = base.upload(backend).map_err(text)?;
    let nothing = backend.upload_csr(&Csr::empty(rows, cols)).map_err(text)?;
    let found = forward(backend, &on_device, &nothing, 1.0, x, batch).map_err(text)?;
    compare(what, Data::Exact, batch, &found, &base.product(x, batch))
}
