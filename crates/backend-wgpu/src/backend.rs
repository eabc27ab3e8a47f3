//! The backend.

use std::sync::Arc;

use residua_backend::shape::{self, check_forward, check_product, check_read};
use residua_backend::source::{CsrSource, GapSource};
use residua_backend::{Backend, BackendError, DeviceInfo, Shaped, VectorShape};
use residua_format::{Coo, Csr, DenseMatrix, Duplicates, GapCsr, QuantizedBase, ValuePlane, convert};
use residua_memory::Budget;

use crate::NAME;
use crate::base::WgpuBase;
use crate::gpu::{AdapterInfo, Gpu, KernelTime, adapters};
use crate::matrix::WgpuMatrix;
use crate::options::WgpuOptions;
use crate::run::Run;
use crate::vector::{Order, WgpuVector};

/// Sparse products on a GPU, or on software that emulates one. Clones share the device and the budget.
///
/// Products are queued. They are submitted together when a result is downloaded, at
/// [`synchronize`](Backend::synchronize), or when many are queued: a sequence of layers costs one submission.
///
/// ```no_run
/// use residua_backend::{Backend, VectorShape};
/// use residua_backend_wgpu::{WgpuBackend, WgpuOptions};
/// use residua_format::Csr;
/// use residua_memory::Budget;
///
/// let gpu = WgpuBackend::open(&WgpuOptions::default(), &Budget::new(1 << 30))?;
/// // [[2, 0], [0, 3]]
/// let a = gpu.upload_csr(&Csr::new(2, 2, vec![0, 1, 2], vec![0, 1], vec![2.0, 3.0])?)?;
/// let x = gpu.upload_vector(&[10.0, 20.0], VectorShape { len: 2, batch: 1 })?;
/// let mut y = gpu.zeros(VectorShape { len: 2, batch: 1 })?;
/// gpu.spmv(1.0, &a, &x, 0.0, &mut y)?;
/// assert_eq!(gpu.download(&y)?, [20.0, 60.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct WgpuBackend {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) budget: Budget,
}

impl WgpuBackend {
    /// The adapters of this machine, the preferred one first. Empty when there is no driver. [`adapters`] says more
    /// about each.
    pub fn devices() -> Vec<DeviceInfo> {
        let device = |adapter: &AdapterInfo| {
            DeviceInfo::new(format!("{NAME}:{}", adapter.index), &adapter.name, adapter.is_software())
        };
        adapters().iter().map(device).collect()
    }

    /// Opens an adapter. Uploads and scratch memory are taken from `budget`.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] without a driver, or when the adapter is too small for the kernels;
    /// [`BackendError::NoSuchDevice`] when `options` name an adapter that this machine does not have;
    /// [`BackendError::Device`] when the driver cannot open it.
    pub fn open(options: &WgpuOptions, budget: &Budget) -> Result<Self, BackendError> {
        Ok(Self { gpu: Gpu::open(options)?, budget: budget.clone() })
    }

    /// The adapter that it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.gpu.info
    }

    /// The device and its queue, for programs that call wgpu themselves.
    pub fn wgpu(&self) -> (&wgpu::Device, &wgpu::Queue) {
        (&self.gpu.device, &self.gpu.queue)
    }

    /// Times the kernels that `work` runs on this backend. With the device's clock, uploads and downloads do not
    /// count. Only one measurement may run at a time.
    ///
    /// # Errors
    /// Those of `work`, and of [`synchronize`](Backend::synchronize).
    pub fn time(&self, work: impl FnOnce() -> Result<(), BackendError>) -> Result<KernelTime, BackendError> {
        self.gpu.time(work)
    }

    /// # Errors
    /// When another device holds the operand.
    pub(crate) fn own(&self, what: &'static str, held_by: &Arc<Gpu>) -> Result<(), BackendError> {
        if Arc::ptr_eq(&self.gpu, held_by) {
            return Ok(());
        }
        Err(BackendError::Foreign { backend: self.device(), what })
    }

    fn read(&self, vector: &WgpuVector, out: &mut [f32], order: Order) -> Result<(), BackendError> {
        self.own("the vector", &vector.gpu)?;
        check_read(out.len(), vector.shape())?;
        vector.read(out, order)
    }

    fn run<'a>(&'a self, alpha: f32, x: &'a WgpuVector, y: &'a WgpuVector) -> Run<'a> {
        Run { gpu: &self.gpu, budget: &self.budget, alpha, x, y }
    }
}

impl Backend for WgpuBackend {
    type Matrix = WgpuMatrix;
    type Base = WgpuBase;
    type Vector = WgpuVector;

    fn device(&self) -> String {
        let (info, subgroups) = (&self.gpu.info, self.gpu.subgroup.is_some());
        format!("{NAME} {}, {}{}", info.name, info.api, if subgroups { ", subgroups" } else { "" })
    }

    fn upload(&self, matrix: &GapCsr) -> Result<WgpuMatrix, BackendError> {
        let (gpu, budget) = (&self.gpu, &self.budget);
        match matrix.values() {
            ValuePlane::F32(values) => WgpuMatrix::new(gpu, budget, &GapSource::new(matrix, values), &[]),
            ValuePlane::F16(values) => WgpuMatrix::new(gpu, budget, &GapSource::new(matrix, values), &[]),
            ValuePlane::Bf16(values) => WgpuMatrix::new(gpu, budget, &GapSource::new(matrix, values), &[]),
            ValuePlane::I8 { codes, scales } => {
                WgpuMatrix::new(gpu, budget, &GapSource::new(matrix, codes), scales)
            }
        }
    }

    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<WgpuMatrix, BackendError> {
        WgpuMatrix::new(&self.gpu, &self.budget, &CsrSource(matrix), &[])
    }

    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<WgpuMatrix, BackendError> {
        // Sorting order, pointers, columns and values of the conversion.
        let bytes = matrix.nnz() * 16 + (matrix.rows() + 1) * 12;
        let _scratch = self.budget.reserve(bytes as u64, "converting COO to CSR")?;
        self.upload_csr(&convert::coo_to_csr(matrix, Duplicates::Sum)?)
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<WgpuBase, BackendError> {
        WgpuBase::quantized(&self.gpu, &self.budget, base)
    }

    fn upload_dense(&self, base: &DenseMatrix) -> Result<WgpuBase, BackendError> {
        WgpuBase::dense(&self.gpu, &self.budget, base)
    }

    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<WgpuVector, BackendError> {
        WgpuVector::new(&self.gpu, &self.budget, values, Order::Interleaved, shape.into())
    }

    fn upload_rows(&self, rows: &[f32], shape: VectorShape) -> Result<WgpuVector, BackendError> {
        WgpuVector::new(&self.gpu, &self.budget, rows, Order::Rows, shape.into())
    }

    fn zeros(&self, shape: VectorShape) -> Result<WgpuVector, BackendError> {
        WgpuVector::zeros(&self.gpu, &self.budget, shape.into())
    }

    fn download(&self, vector: &WgpuVector) -> Result<Vec<f32>, BackendError> {
        let mut values = vec![0.0; shape::values(vector.shape())?];
        self.read(vector, &mut values, Order::Interleaved)?;
        Ok(values)
    }

    fn download_rows(&self, vector: &WgpuVector) -> Result<Vec<f32>, BackendError> {
        let mut rows = vec![0.0; shape::values(vector.shape())?];
        self.read(vector, &mut rows, Order::Rows)?;
        Ok(rows)
    }

    fn read_rows(&self, vector: &WgpuVector, out: &mut [f32]) -> Result<(), BackendError> {
        self.read(vector, out, Order::Rows)
    }

    /// Reuses the vector's memory. After an error that is not about shapes its values are unknown.
    fn write(&self, values: &[f32], vector: &mut WgpuVector) -> Result<(), BackendError> {
        self.own("the vector", &vector.gpu)?;
        vector.write(&self.budget, values, Order::Interleaved)
    }

    /// Reuses memory as [`write`](Backend::write) does.
    fn write_rows(&self, rows: &[f32], vector: &mut WgpuVector) -> Result<(), BackendError> {
        self.own("the vector", &vector.gpu)?;
        vector.write(&self.budget, rows, Order::Rows)
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        self.gpu.finish()
    }

    fn spmm(
        &self,
        alpha: f32,
        a: &WgpuMatrix,
        x: &WgpuVector,
        beta: f32,
        y: &mut WgpuVector,
    ) -> Result<(), BackendError> {
        check_product("spmm", a, x, y)?;
        for (what, held_by) in [("the matrix", &a.gpu), ("x", &x.gpu), ("y", &y.gpu)] {
            self.own(what, held_by)?;
        }
        if y.is_empty() {
            return Ok(());
        }
        self.gpu.enqueue(self.run(alpha, x, y).product(a, beta)?)
    }

    fn forward(
        &self,
        base: &WgpuBase,
        residual: &WgpuMatrix,
        alpha: f32,
        x: &WgpuVector,
        y: &mut WgpuVector,
    ) -> Result<(), BackendError> {
        check_forward(base, residual, x, y)?;
        let operands =
            [("the base", &base.gpu), ("the residual", &residual.gpu), ("x", &x.gpu), ("y", &y.gpu)];
        for (what, held_by) in operands {
            self.own(what, held_by)?;
        }
        if y.is_empty() {
            return Ok(());
        }
        self.gpu.enqueue(self.run(alpha, x, y).layer(base, residual)?)
    }
}
