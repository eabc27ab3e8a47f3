//! Uploads, products and layers.

use residua_backend::shape::{check_forward, check_product, check_upload};
use residua_backend::source::{CsrSource, GapSource, Source};
use residua_backend::{Backend, BackendError, Shaped, VectorShape};
use residua_format::{Coo, Csr, DenseMatrix, GapCsr, QuantizedBase, ValuePlane, ValueType};

use crate::abi::{CSR_ROWS, Gap, MOST_BLOCKS, Product, ROWS, THREADS};
use crate::backend::CudaBackend;
use crate::base::CudaBase;
use crate::coo::DeviceCoo;
use crate::driver::NAME;
use crate::kernels::Module;
use crate::launch::Launch;
use crate::layout::build;
use crate::matrix::{Arrays, CudaMatrix, DeviceCsr};
use crate::vector::{CudaVector, stride};

impl CudaBackend {
    /// Uploads a CSR matrix unchanged, 8 bytes per entry: to compare with, or for a matrix that is multiplied once.
    /// [`upload_csr`](Backend::upload_csr) changes the layout and takes about 5 bytes per entry.
    ///
    /// # Errors
    /// See [`Backend`].
    pub fn upload_csr_unchanged(&self, matrix: &Csr<f32, u32>) -> Result<CudaMatrix, BackendError> {
        self.check_idle("an upload")?;
        let (shape, nnz) = (checked([matrix.rows(), matrix.cols()])?, matrix.nnz());
        let csr = DeviceCsr::upload(&self.driver, &self.budget, matrix)?;
        Ok(CudaMatrix { shape, nnz, arrays: Arrays::Csr(csr) })
    }

    fn lay_out<V: bytemuck::NoUninit + bytemuck::Zeroable + Send + Sync>(
        &self,
        source: &impl Source<V>,
        value_type: ValueType,
        scales: &[f32],
    ) -> Result<CudaMatrix, BackendError> {
        self.check_idle("an upload")?;
        let shape = checked(source.shape())?;
        let sliced = build(&self.driver, &self.budget, source, scales)?;
        Ok(CudaMatrix { shape, nnz: source.nnz(), arrays: Arrays::Sliced(value_type, sliced) })
    }

    /// `y = beta·y`.
    pub(crate) fn scale(&self, beta: f32, y: &CudaVector) -> Result<(), BackendError> {
        let [rows, batch] = y.shape();
        let values = rows * stride(batch);
        if beta == 1.0 || values == 0 {
            return Ok(());
        }
        self.launch(
            Launch::new(Module::Csr, "scale", blocks("scaling a vector", y, values.div_ceil(THREADS))?)
                .with(y.values.address())
                .with(beta)
                .with(values as u64)
                .holding([y.values.clone()]),
        )
    }

    /// `y = alpha·A·x + beta·y` for operands that are not empty.
    fn multiply(
        &self,
        a: &CudaMatrix,
        product: Product,
        [x, y]: [&CudaVector; 2],
    ) -> Result<(), BackendError> {
        let single = product.is_single();
        let launch = match &a.arrays {
            Arrays::Sliced(value_type, sliced) => {
                let kernel = match (sliced.wide, single) {
                    (false, true) => "spmm_g8_b1",
                    (false, false) => "spmm_g8_b8",
                    (true, true) => "spmm_g16_b1",
                    (true, false) => "spmm_g16_b8",
                };
                Launch::new(Module::Gap(*value_type), kernel, blocks("a product", y, product.blocks(ROWS))?)
                    .with(sliced.argument())
                    .holding(sliced.buffers())
            }
            Arrays::Csr(csr) => {
                let kernel = if single { "csr_b1" } else { "csr_b8" };
                Launch::new(Module::Csr, kernel, blocks("a product", y, product.blocks(CSR_ROWS))?)
                    .with(csr.argument())
                    .holding(csr.buffers())
            }
        };
        self.launch(launch.with(product).holding([x.values.clone(), y.values.clone()]))
    }
}

/// Refuses shapes whose rows or columns kernels cannot number.
fn checked(shape: [usize; 2]) -> Result<[usize; 2], BackendError> {
    let limit = (1 << 31) - 1;
    if shape.iter().any(|&size| size > limit) {
        let limit = limit as u64;
        return Err(BackendError::TooLarge { what: "a matrix", shape, limit, unit: "rows or columns" });
    }
    Ok(shape)
}

/// Refuses more blocks than a launch can have.
fn blocks(what: &'static str, y: &CudaVector, blocks: usize) -> Result<usize, BackendError> {
    if blocks <= MOST_BLOCKS {
        return Ok(blocks);
    }
    Err(BackendError::TooLarge {
        what,
        shape: y.shape(),
        limit: MOST_BLOCKS as u64,
        unit: "blocks of threads",
    })
}

fn arguments(a: [usize; 2], alpha: f32, x: &CudaVector, beta: f32, y: &CudaVector) -> Product {
    Product {
        x: x.values.address(),
        y: y.values.address(),
        rows: a[0] as u32,
        cols: a[1] as u32,
        stride: stride(x.shape()[1]) as u32,
        alpha,
        beta,
        padding: 0,
    }
}

impl Backend for CudaBackend {
    type Matrix = CudaMatrix;
    type Base = CudaBase;
    type Vector = CudaVector;

    fn device(&self) -> String {
        format!("{NAME} {}", self.driver.device())
    }

    fn upload(&self, matrix: &GapCsr) -> Result<CudaMatrix, BackendError> {
        match matrix.values() {
            ValuePlane::F32(values) => self.lay_out(&GapSource::new(matrix, values), ValueType::F32, &[]),
            ValuePlane::F16(values) => self.lay_out(&GapSource::new(matrix, values), ValueType::F16, &[]),
            ValuePlane::Bf16(values) => self.lay_out(&GapSource::new(matrix, values), ValueType::Bf16, &[]),
            ValuePlane::I8 { codes, scales } => {
                self.lay_out(&GapSource::new(matrix, codes), ValueType::I8, scales)
            }
        }
    }

    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<CudaMatrix, BackendError> {
        self.lay_out(&CsrSource(matrix), ValueType::F32, &[])
    }

    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<CudaMatrix, BackendError> {
        self.check_idle("an upload")?;
        let shape = checked([matrix.rows(), matrix.cols()])?;
        let coo = DeviceCoo::upload(&self.driver, &self.budget, matrix)?;
        let (csr, nnz) = coo.to_csr(&self.driver, &self.budget)?;
        Ok(CudaMatrix { shape, nnz, arrays: Arrays::Csr(csr) })
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<CudaBase, BackendError> {
        self.check_idle("an upload")?;
        checked([base.rows(), base.cols()])?;
        CudaBase::quantised(&self.driver, &self.budget, base)
    }

    fn upload_dense(&self, base: &DenseMatrix) -> Result<CudaBase, BackendError> {
        self.check_idle("an upload")?;
        checked([base.rows(), base.cols()])?;
        CudaBase::dense(&self.driver, &self.budget, base)
    }

    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<CudaVector, BackendError> {
        self.check_idle("an upload")?;
        check_upload(values.len(), shape)?;
        CudaVector::upload(&self.driver, &self.budget, values, shape.into())
    }

    fn zeros(&self, shape: VectorShape) -> Result<CudaVector, BackendError> {
        self.check_idle("an allocation")?;
        CudaVector::zeros(&self.driver, &self.budget, shape.into())
    }

    /// Overwrites the values in place, so recorded work that reads the vector sees them.
    fn write(&self, values: &[f32], vector: &mut CudaVector) -> Result<(), BackendError> {
        self.check_idle("a write")?;
        check_upload(values.len(), vector.shape())?;
        self.check_own([("the vector", vector.device())])?;
        if values.is_empty() {
            return Ok(());
        }
        vector.write(&self.driver, &self.budget, values)
    }

    fn download(&self, vector: &CudaVector) -> Result<Vec<f32>, BackendError> {
        self.check_idle("a download")?;
        self.check_own([("the vector", vector.device())])?;
        vector.read(&self.driver, &self.budget)
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        self.check_idle("waiting")?;
        self.driver.synchronize()
    }

    fn spmm(
        &self,
        alpha: f32,
        a: &CudaMatrix,
        x: &CudaVector,
        beta: f32,
        y: &mut CudaVector,
    ) -> Result<(), BackendError> {
        check_product("spmm", a, x, y)?;
        self.check_own([("the matrix", a.device()), ("x", x.device()), ("y", y.device())])?;
        if alpha == 0.0 || a.nnz == 0 {
            return self.scale(beta, y);
        }
        if y.shape().contains(&0) {
            return Ok(());
        }
        self.multiply(a, arguments(a.shape, alpha, x, beta, y), [x, y])
    }

    fn forward(
        &self,
        base: &CudaBase,
        residual: &CudaMatrix,
        alpha: f32,
        x: &CudaVector,
        y: &mut CudaVector,
    ) -> Result<(), BackendError> {
        check_forward(base, residual, x, y)?;
        self.check_own([("the base", base.device()), ("the residual", residual.device())])?;
        self.check_own([("x", x.device()), ("y", y.device())])?;
        if y.shape().contains(&0) {
            return Ok(());
        }
        // With an alpha of 0 the kernel reads no slice: the residual's type and planes do not matter then.
        let (value_type, gap, fused) = match &residual.arrays {
            Arrays::Sliced(value_type, sliced) => (*value_type, sliced.argument(), !sliced.wide),
            Arrays::Csr(_) => (ValueType::F32, <Gap as bytemuck::Zeroable>::zeroed(), false),
        };
        let product = arguments(residual.shape, if fused { alpha } else { 0.0 }, x, 0.0, y);
        let (module, kernel) = base.code().forward(value_type, product.is_single());
        let mut launch = Launch::new(module, kernel, blocks("a layer", y, product.blocks(ROWS))?)
            .with(base.argument())
            .with(gap)
            .with(product)
            .holding(base.buffers())
            .holding([x.values.clone(), y.values.clone()]);
        if let Arrays::Sliced(_, sliced) = &residual.arrays {
            launch = launch.holding(sliced.buffers());
        }
        self.launch(launch)?;
        if fused || alpha == 0.0 || residual.nnz == 0 {
            return Ok(());
        }
        self.multiply(residual, arguments(residual.shape, alpha, x, 1.0, y), [x, y])
    }
}
