//! Products with plain triplets. The device program compares the backend with them; the backend does not use them.

use residua_backend::shape::check_product;
use residua_backend::{BackendError, Shaped};
use residua_format::Coo;

use crate::abi::THREADS;
use crate::coo::DeviceCoo;
use crate::kernels::Module;
use crate::launch::Launch;
use crate::matrix::Arrays;
use crate::vector::stride;
use crate::{CudaBackend, CudaMatrix, CudaVector};

/// Triplets in a device's memory, multiplied in one of the usual ways. Their sums may differ from run to run.
#[derive(Debug)]
pub struct PeerCoo(DeviceCoo);

/// A way to multiply with triplets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerKernel {
    /// A thread per triplet, float atomics.
    PerEntry,
    /// A thread per row; each reads all triplets.
    Scan,
}

impl Shaped for PeerCoo {
    fn shape(&self) -> [usize; 2] {
        self.0.shape
    }
}

impl PeerCoo {
    /// Uploads triplets unchanged.
    ///
    /// # Errors
    /// As [`upload_coo`](residua_backend::Backend::upload_coo).
    pub fn new(cuda: &CudaBackend, coo: &Coo<f32, u32>) -> Result<Self, BackendError> {
        cuda.check_idle("an upload")?;
        Ok(Self(DeviceCoo::upload(&cuda.driver, &cuda.budget, coo)?))
    }

    /// The backend's own conversion, without the upload.
    ///
    /// # Errors
    /// As [`upload_coo`](residua_backend::Backend::upload_coo).
    pub fn to_csr(&self, cuda: &CudaBackend) -> Result<CudaMatrix, BackendError> {
        cuda.check_idle("a conversion")?;
        let (csr, nnz) = self.0.to_csr(&cuda.driver, &cuda.budget)?;
        Ok(CudaMatrix { shape: self.0.shape, nnz, arrays: Arrays::Csr(csr) })
    }

    /// Sets `y` to 0, then to `A·x`. It can be recorded.
    ///
    /// # Errors
    /// [`BackendError::Shape`] when the operands do not fit together.
    pub fn spmm(
        &self,
        cuda: &CudaBackend,
        kernel: PeerKernel,
        x: &CudaVector,
        y: &mut CudaVector,
    ) -> Result<(), BackendError> {
        check_product("spmm", self, x, y)?;
        cuda.check_own([("the triplets", self.0.rows.device()), ("x", x.device()), ("y", y.device())])?;
        cuda.scale(0.0, y)?;
        let ([rows, _], [_, batch]) = (self.0.shape, y.shape());
        if self.0.entries == 0 || batch == 0 {
            return Ok(());
        }
        let (name, threads) = match kernel {
            PeerKernel::PerEntry => ("peer_coo_per_entry", self.0.entries),
            PeerKernel::Scan => ("peer_coo_scan", rows),
        };
        let mut launch = Launch::new(Module::PeerCoo, name, threads.div_ceil(THREADS))
            .with(self.0.rows.address())
            .with(self.0.columns.address())
            .with(self.0.values.address())
            .with(self.0.entries as u64)
            .with(x.values.address())
            .with(y.values.address())
            .with(stride(batch) as u32)
            .with(batch as u32);
        if kernel == PeerKernel::Scan {
            launch = launch.with(rows as u32);
        }
        let held = [&self.0.rows, &self.0.columns, &self.0.values, &x.values, &y.values];
        cuda.launch(launch.holding(held.map(std::sync::Arc::clone)))
    }
}
