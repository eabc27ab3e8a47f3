//! The backend.

use std::sync::Arc;

use residua_backend::shape::{check_forward, check_product};
use residua_backend::{Backend, BackendError, VectorShape};
use residua_format::{Coo, Csr, Duplicates, GapCsr, QuantizedBase, convert};
use residua_memory::Budget;

use crate::NAME;
use crate::base::WgpuBase;
use crate::gpu::{AdapterInfo, Gpu, KernelTime, Options};
use crate::layout::{CsrSource, GapSource};
use crate::matrix::WgpuMatrix;
use crate::run::Run;
use crate::vector::WgpuVector;

/// Sparse products on a GPU, or on a processor that plays one. Cloning shares the device and the budget.
///
/// Products are queued and submitted together when a result is downloaded, at
/// [`synchronize`](Backend::synchronize), or when many are queued: a sequence of layers costs one submission.
///
/// ```no_run
/// use residua_backend::{Backend, VectorShape};
/// use residua_backend_wgpu::{Options, WgpuBackend};
/// use residua_format::Csr;
///
/// let gpu = WgpuBackend::new(&Options::default())?;
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
    /// Opens an adapter.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] without a driver, or when the adapter is too small for the kernels;
    /// [`BackendError::NoSuchDevice`] when the adapter that was asked for is not there;
    /// [`BackendError::Device`] when the driver does not open it.
    pub fn new(options: &Options) -> Result<Self, BackendError> {
        Ok(Self { gpu: Gpu::open(options)?, budget: Budget::unlimited() })
    }

    /// The same, with every upload and all scratch taken from `budget`.
    #[must_use]
    pub fn with_budget(self, budget: Budget) -> Self {
        Self { budget, ..self }
    }

    /// The adapter that it runs on.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.gpu.info
    }

    /// The device and its queue, for programs that use wgpu themselves.
    pub fn wgpu(&self) -> (&wgpu::Device, &wgpu::Queue) {
        (&self.gpu.device, &self.gpu.queue)
    }

    /// Times the kernels that `work` asks this backend for, uploads and downloads left out where the device has a
    /// clock of its own. One measurement at a time.
    ///
    /// # Errors
    /// Those of `work`, and of [`synchronize`](Backend::synchronize).
    pub fn time(&self, work: impl FnOnce() -> Result<(), BackendError>) -> Result<KernelTime, BackendError> {
        self.gpu.time(work)
    }

    /// That an operand is held by this device.
    pub(crate) fn own(&self, what: &'static str, held_by: &Arc<Gpu>) -> Result<(), BackendError> {
        if Arc::ptr_eq(&self.gpu, held_by) {
            return Ok(());
        }
        Err(BackendError::Foreign { backend: self.device(), what })
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
        WgpuMatrix::new(&self.gpu, &self.budget, &GapSource(matrix))
    }

    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<WgpuMatrix, BackendError> {
        WgpuMatrix::new(&self.gpu, &self.budget, &CsrSource(matrix))
    }

    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<WgpuMatrix, BackendError> {
        // Sorting order, pointers, columns and values of the conversion.
        let bytes = matrix.nnz() * 16 + (matrix.rows() + 1) * 12;
        let _scratch = self.budget.reserve(bytes as u64, "converting COO to CSR")?;
        self.upload_csr(&convert::coo_to_csr(matrix, Duplicates::Sum)?)
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<WgpuBase, BackendError> {
        WgpuBase::new(&self.gpu, &self.budget, base)
    }

    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<WgpuVector, BackendError> {
        WgpuVector::new(&self.gpu, &self.budget, values, shape.into())
    }

    fn zeros(&self, shape: VectorShape) -> Result<WgpuVector, BackendError> {
        WgpuVector::zeros(&self.gpu, &self.budget, shape.into())
    }

    fn download(&self, vector: &WgpuVector) -> Result<Vec<f32>, BackendError> {
        self.own("the vector", &vector.gpu)?;
        vector.download()
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
