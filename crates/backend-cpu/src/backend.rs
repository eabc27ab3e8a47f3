//! The backend: how it deals work out to its kernels.

use residua_backend::layout::transpose;
use residua_backend::shape::{check_forward, check_product, check_read, check_upload};
use residua_backend::source::{CsrSource, GapSource};
use residua_backend::{Activations, Backend, BackendError, DeviceInfo, Shaped, VectorShape};
use residua_format::{Coo, Csr, DenseMatrix, Duplicates, GapCsr, QuantizedBase, ValuePlane, convert};
use residua_memory::Budget;

use half::{bf16, f16};

use crate::base::CpuBase;
use crate::base::packed::Order;
use crate::input::{Input, TOGETHER};
use crate::kernel::{Factor, Loadable, Path, Rows, base_product, sparse_product};
use crate::layout::{Chunk, Sparse, build};
use crate::options::CpuOptions;
use crate::pool::Pool;
use crate::tile::cut;
use crate::vector::CpuVector;

/// Sparse products and the fused layer on this machine's processor. A clone shares threads and budget.
///
/// ```
/// use residua_backend::{Backend, VectorShape};
/// use residua_backend_cpu::{CpuBackend, CpuOptions};
/// use residua_format::{Csr, DenseMatrix, DenseValues};
/// use residua_memory::Budget;
///
/// let cpu = CpuBackend::open(&CpuOptions::default(), &Budget::new(1 << 20))?;
/// // Two outputs, three inputs.
/// let base = DenseMatrix::new(2, 3, DenseValues::F32([1.0, 0.0, 1.0, 0.0, 1.0, 0.0][..].into()))?;
/// let residual = Csr::new(2, 3, vec![0, 1, 2], vec![0, 2], vec![0.5, 2.0])?;
/// let (base, residual) = (cpu.upload_dense(&base)?, cpu.upload_csr(&residual)?);
///
/// // A batch of two inputs, one after the other.
/// let x = cpu.upload_rows(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], VectorShape { len: 3, batch: 2 })?;
/// let mut y = cpu.zeros(VectorShape { len: 2, batch: 2 })?;
/// cpu.forward(&base, &residual, 1.0, &x, &mut y)?;
/// assert_eq!(cpu.download_rows(&y)?, [4.5, 8.0, 45.0, 80.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CpuBackend {
    path: Path,
    pool: Pool,
    activations: Activations,
    budget: Budget,
}

impl CpuBackend {
    /// Opens the backend. Every upload and all scratch come from `budget`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when the options ask for instructions that the processor lacks; [`BackendError::Device`]
    /// when the threads cannot be started.
    pub fn open(options: &CpuOptions, budget: &Budget) -> Result<Self, BackendError> {
        let (path, pool) = (options.path()?, Pool::new(options.threads)?);
        Ok(Self { path, pool, activations: options.activations, budget: budget.clone() })
    }

    /// The device of this backend: this machine's processor.
    pub fn devices() -> Vec<DeviceInfo> {
        vec![DeviceInfo::new("cpu", describe(Path::best(), Pool::machine()), false)]
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    pub(crate) fn path(&self) -> Path {
        self.path
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    fn lay_out<V: Loadable>(
        &self,
        matrix: &GapCsr,
        values: &[V],
        scales: &[f32],
    ) -> Result<Sparse<V>, BackendError> {
        build(&self.pool, &GapSource::new(matrix, values), scales, &self.budget)
    }

    /// `Y = base·X + alpha·A·X`, or `Y = beta·Y + alpha·A·X` without a base. It works on some tiles of the batch at a time
    /// and deals the chunks of `a` out to the threads.
    fn run<V: Loadable>(
        &self,
        start: Start<'_>,
        alpha: f32,
        a: &Sparse<V>,
        x: &CpuVector,
        y: &mut CpuVector,
    ) -> Result<(), BackendError> {
        let ([cols, batch], dense) = (x.shape(), matches!(start, Start::Base(_)));
        if batch == 0 || (alpha == 0.0 && !dense) {
            start.scale(y.values_mut());
            return Ok(());
        }
        let packed = start.packed();
        let _scratch = Input::reserve(&self.budget, [cols, batch], dense, packed)?;
        for pass in cut(batch).collect::<Vec<_>>().chunks(TOGETHER) {
            let needs_tiles = packed.is_none() || alpha != 0.0;
            let input = Input::new(self, x.padded(), [cols, batch], pass, packed, (dense, needs_tiles));
            let mut rest = y.values_mut();
            let work: Vec<(&Chunk<V>, Rows<'_>)> = a
                .chunks
                .iter()
                .map(|chunk| {
                    let y = rest.split_off_mut(..chunk.rows.len() * batch).unwrap_or_default();
                    (chunk, Rows { y, batch })
                })
                .collect();
            let cost = (a.nnz + if dense { a.shape[0] * cols } else { 0 }) * input.width;
            self.pool.map(cost, work, |(chunk, mut y)| {
                match start {
                    Start::Base(base) => {
                        base_product(self.path, base.view(), chunk.rows.start, &input, &mut y)
                    }
                    Start::Scaled(_) => {
                        for tile in &input.tiles {
                            let mut y = y.of(tile);
                            (0..y.rows()).for_each(|row| start.scale(y.row(row)));
                        }
                    }
                }
                if alpha != 0.0 {
                    let scales = if a.scales.is_empty() { &[][..] } else { &a.scales[chunk.rows.clone()] };
                    for tile in &input.tiles {
                        sparse_product(self.path, chunk, Factor { alpha, scales }, tile, &mut y.of(tile));
                    }
                }
            });
        }
        Ok(())
    }

    fn run_any(
        &self,
        start: Start<'_>,
        alpha: f32,
        a: &CpuMatrix,
        x: &CpuVector,
        y: &mut CpuVector,
    ) -> Result<(), BackendError> {
        match &a.0 {
            AnySparse::F32(a) => self.run(start, alpha, a, x, y),
            AnySparse::F16(a) => self.run(start, alpha, a, x, y),
            AnySparse::Bf16(a) => self.run(start, alpha, a, x, y),
            AnySparse::I8(a) => self.run(start, alpha, a, x, y),
        }
    }
}

/// A path and its threads, for people.
fn describe(path: Path, threads: usize) -> String {
    format!("{}, {threads} {}", path.name(), if threads == 1 { "thread" } else { "threads" })
}

/// What the sparse product is added to.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// `beta·y`.
    Scaled(f32),
    /// `base·x`.
    Base(&'a CpuBase),
}

impl Start<'_> {
    /// The order of a packed base's codes.
    fn packed(self) -> Option<Order> {
        match self {
            Self::Base(base) => base.packed(),
            Self::Scaled(_) => None,
        }
    }

    /// `beta·y`. A beta of 0 gives zeros, even from NaN.
    fn scale(self, y: &mut [f32]) {
        match self {
            Self::Scaled(0.0) | Self::Base(_) => y.fill(0.0),
            Self::Scaled(1.0) => {}
            Self::Scaled(beta) => y.iter_mut().for_each(|y| *y *= beta),
        }
    }
}

impl Backend for CpuBackend {
    type Matrix = CpuMatrix;
    type Base = CpuBase;
    type Vector = CpuVector;

    fn device(&self) -> String {
        format!("cpu {}", describe(self.path, self.threads()))
    }

    fn upload(&self, matrix: &GapCsr) -> Result<CpuMatrix, BackendError> {
        Ok(CpuMatrix(match matrix.values() {
            ValuePlane::F32(values) => AnySparse::F32(self.lay_out(matrix, values, &[])?),
            ValuePlane::F16(values) => AnySparse::F16(self.lay_out(matrix, values, &[])?),
            ValuePlane::Bf16(values) => AnySparse::Bf16(self.lay_out(matrix, values, &[])?),
            ValuePlane::I8 { codes, scales } => AnySparse::I8(self.lay_out(matrix, codes, scales)?),
        }))
    }

    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<CpuMatrix, BackendError> {
        Ok(CpuMatrix(AnySparse::F32(build(&self.pool, &CsrSource(matrix), &[], &self.budget)?)))
    }

    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<CpuMatrix, BackendError> {
        // Sorting order, pointers, columns and values of the conversion.
        let bytes = matrix.nnz() * 16 + (matrix.rows() + 1) * 12;
        let _scratch = self.budget.reserve(bytes as u64, "converting COO to CSR")?;
        self.upload_csr(&convert::coo_to_csr(matrix, Duplicates::Sum)?)
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<CpuBase, BackendError> {
        CpuBase::quantized(&self.pool, base, self.activations, &self.budget)
    }

    fn upload_dense(&self, base: &DenseMatrix) -> Result<CpuBase, BackendError> {
        CpuBase::dense(&self.pool, base, &self.budget)
    }

    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<CpuVector, BackendError> {
        check_upload(values.len(), shape)?;
        let mut vector = self.zeros(shape)?;
        vector.values_mut().copy_from_slice(values);
        Ok(vector)
    }

    fn zeros(&self, shape: VectorShape) -> Result<CpuVector, BackendError> {
        CpuVector::zeros(&self.budget, shape.into())
    }

    fn upload_rows(&self, rows: &[f32], shape: VectorShape) -> Result<CpuVector, BackendError> {
        check_upload(rows.len(), shape)?;
        let mut vector = self.zeros(shape)?;
        transpose(rows, shape.batch, vector.values_mut());
        Ok(vector)
    }

    fn write(&self, values: &[f32], vector: &mut CpuVector) -> Result<(), BackendError> {
        check_upload(values.len(), vector.shape())?;
        vector.values_mut().copy_from_slice(values);
        Ok(())
    }

    fn write_rows(&self, rows: &[f32], vector: &mut CpuVector) -> Result<(), BackendError> {
        check_upload(rows.len(), vector.shape())?;
        transpose(rows, vector.shape()[1], vector.values_mut());
        Ok(())
    }

    fn download(&self, vector: &CpuVector) -> Result<Vec<f32>, BackendError> {
        Ok(vector.values().to_vec())
    }

    fn download_rows(&self, vector: &CpuVector) -> Result<Vec<f32>, BackendError> {
        let mut rows = vec![0.0; vector.values().len()];
        transpose(vector.values(), vector.shape()[0], &mut rows);
        Ok(rows)
    }

    fn read_rows(&self, vector: &CpuVector, out: &mut [f32]) -> Result<(), BackendError> {
        check_read(out.len(), vector.shape())?;
        transpose(vector.values(), vector.shape()[0], out);
        Ok(())
    }

    fn spmm(
        &self,
        alpha: f32,
        a: &CpuMatrix,
        x: &CpuVector,
        beta: f32,
        y: &mut CpuVector,
    ) -> Result<(), BackendError> {
        check_product("spmm", a, x, y)?;
        self.run_any(Start::Scaled(beta), alpha, a, x, y)
    }

    fn forward(
        &self,
        base: &CpuBase,
        residual: &CpuMatrix,
        alpha: f32,
        x: &CpuVector,
        y: &mut CpuVector,
    ) -> Result<(), BackendError> {
        check_forward(base, residual, x, y)?;
        self.run_any(Start::Base(base), alpha, residual, x, y)
    }
}

/// A sparse matrix laid out for [`CpuBackend`].
#[derive(Debug)]
pub struct CpuMatrix(AnySparse);

#[derive(Debug)]
enum AnySparse {
    F32(Sparse<f32>),
    F16(Sparse<f16>),
    Bf16(Sparse<bf16>),
    I8(Sparse<i8>),
}

impl CpuMatrix {
    /// Number of non-zeros.
    pub fn nnz(&self) -> usize {
        match &self.0 {
            AnySparse::F32(a) => a.nnz,
            AnySparse::F16(a) => a.nnz,
            AnySparse::Bf16(a) => a.nnz,
            AnySparse::I8(a) => a.nnz,
        }
    }

    /// Bytes that it takes in memory.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            AnySparse::F32(a) => a.bytes(),
            AnySparse::F16(a) => a.bytes(),
            AnySparse::Bf16(a) => a.bytes(),
            AnySparse::I8(a) => a.bytes(),
        }
    }
}

impl Shaped for CpuMatrix {
    fn shape(&self) -> [usize; 2] {
        match &self.0 {
            AnySparse::F32(a) => a.shape,
            AnySparse::F16(a) => a.shape,
            AnySparse::Bf16(a) => a.shape,
            AnySparse::I8(a) => a.shape,
        }
    }
}
