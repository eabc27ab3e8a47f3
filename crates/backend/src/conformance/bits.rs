//! Same input, same bits.

use residua_format::{BaseKind, ValueType};

use super::base::{Base, Kind};
use super::compare::same_bits;
use super::data::Data;
use super::forward::forward;
use super::operand::{Operand, Storage};
use super::product::{batches, product};
use super::shapes::{Shape, all};
use super::{Case, Outcome};
use crate::{Backend, BackendError};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    vec![Case::new("same-bits::repeated", |backend| agree(backend, backend))]
}

/// A matrix with enough work for several threads.
fn large() -> Shape {
    let mut random = super::data::Random(12);
    let rows = (0..600).map(|_| (0..5000).filter(|_| random.below(10) == 0).collect()).collect();
    Shape { name: "large", cols: 5000, rows, zeros: false }
}

/// Checks that two backends, or one asked twice, give the same bits for every shape.
pub(super) fn agree<B: Backend>(one: &B, other: &B) -> Outcome {
    let mut shapes = all();
    shapes.push(large());
    for shape in shapes {
        for (storage, value_type) in [
            (Storage::Gap(ValueType::Bf16), ValueType::Bf16),
            (Storage::Gap(ValueType::I8), ValueType::F16),
            (Storage::Csr, ValueType::F32),
        ] {
            let bases = [Kind::Quantized(BaseKind::Int4G64), Kind::Dense(value_type)];
            let operand = Operand::new(&shape, Data::Rough, storage)?;
            for batch in batches(&shape).filter(|batch| [1, 7, 33].contains(batch)) {
                let what = format!("{} {}, batch {batch}", shape.name, storage.name());
                let results = [one, other].map(|backend| results(backend, &shape, &operand, bases, batch));
                let [one, other] = results.map(|results| results.map_err(|error| format!("{what}: {error}")));
                same_bits(&what, &one?, &other?)?;
            }
        }
    }
    Ok(())
}

/// A product and, for shapes that are not too large, a layer on each base.
fn results<B: Backend>(
    backend: &B,
    shape: &Shape,
    operand: &Operand,
    bases: [Kind; 2],
    batch: usize,
) -> Result<Vec<f32>, String> {
    let text = |error: BackendError| error.to_string();
    let a = operand.upload(backend).map_err(text)?;
    let x = Data::Rough.vector(13, shape.cols * batch);
    let y = Data::Rough.vector(14, shape.rows.len() * batch);
    let mut found = product(backend, 0.7, &a, &x, batch, 0.3, &y).map_err(text)?;
    if shape.rows.len() * shape.cols <= 1 << 20 {
        for kind in bases {
            let base = Base::new([shape.rows.len(), shape.cols], kind, Data::Rough)?;
            let base = base.upload(backend).map_err(text)?;
            found.extend(forward(backend, &base, &a, 0.7, &x, batch).map_err(text)?);
        }
    }
    Ok(found)
}
