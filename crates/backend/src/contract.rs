//! The trait.

use residua_format::{Coo, Csr, DenseMatrix, GapCsr, QuantizedBase};

use crate::layout::transpose;
use crate::shape::{check_read, check_single, check_upload};
use crate::{BackendError, Shaped, VectorShape};

/// A place that holds matrices and vectors and multiplies them.
///
/// A matrix has shape `[rows, cols]` = `[out_features, in_features]`. A vector operand is a batch of f32 vectors. It stays
/// on the device between an upload and a download, interleaved as [`VectorShape`] says. Programs hold their inputs one
/// after the other, row-major `[batch, len]`: [`upload_rows`](Self::upload_rows) and
/// [`download_rows`](Self::download_rows) convert.
///
/// ```
/// use residua_backend::{Backend, BackendError, VectorShape};
/// use residua_format::{Csr, DenseMatrix};
///
/// /// `rows` is row-major `[batch, in_features]`; so is the result, `[batch, out_features]`.
/// fn layer<B: Backend>(
///     backend: &B,
///     (base, residual): (&DenseMatrix, &Csr<f32, u32>),
///     rows: &[f32],
/// ) -> Result<Vec<f32>, BackendError> {
///     let (out_features, in_features) = (base.rows(), base.cols());
///     let batch = rows.len() / in_features;
///     let base = backend.upload_dense(base)?;
///     let residual = backend.upload_csr(residual)?;
///     let x = backend.upload_rows(rows, VectorShape { len: in_features, batch })?;
///     let mut y = backend.zeros(VectorShape { len: out_features, batch })?;
///     // alpha 1 is the whole model, 0 the base alone.
///     backend.forward(&base, &residual, 1.0, &x, &mut y)?;
///     backend.download_rows(&y)
/// }
/// ```
///
/// # What every backend computes
///
/// - Products and sums are f32; sums of a row may be wider. A row's length and magnitudes bound the distance from the
///   exact result, see [`reference`](mod@crate::reference).
/// - The same operands give the same bits, every time and for every number of threads.
/// - With `beta = 0`, `y` is not read: NaN in it vanishes. With `alpha = 0`, neither the matrix nor `x` is read.
/// - An entry counts as IEEE 754 says: a stored 0 times infinity is NaN. Every place of a base is an entry. A place
///   without an entry adds nothing: infinities or NaN of `x` at such places never show, whatever fillers or padding a
///   layout computes with.
///
/// # Errors
/// Every upload takes its bytes from the backend's budget; without room it fails with [`BackendError::Budget`].
/// Operands that do not fit together are refused with [`BackendError::Shape`] before anything is written.
pub trait Backend {
    /// A sparse matrix in this backend's layout.
    type Matrix: Shaped;
    /// A dense matrix of codes or floats in this backend's layout.
    type Base: Shaped;
    /// `[len, batch]` values in this backend's memory.
    type Vector: Shaped;

    /// The backend and its device, for people: `cpu avx2, 2 threads`.
    fn device(&self) -> String;

    /// Lays out a gap-encoded matrix; values keep their stored type.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload(&self, matrix: &GapCsr) -> Result<Self::Matrix, BackendError>;

    /// Lays out a CSR matrix; any value is allowed, NaN and infinities too.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<Self::Matrix, BackendError>;

    /// Lays out triplets. Values at one place are summed in their order.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<Self::Matrix, BackendError>;

    /// Lays out a quantised base.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_base(&self, base: &QuantizedBase) -> Result<Self::Base, BackendError>;

    /// Lays out a dense base of floats; values keep their stored type. Any value is allowed, NaN and infinities too.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_dense(&self, base: &DenseMatrix) -> Result<Self::Base, BackendError>;

    /// A vector operand from its interleaved values, see [`VectorShape`].
    ///
    /// # Errors
    /// See the [trait](Self#errors); [`BackendError::Shape`] when `values` does not hold `len·batch` values.
    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<Self::Vector, BackendError>;

    /// A vector operand of zeros.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn zeros(&self, shape: VectorShape) -> Result<Self::Vector, BackendError>;

    /// A vector operand from `batch` vectors one after the other: `rows` is row-major `[batch, len]`.
    ///
    /// # Errors
    /// The same as [`upload_vector`](Self::upload_vector).
    fn upload_rows(&self, rows: &[f32], shape: VectorShape) -> Result<Self::Vector, BackendError> {
        check_upload(rows.len(), shape)?;
        if shape.batch == 1 {
            self.upload_vector(rows, shape)
        } else {
            self.upload_vector(&transposed(rows, shape.batch), shape)
        }
    }

    /// Replaces the values of a vector by interleaved ones.
    ///
    /// # Errors
    /// The same as [`upload_vector`](Self::upload_vector).
    fn write(&self, values: &[f32], vector: &mut Self::Vector) -> Result<(), BackendError> {
        let [len, batch] = vector.shape();
        *vector = self.upload_vector(values, VectorShape { len, batch })?;
        Ok(())
    }

    /// Replaces the values of a vector by `batch` vectors one after the other: `rows` is row-major `[batch, len]`.
    ///
    /// # Errors
    /// The same as [`upload_vector`](Self::upload_vector).
    fn write_rows(&self, rows: &[f32], vector: &mut Self::Vector) -> Result<(), BackendError> {
        let [_, batch] = vector.shape();
        check_upload(rows.len(), vector.shape())?;
        if batch == 1 { self.write(rows, vector) } else { self.write(&transposed(rows, batch), vector) }
    }

    /// A vector's values, `len·batch` of them, interleaved. Waits for everything that writes the vector.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the device failed.
    fn download(&self, vector: &Self::Vector) -> Result<Vec<f32>, BackendError>;

    /// A vector's values as `batch` vectors one after the other: row-major `[batch, len]`.
    ///
    /// # Errors
    /// The same as [`download`](Self::download).
    fn download_rows(&self, vector: &Self::Vector) -> Result<Vec<f32>, BackendError> {
        let values = self.download(vector)?;
        let [len, batch] = vector.shape();
        Ok(if batch == 1 { values } else { transposed(&values, len) })
    }

    /// [`download_rows`](Self::download_rows) into memory of the caller: `out` becomes row-major `[batch, len]`.
    ///
    /// # Errors
    /// The same as [`download`](Self::download); [`BackendError::Shape`] when `out` does not hold `len·batch` values.
    fn read_rows(&self, vector: &Self::Vector, out: &mut [f32]) -> Result<(), BackendError> {
        let [len, _] = vector.shape();
        check_read(out.len(), vector.shape())?;
        transpose(&self.download(vector)?, len, out);
        Ok(())
    }

    /// Waits until everything asked for is done; a stopwatch needs that.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the device failed.
    fn synchronize(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// `y = alpha·A·x + beta·y` for `x` of shape `[cols, 1]` and `y` of shape `[rows, 1]`.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn spmv(
        &self,
        alpha: f32,
        a: &Self::Matrix,
        x: &Self::Vector,
        beta: f32,
        y: &mut Self::Vector,
    ) -> Result<(), BackendError> {
        check_single("spmv", x, y)?;
        self.spmm(alpha, a, x, beta, y)
    }

    /// `Y = alpha·A·X + beta·Y` for `X` of shape `[cols, batch]` and `Y` of shape `[rows, batch]`.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn spmm(
        &self,
        alpha: f32,
        a: &Self::Matrix,
        x: &Self::Vector,
        beta: f32,
        y: &mut Self::Vector,
    ) -> Result<(), BackendError>;

    /// The layer `Y = base·X + alpha·(residual·X)` for `X` of shape `[cols, batch]`, `Y` of `[rows, batch]`,
    /// in one pass over `Y`. With `alpha = 0` the residual is not read: the bits are those of the base alone.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn forward(
        &self,
        base: &Self::Base,
        residual: &Self::Matrix,
        alpha: f32,
        x: &Self::Vector,
        y: &mut Self::Vector,
    ) -> Result<(), BackendError>;
}

fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    transpose(values, rows, &mut out);
    out
}
