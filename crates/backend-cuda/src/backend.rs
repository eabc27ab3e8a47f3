//! The backend: how it is opened, its streams and recordings. `operations.rs` computes.

use std::sync::{Arc, Mutex, PoisonError};

use residua_backend::{Backend, BackendError, DeviceInfo};
use residua_memory::Budget;

use crate::driver::{Driver, NAME, failed, nvidia};
use crate::graph::CudaGraph;
use crate::launch::Launch;
use crate::options::CudaOptions;

/// Sparse products and fused layers on an NVIDIA GPU. Clones share the stream and the budget.
///
/// Matrices, bases and vectors stay on the device. Work is queued on one stream and runs in order;
/// [`download`](Backend::download) and [`synchronize`](Backend::synchronize) wait for it. Allocating and freeing memory
/// also wait for the device, so make vectors once and overwrite them with [`write`](Backend::write).
///
/// ```
/// use residua_backend::{Backend, BackendError, VectorShape};
/// use residua_backend_cuda::{CudaBackend, CudaOptions};
/// use residua_format::Csr;
/// use residua_memory::Budget;
///
/// let cuda = match CudaBackend::open(&CudaOptions::default(), &Budget::new(64 << 20)) {
///     Ok(cuda) => cuda,
///     // No driver or no GPU: the error names what is missing.
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
    /// During a recording, launches are collected here and do not start.
    recorded: Option<Arc<Mutex<Vec<Launch>>>>,
}

impl CudaBackend {
    /// Opens a GPU. Uploads and scratch memory, on the device and on the host, are taken from `budget`.
    ///
    /// # Errors
    /// - [`BackendError::Unavailable`]: there is no driver, the driver is too old, or there is no GPU.
    /// - [`BackendError::NoSuchDevice`]: there is no GPU of that number or name.
    /// - [`BackendError::Device`]: the driver reports another failure.
    pub fn open(options: &CudaOptions, budget: &Budget) -> Result<Self, BackendError> {
        Ok(Self::on(nvidia::open(options.device.as_deref())?, budget))
    }

    /// The GPUs of this machine, in the driver's order. Empty if there is no driver, the driver is too old, or there is
    /// no GPU; [`open`](Self::open) tells which.
    pub fn devices() -> Vec<DeviceInfo> {
        let info = |(index, name)| DeviceInfo::new(format!("{NAME}:{index}"), name, false);
        nvidia::names().unwrap_or_default().into_iter().enumerate().map(info).collect()
    }

    pub(crate) fn on(driver: Arc<dyn Driver>, budget: &Budget) -> Self {
        Self { driver, budget: budget.clone(), recorded: None }
    }

    /// A backend on the same device and budget that queues its work on another stream.
    ///
    /// Operands may be used on any stream of their device, but streams do not wait for each other:
    /// [`synchronize`](Backend::synchronize) the stream that writes an operand before another stream reads it.
    ///
    /// # Errors
    /// [`BackendError::Device`] if the driver cannot make a stream.
    pub fn stream(&self) -> Result<Self, BackendError> {
        Ok(Self::on(self.driver.stream()?, &self.budget))
    }

    /// Free and total bytes of the device's memory.
    ///
    /// # Errors
    /// [`BackendError::Device`] if the driver fails.
    pub fn memory(&self) -> Result<(u64, u64), BackendError> {
        self.driver.memory()
    }

    /// Records the products and layers that `work` asks of its backend, and starts none. Uploads and downloads cannot be
    /// recorded.
    ///
    /// To replay a sequence of small layers costs one launch, not one per layer.
    ///
    /// # Errors
    /// The error of `work`; [`BackendError::Device`] if `work` asks for something that cannot be recorded.
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

    /// Refuses operands of other devices.
    pub(crate) fn check_own<const N: usize>(
        &self,
        operands: [(&'static str, usize); N],
    ) -> Result<(), BackendError> {
        match operands.iter().find(|(_, device)| *device != self.driver.identity()) {
            None => Ok(()),
            Some((what, _)) => Err(BackendError::Foreign { backend: self.device(), what }),
        }
    }

    /// Refuses `what` during a recording.
    pub(crate) fn check_idle(&self, what: &str) -> Result<(), BackendError> {
        match self.recorded {
            None => Ok(()),
            Some(_) => Err(failed(format!("{what} cannot be recorded; do it before the recording"))),
        }
    }

    /// Starts a kernel, or records it.
    pub(crate) fn launch(&self, launch: Launch) -> Result<(), BackendError> {
        match &self.recorded {
            None => self.driver.launch(&launch),
            Some(recorded) => {
                recorded.lock().unwrap_or_else(PoisonError::into_inner).push(launch);
                Ok(())
            }
        }
    }
}
