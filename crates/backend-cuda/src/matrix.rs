//! Sparse matrices on a device.

use std::sync::Arc;

use residua_backend::{BackendError, Shaped};
use residua_format::{Csr, ValueType};
use residua_memory::Budget;

use crate::abi::CsrArrays;
use crate::driver::{Buffer, Driver};
use crate::layout::Sliced;

/// A sparse matrix in a device's memory, in slices with gaps or as plain CSR.
#[derive(Debug)]
pub struct CudaMatrix {
    pub(crate) shape: [usize; 2],
    pub(crate) nnz: usize,
    pub(crate) arrays: Arrays,
}

/// The arrays that hold a matrix.
#[derive(Debug)]
pub(crate) enum Arrays {
    /// Slices with gaps.
    Sliced(ValueType, Sliced),
    /// CSR with 32-bit indices and f32 values.
    Csr(DeviceCsr),
}

impl CudaMatrix {
    /// The identity of its device.
    pub(crate) fn device(&self) -> usize {
        match &self.arrays {
            Arrays::Sliced(_, sliced) => sliced.device(),
            Arrays::Csr(csr) => csr.row_ptr.device(),
        }
    }

    /// Number of stored entries.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        match &self.arrays {
            Arrays::Sliced(_, sliced) => sliced.bytes(),
            Arrays::Csr(csr) => csr.bytes(),
        }
    }
}

impl Shaped for CudaMatrix {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

/// The three arrays of a CSR matrix.
#[derive(Debug)]
pub(crate) struct DeviceCsr {
    /// rows + 1.
    pub(crate) row_ptr: Arc<Buffer>,
    pub(crate) columns: Arc<Buffer>,
    pub(crate) values: Arc<Buffer>,
}

impl DeviceCsr {
    pub(crate) fn upload(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        csr: &Csr<f32, u32>,
    ) -> Result<Self, BackendError> {
        const WHAT: &str = "a CSR matrix";
        Ok(Self {
            row_ptr: Arc::new(Buffer::from_slice(driver, budget, csr.row_ptr(), WHAT)?),
            columns: Arc::new(Buffer::from_slice(driver, budget, csr.col_indices(), WHAT)?),
            values: Arc::new(Buffer::from_slice(driver, budget, csr.values(), WHAT)?),
        })
    }

    pub(crate) fn argument(&self) -> CsrArrays {
        CsrArrays {
            row_ptr: self.row_ptr.address(),
            columns: self.columns.address(),
            values: self.values.address(),
        }
    }

    pub(crate) fn buffers(&self) -> [Arc<Buffer>; 3] {
        [self.row_ptr.clone(), self.columns.clone(), self.values.clone()]
    }

    fn bytes(&self) -> usize {
        self.row_ptr.bytes() + self.columns.bytes() + self.values.bytes()
    }
}
