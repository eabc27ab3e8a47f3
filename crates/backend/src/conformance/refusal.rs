//! Operands that do not fit are refused: the error says why, and nothing is written.

use residua_format::{BaseKind, Csr, ValueType};
use residua_memory::Budget;

use super::base::{Base, Kind};
use super::data::Data;
use super::{Case, Outcome};
use crate::{Backend, BackendError, VectorShape};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    vec![
        Case::new("refusal::shapes", shapes),
        Case::new("refusal::upload-of-wrong-length", upload_of_wrong_length),
        Case::new("refusal::vector-too-large-to-count", too_large),
    ]
}

pub(super) fn expect_shapes(
    what: &str,
    result: Result<(), BackendError>,
    one: [usize; 2],
    other: [usize; 2],
) -> Outcome {
    match result {
        Err(error @ BackendError::Shape { left, right, .. }) if [left, right] == [one, other] => {
            let text = error.to_string();
            let named = [one, other].iter().all(|shape| text.contains(&format!("{shape:?}")));
            if named { Ok(()) } else { Err(format!("{what}: {text:?} does not name both shapes")) }
        }
        other => Err(format!("{what}: {other:?}")),
    }
}

fn shapes<B: Backend>(backend: &B) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let a = backend.upload_csr(&Csr::empty(3, 5)).map_err(text)?;
    let other = backend.upload_csr(&Csr::empty(3, 6)).map_err(text)?;
    let base = |kind| Base::new([3, 5], kind, Data::Exact)?.upload(backend).map_err(text);
    let bases = [base(Kind::Quantized(BaseKind::Int4))?, base(Kind::Dense(ValueType::Bf16))?];
    let vector = |[len, batch]: [usize; 2]| {
        backend.upload_vector(&vec![7.0; len * batch], VectorShape { len, batch }).map_err(text)
    };
    // x, y, and the two shapes that the error names.
    let table = [
        ([6, 1], [3, 1], [3, 5], [6, 1]),
        ([5, 1], [4, 1], [3, 5], [4, 1]),
        ([5, 2], [3, 3], [5, 2], [3, 3]),
    ];
    for (x, y, one, another) in table {
        let what = format!("x {x:?}, y {y:?}");
        let (x, mut y) = (vector(x)?, vector(y)?);
        expect_shapes(&what, backend.spmm(1.0, &a, &x, 0.0, &mut y), one, another)?;
        for base in &bases {
            expect_shapes(&what, backend.forward(base, &a, 1.0, &x, &mut y), one, another)?;
        }
        if backend.download(&y).map_err(text)?.iter().any(|&y| y != 7.0) {
            return Err(format!("{what}: y was written"));
        }
    }
    let (x, mut y) = (vector([5, 2])?, vector([3, 2])?);
    expect_shapes("spmv of a batch", backend.spmv(1.0, &a, &x, 0.0, &mut y), [5, 2], [3, 2])?;
    for base in &bases {
        let result = backend.forward(base, &other, 1.0, &x, &mut y);
        expect_shapes("base and residual", result, [3, 5], [3, 6])?;
    }
    Ok(())
}

fn upload_of_wrong_length<B: Backend>(backend: &B) -> Outcome {
    for len in [0, 11, 13] {
        let result = backend.upload_vector(&vec![1.0; len], VectorShape { len: 4, batch: 3 }).map(drop);
        expect_shapes("upload", result, [len, 1], [4, 3])?;
    }
    Ok(())
}

fn too_large<B: Backend>(backend: &B) -> Outcome {
    for (len, batch) in [(usize::MAX, 2), (usize::MAX / 2, 2), (1 << 40, 1 << 22)] {
        let shape = VectorShape { len, batch };
        match backend.zeros(shape) {
            Err(BackendError::TooLarge { .. } | BackendError::Budget(_)) => {}
            other => return Err(format!("{shape:?}: {:?}", other.map(drop))),
        }
    }
    Ok(())
}

/// Every upload takes from the budget, refuses with a budget error, and gives back what it took.
pub(super) fn budget<B: Backend>(make: &dyn Fn(Budget) -> Result<B, BackendError>) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let columns: Vec<u32> = (0..1000).collect();
    let csr =
        Csr::new(1, 1000, vec![0, 1000], columns, vec![1.0; 1000]).map_err(|error| error.to_string())?;
    let base = |kind| Base::new([10, 1000], kind, Data::Exact);
    let (codes, floats) = (base(Kind::Quantized(BaseKind::Int8))?, base(Kind::Dense(ValueType::Bf16))?);
    for limit in [500, 1 << 20] {
        let budget = Budget::new(limit);
        let before = budget.used();
        {
            let backend = make(budget.clone()).map_err(text)?;
            let all = [
                ("CSR", backend.upload_csr(&csr).map(drop)),
                ("quantised base", codes.upload(&backend).map(drop)),
                ("dense base", floats.upload(&backend).map(drop)),
                (
                    "vector",
                    backend.upload_vector(&[1.0; 1000], VectorShape { len: 1000, batch: 1 }).map(drop),
                ),
            ];
            for (what, result) in all {
                let fits = limit > 500;
                match result {
                    Ok(()) if fits => {}
                    Err(BackendError::Budget(_)) if !fits => {}
                    other => return Err(format!("{what} with {limit} bytes: {other:?}")),
                }
            }
            if limit > 500 && budget.peak() < before + 4000 {
                return Err(format!("at most {} bytes were reserved", budget.peak()));
            }
            // A dense base is the largest operand: its bytes stay reserved for as long as it lives.
            if limit > 500 {
                let used = budget.used();
                let _held = floats.upload(&backend).map_err(text)?;
                if budget.used() < used + 20_000 {
                    return Err(format!("{} bytes for a dense base of 20,000", budget.used() - used));
                }
            }
        }
        if budget.used() != before {
            return Err(format!("{} bytes were not given back", budget.used() - before));
        }
    }
    Ok(())
}
