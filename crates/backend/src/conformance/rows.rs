//! Vectors one after the other in and out, and vectors written again.

use residua_format::Csr;

use super::compare::same_bits;
use super::data::Data;
use super::refusal::expect_shapes;
use super::{Case, Outcome};
use crate::{Backend, BackendError, VectorShape};

pub(super) fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    vec![
        Case::new("rows::in-and-out", in_and_out),
        Case::new("rows::written-again", written_again),
        Case::new("rows::of-wrong-length", of_wrong_length),
    ]
}

/// `[len, batch]`.
const SHAPES: [[usize; 2]; 8] = [[0, 3], [1, 1], [1, 7], [300, 1], [5, 2], [64, 8], [67, 33], [129, 70]];

/// Values interleaved, and the same ones vector after vector.
fn both_ways(seed: u64, [len, batch]: [usize; 2]) -> [Vec<f32>; 2] {
    let values = Data::Rough.vector(seed, len * batch);
    let rows = (0..len * batch).map(|at| values[at % len * batch + at / len]).collect();
    [values, rows]
}

fn in_and_out<B: Backend>(backend: &B) -> Outcome {
    let text = |error: BackendError| error.to_string();
    for [len, batch] in SHAPES {
        let (shape, [values, rows]) = (VectorShape { len, batch }, both_ways(17, [len, batch]));
        let uploads = [
            ("upload_vector", backend.upload_vector(&values, shape)),
            ("upload_rows", backend.upload_rows(&rows, shape)),
        ];
        for (upload, vector) in uploads {
            let what = |download: &str| format!("{len} × {batch}, {upload}, {download}");
            let vector = vector.map_err(text)?;
            same_bits(&what("download"), &backend.download(&vector).map_err(text)?, &values)?;
            same_bits(&what("download_rows"), &backend.download_rows(&vector).map_err(text)?, &rows)?;
            let mut read = vec![f32::NAN; rows.len()];
            backend.read_rows(&vector, &mut read).map_err(text)?;
            same_bits(&what("read_rows"), &read, &rows)?;
        }
    }
    Ok(())
}

/// A vector that is written again equals a new one, in a product too.
fn written_again<B: Backend>(backend: &B) -> Outcome {
    let text = |error: BackendError| error.to_string();
    for [len, batch] in SHAPES {
        let (shape, [values, rows]) = (VectorShape { len, batch }, both_ways(18, [len, batch]));
        let old = || backend.upload_vector(&vec![f32::NAN; len * batch], shape).map_err(text);
        let (mut written, mut written_rows) = (old()?, old()?);
        backend.write(&values, &mut written).map_err(text)?;
        backend.write_rows(&rows, &mut written_rows).map_err(text)?;
        let new = backend.upload_vector(&values, shape).map_err(text)?;
        // Behind the last column a kernel may read padding: a write must keep it zero.
        let columns: Vec<u32> = (0..len as u32).step_by(3).collect();
        let a = Csr::new(1, len, vec![0, columns.len() as u32], columns.clone(), vec![0.5; columns.len()]);
        let a = backend.upload_csr(&a.map_err(|error| error.to_string())?).map_err(text)?;
        let product = |x: &B::Vector| {
            let mut y = backend.zeros(VectorShape { len: 1, batch })?;
            backend.spmm(1.0, &a, x, 0.0, &mut y)?;
            backend.download(&y)
        };
        let expected = product(&new).map_err(text)?;
        for (how, vector) in [("write", written), ("write_rows", written_rows)] {
            let what = format!("{len} × {batch}, {how}");
            same_bits(&what, &backend.download(&vector).map_err(text)?, &values)?;
            same_bits(&format!("{what}, product"), &product(&vector).map_err(text)?, &expected)?;
        }
    }
    Ok(())
}

fn of_wrong_length<B: Backend>(backend: &B) -> Outcome {
    let text = |error: BackendError| error.to_string();
    let shape = VectorShape { len: 4, batch: 3 };
    let mut vector = backend.upload_vector(&[7.0; 12], shape).map_err(text)?;
    for len in [0, 4, 11, 13] {
        let mut values = vec![1.0; len];
        let refused = [
            ("upload_rows", backend.upload_rows(&values, shape).map(drop)),
            ("write", backend.write(&values, &mut vector)),
            ("write_rows", backend.write_rows(&values, &mut vector)),
            ("read_rows", backend.read_rows(&vector, &mut values)),
        ];
        for (what, result) in refused {
            expect_shapes(what, result, [len, 1], [4, 3])?;
        }
        if values.iter().any(|&value| value != 1.0) {
            return Err(format!("read_rows wrote to a slice of {len} values"));
        }
        same_bits("after a refused write", &backend.download(&vector).map_err(text)?, &[7.0; 12])?;
    }
    Ok(())
}
