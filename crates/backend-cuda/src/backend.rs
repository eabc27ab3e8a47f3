//! The backend and what it does with its kernels.

use std::sync::{Arc, Mutex, PoisonError};

use residua_backend::shape::{check_forward, check_product, check_upload};
use residua_backend::{Backend, BackendError, Shaped, VectorShape};
use residua_format::{BaseKind, Coo, Csr, GapCsr, QuantizedBase, ValuePlane, ValueType};
use residua_memory::Budget;

use crate::base::CudaBase;
use crate::coo::DeviceCoo;
use crate::driver::{Driver, NAME, failed};
use crate::graph::CudaGraph;
use crate::launch::{CSR_ROWS, Gap, Launch, MOST_BLOCKS, Module, Product, ROWS, THREADS};
use crate::layout::{CsrSource, GapSource, Source, build};
use crate::matrix::{CudaMatrix, DeviceCsr, Kind};
use crate::vector::{CudaVector, stride};

/// Sparse products on an NVIDIA GPU. Cloning shares the stream and the budget.
///
/// Matrices, bases and vectors stay on the device. What is asked for is queued on one stream and happens in order;
/// [`download`](Backend::download) and [`synchronize`](Backend::synchronize) wait. Allocating and freeing wait for the
/// device too, so vectors are best made once and written again with [`write`](Self::write).
///
/// ```
/// use residua_backend::{Backend, BackendError};
/// use residua_backend_cuda::CudaBackend;
/// use residua_format::Csr;
///
/// let cuda = match CudaBackend::new(0) {
///     Ok(cuda) => cuda,
///     // No driver or no GPU: the error says what is missing.
///     Err(BackendError::Unavailable { .. }) => return Ok(()),
///     Err(error) => return Err(error.into()),
/// };
/// // [[2, 0], [0, 3]]
/// let a = cuda.upload_csr(&Csr::new(2, 2, vec![0, 1, 2], vec![0, 1], vec![2.0, 3.0])?)?;
/// let x = cuda.upload_vector(&[10.0, 20.0], VectorShape { len: 2, batch: 1 })?;
/// let mut y = cuda.zeros(VectorShape { len: 2, batch: 1 })?;
/// cuda.spmv(1.0, &a, &x, 0.0, &mut y)?;
/// assert_eq!(cuda.download(&y)?, [20.0, 60.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct CudaBackend {
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) budget: Budget,
    /// Where launches go instead of to the device while a graph is recorded.
    recorded: Option<Arc<Mutex<Vec<Launch>>>>,
}

impl CudaBackend {
    /// The GPU with number `index`, as the driver counts.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when there is no driver, a too old one, or no GPU; [`BackendError::NoSuchDevice`]
    /// when there is no GPU of that number; [`BackendError::Device`] when the driver reports something else.
    pub fn new(index: usize) -> Result<Self, BackendError> {
        Ok(Self::on(crate::driver::nvidia::open(index)?))
    }

    /// Names of the GPUs here, in the order of their numbers.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] when there is no driver, a too old one, or no GPU.
    pub fn devices() -> Result<Vec<String>, BackendError> {
        crate::driver::nvidia::devices()
    }

    /// The GPU of a number, or the first of which the name contains `device`; GPU 0 when nothing is said.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn find(device: Option<&str>) -> Result<Self, BackendError> {
        let Some(wanted) = device else { return Self::new(0) };
        if let Ok(index) = wanted.parse() {
            return Self::new(index);
        }
        let names = Self::devices()?;
        let matches = |name: &String| name.to_lowercase().contains(&wanted.to_lowercase());
        match names.iter().position(matches) {
            Some(index) => Self::new(index),
            None => {
                let (wanted, present) = (wanted.to_owned(), names.join(", "));
                Err(BackendError::NoSuchDevice { backend: NAME, wanted, present })
            }
        }
    }

    pub(crate) fn on(driver: Arc<dyn Driver>) -> Self {
        Self { driver, budget: Budget::unlimited(), recorded: None }
    }

    /// The same, with every upload and all scratch taken from `budget`.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// The same device with a stream of its own. Operands may be used on any stream of their device, but one stream does
    /// not wait for another: [`synchronize`](Backend::synchronize) the one that writes before another reads.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the driver has no stream left.
    pub fn stream(&self) -> Result<Self, BackendError> {
        Ok(Self { driver: self.driver.stream()?, budget: self.budget.clone(), recorded: None })
    }

    /// Free and total bytes of the device's memory.
    ///
    /// # Errors
    /// [`BackendError::Device`] when the driver does not say.
    pub fn memory(&self) -> Result<(u64, u64), BackendError> {
        self.driver.memory()
    }

    /// Keeps a CSR matrix as it is, 8 bytes per entry: for those who compare, or convert often and multiply once.
    /// [`upload_csr`](Backend::upload_csr) lays it out in about 5 bytes per entry instead.
    ///
    /// # Errors
    /// See [`Backend`].
    pub fn upload_csr_unchanged(&self, matrix: &Csr<f32, u32>) -> Result<CudaMatrix, BackendError> {
        self.check_idle("an upload")?;
        let (shape, nnz) = (checked([matrix.rows(), matrix.cols()])?, matrix.nnz());
        let csr = DeviceCsr::upload(&self.driver, &self.budget, matrix)?;
        Ok(CudaMatrix { shape, nnz, kind: Kind::Csr(csr) })
    }

    /// Overwrites a vector's values, `len·batch` of them, in place.
    ///
    /// # Errors
    /// [`BackendError::Shape`] when `values` has another length.
    pub fn write(&self, values: &[f32], vector: &mut CudaVector) -> Result<(), BackendError> {
        self.check_idle("a write")?;
        check_upload(values.len(), vector.shape())?;
        self.check_own([("the vector", vector.device())])?;
        if values.is_empty() {
            return Ok(());
        }
        vector.write(&self.driver, &self.budget, values)
    }

    /// Records the products and layers that `work` asks of the backend it gets, without computing any. Uploads and
    /// downloads cannot be recorded.
    ///
    /// Replaying a sequence of small layers costs one launch instead of one each.
    ///
    /// # Errors
    /// What `work` returns; [`BackendError::Device`] for what cannot be recorded.
    pub fn record(
        &self,
        work: impl FnOnce(&Self) -> Result<(), BackendError>,
    ) -> Result<CudaGraph, BackendError> {
        self.check_idle("a recording")?;
        let recorded = Arc::new(Mutex::new(Vec::new()));
        work(&Self { recorded: Some(recorded.clone()), ..self.clone() })?;
        let launches = std::mem::take(&mut *recorded.lock().unwrap_or_else(PoisonError::into_inner));
        CudaGraph::new(self.driver.clone(), launches)
    }

    /// That operands, by name with the identity of their device, are held by this one.
    pub(crate) fn check_own<const N: usize>(
        &self,
        operands: [(&'static str, usize); N],
    ) -> Result<(), BackendError> {
        match operands.iter().find(|(_, device)| *device != self.driver.identity()) {
            None => Ok(()),
            Some((what, _)) => Err(BackendError::Foreign { backend: self.device(), what }),
        }
    }

    pub(crate) fn check_idle(&self, what: &str) -> Result<(), BackendError> {
        match self.recorded {
            None => Ok(()),
            Some(_) => Err(failed(format!("{what} cannot be recorded; do it before"))),
        }
    }

    pub(crate) fn launch(&self, launch: Launch) -> Result<(), BackendError> {
        match &self.recorded {
            None => self.driver.launch(&launch),
            Some(recorded) => {
                recorded.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
                Ok(())
            }
        }
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
        Ok(CudaMatrix { shape, nnz: source.nnz(), kind: Kind::Sliced(value_type, sliced) })
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

    /// `y = alpha·A·x + beta·y`, all of them with places.
    fn multiply(
        &self,
        a: &CudaMatrix,
        product: Product,
        [x, y]: [&CudaVector; 2],
    ) -> Result<(), BackendError> {
        let single = product.is_single();
        let launch = match &a.kind {
            Kind::Sliced(value_type, sliced) => {
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
            Kind::Csr(csr) => {
                let kernel = if single { "csr_b1" } else { "csr_b8" };
                Launch::new(Module::Csr, kernel, blocks("a product", y, product.blocks(CSR_ROWS))?)
                    .with(csr.argument())
                    .holding(csr.buffers())
            }
        };
        self.launch(launch.with(product).holding([x.values.clone(), y.values.clone()]))
    }
}

/// A shape whose places kernels can number.
fn checked(shape: [usize; 2]) -> Result<[usize; 2], BackendError> {
    let limit = (1 << 31) - 1;
    if shape.iter().any(|&size| size > limit) {
        let limit = limit as u64;
        return Err(BackendError::TooLarge { what: "a matrix", shape, limit, unit: "rows or columns" });
    }
    Ok(shape)
}

/// A number of blocks that can be launched.
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
            ValuePlane::F32(values) => self.lay_out(&GapSource { matrix, values }, ValueType::F32, &[]),
            ValuePlane::F16(values) => self.lay_out(&GapSource { matrix, values }, ValueType::F16, &[]),
            ValuePlane::Bf16(values) => self.lay_out(&GapSource { matrix, values }, ValueType::Bf16, &[]),
            ValuePlane::I8 { codes, scales } => {
                self.lay_out(&GapSource { matrix, values: codes }, ValueType::I8, scales)
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
        Ok(CudaMatrix { shape, nnz, kind: Kind::Csr(csr) })
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<CudaBase, BackendError> {
        self.check_idle("an upload")?;
        checked([base.rows(), base.cols()])?;
        CudaBase::new(&self.driver, &self.budget, base)
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
        // With an alpha of 0 no slice is read, so that any residual will do.
        let (value_type, gap, fused) = match &residual.kind {
            Kind::Sliced(value_type, sliced) => (*value_type, sliced.argument(), !sliced.wide),
            Kind::Csr(_) => (ValueType::F32, <Gap as bytemuck::Zeroable>::zeroed(), false),
        };
        let product = arguments(residual.shape, if fused { alpha } else { 0.0 }, x, 0.0, y);
        let kernel = match (base.kind(), product.is_single()) {
            (BaseKind::Int8, true) => "forward_int8_b1",
            (BaseKind::Int8, false) => "forward_int8_b8",
            (_, true) => "forward_int4_b1",
            (_, false) => "forward_int4_b8",
        };
        let count = blocks("a layer", y, product.blocks(ROWS))?;
        let mut launch = Launch::new(Module::Gap(value_type), kernel, count)
            .with(base.argument())
            .with(gap)
            .with(product)
            .holding(base.buffers())
            .holding([x.values.clone(), y.values.clone()]);
        if let Kind::Sliced(_, sliced) = &residual.kind {
            launch = launch.holding(sliced.buffers());
        }
        self.launch(launch)?;
        if fused || alpha == 0.0 || residual.nnz == 0 {
            return Ok(());
        }
        self.multiply(residual, arguments(residual.shape, alpha, x, 1.0, y), [x, y])
    }
}
