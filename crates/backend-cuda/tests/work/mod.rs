//! Work for a device, and its operands.

use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_cuda::CudaBackend;
use residua_format::convert::{csr_to_coo, csr_to_gap};
use residua_format::{BaseKind, Csr, DenseMatrix, DenseValues, QuantizedBase, ValueType};

/// Numbers that look random, from a linear congruence.
pub(crate) fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// Every `one_in`-th place on average.
pub(crate) fn matrix(rows: usize, cols: usize, one_in: usize) -> Csr<f32, u32> {
    let places = numbers(7, rows * cols);
    let (mut row_ptr, mut columns) = (vec![0], Vec::new());
    for row in places.chunks(cols) {
        let here = row.iter().enumerate().filter(|(_, place)| (**place + 1.0) * one_in as f32 <= 2.0);
        columns.extend(here.map(|(column, _)| column as u32));
        row_ptr.push(columns.len() as u32);
    }
    let values = numbers(8, columns.len());
    Csr::new(rows, cols, row_ptr, columns, values).unwrap()
}

pub(crate) fn base(rows: usize, cols: usize) -> QuantizedBase {
    let kind = BaseKind::Int4G32;
    let codes = (0..rows * kind.row_bytes(cols)).map(|i| (i * 37) as u8).collect();
    QuantizedBase::new(
        rows,
        cols,
        kind,
        codes,
        numbers(9, rows * kind.groups(cols)).iter().map(|s| s.abs()).collect(),
    )
    .unwrap()
}

pub(crate) fn dense(rows: usize, cols: usize) -> DenseMatrix {
    DenseMatrix::new(rows, cols, DenseValues::F32(numbers(10, rows * cols)[..].into())).unwrap()
}

/// Uploads of every kind, products, layers, a graph.
pub(crate) fn everything(cuda: &CudaBackend) -> Result<Vec<f32>, BackendError> {
    let csr = matrix(40, 96, 5);
    let gap = csr_to_gap(&csr, ValueType::I8)?;
    let (base, dense) = (cuda.upload_base(&base(40, 96))?, cuda.upload_dense(&dense(40, 96))?);
    let (a, b) = (cuda.upload(&gap)?, cuda.upload_csr(&csr)?);
    let (c, d) = (cuda.upload_coo(&csr_to_coo(&csr)?)?, cuda.upload_csr_unchanged(&csr)?);
    let x = cuda.upload_vector(&numbers(1, 96 * 3), VectorShape { len: 96, batch: 3 })?;
    let mut y = cuda.zeros(VectorShape { len: 40, batch: 3 })?;
    for matrix in [&a, &b, &c, &d] {
        cuda.spmm(0.5, matrix, &x, 1.0, &mut y)?;
        cuda.spmm(0.0, matrix, &x, 0.5, &mut y)?;
    }
    let mut z = cuda.zeros(VectorShape { len: 40, batch: 3 })?;
    let graph = cuda.record(|cuda| {
        cuda.forward(&base, &a, 1.0, &x, &mut z)?;
        cuda.forward(&base, &c, 0.5, &x, &mut z)
    })?;
    graph.replay()?;
    let mut results = cuda.download(&y)?;
    results.extend(cuda.download(&z)?);
    cuda.forward(&dense, &a, 0.5, &x, &mut z)?;
    cuda.forward(&dense, &c, 0.5, &x, &mut y)?;
    results.extend(cuda.download_rows(&y)?);
    results.extend(cuda.download_rows(&z)?);
    Ok(results)
}
