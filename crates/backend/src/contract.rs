//! The trait.

use residua_format::{Coo, Csr, DenseMatrix, GapCsr, QuantizedBase};

use crate::layout::transpose;
use crate::shape::{check_single, check_upload};
use crate::{BackendError, Shaped, VectorShape};

/// A place that holds sparse matrices and multiplies them.
///
/// A vector operand is a batch of f32 vectors, interleaved as [`VectorShape`] says. It stays where the backend computes from [`upload_vector`](Self::upload_vector) to
/// [`download`](Self::download). A matrix has shape `[rows, cols]` = `[out_features, in_features]`.
///
/// # What every backend computes
///
/// - Products and sums are f32 (sums of a row may be wider); how far a result may lie from the exact one
///   follows from the row's length and magnitudes, see [`reference`](mod@crate::reference).
/// - The same operands give the same bits, every time and whatever the number of threads.
/// - With `beta = 0`, `y` is not read: NaN in it vanishes. With `alpha = 0`, neither matrix nor `x` is.
/// - An entry counts as IEEE says: a stored 0 times infinity is NaN. A place without an entry counts for
///   nothing: infinities or NaN of `x` that meet only such places never show, whatever fillers or padding a
///   layout computes with.
///
/// # Errors
/// Every upload takes its bytes from the backend's budget ([`BackendError::Budget`]); operands that do not
/// fit together are refused with [`BackendError::Shape`] before anything is written.
pub trait Backend {
    /// A sparse matrix, laid out for this backend.
    type Matrix: Shaped;
    /// A dense matrix, quantised or of floats, laid out for this backend.
    type Base: Shaped;
    /// `[len, batch]` values in this backend's memory.
    type Vector: Shaped;

    /// Which backend on which device, for people: `cpu avx2, 2 threads`.
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

    /// Lays out triplets, converted once; values at one place are summed in the order they come.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<Self::Matrix, BackendError>;

    /// Lays out a quantised base.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_base(&self, base: &QuantizedBase) -> Result<Self::Base, BackendError>;

    /// Lays out a dense base in f32, f16 or bf16; values keep their stored type.
    ///
    /// # Errors
    /// See the [trait](Self#errors).
    fn upload_dense(&self, base: &DenseMatrix) -> Result<Self::Base, BackendError> {
        let _ = base;
        Err(BackendError::Unavailable {
            backend: "this backend",
            missing: "a dense base".into(),
            install: "take another backend".into(),
        })
    }

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

    /// A vector operand from `batch` vectors one after the other: `rows` is `[batch, len]`, row-major.
    ///
    /// # Errors
    /// As [`upload_vector`](Self::upload_vector).
    fn upload_rows(&self, rows: &[f32], shape: VectorShape) -> Result<Self::Vector, BackendError> {
        check_upload(rows.len(), shape)?;
        if shape.batch == 1 {
            self.upload_vector(rows, shape)
        } else {
            self.upload_vector(&transpose(rows, shape.batch), shape)
        }
    }

    /// Replaces the values of a vector, interleaved.
    ///
    /// # Errors
    /// As [`upload_vector`](Self::upload_vector).
    fn write(&self, values: &[f32], vector: &mut Self::Vector) -> Result<(), BackendError> {
        let [len, batch] = vector.shape();
        *vector = self.upload_vector(values, VectorShape { len, batch })?;
        Ok(())
    }

    /// A vector's values as `batch` vectors one after the other: `[batch, len]`, row-major.
    ///
    /// # Errors
    /// As [`download`](Self::download).
    fn download_rows(&self, vector: &Self::Vector) -> Result<Vec<f32>, BackendError> {
        let values = self.download(vector)?;
        let [len, batch] = vector.shape();
        Ok(if batch == 1 { values } else { transpose(&values, len) })
    }

    /// A vector's values, `len·batch` of them, interleaved; waits for everything that writes it.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the device failed.
    fn download(&self, vector: &Self::Vector) -> Result<Vec<f32>, BackendError>;

    /// Waits until everything asked for is done (to time it, say).
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
