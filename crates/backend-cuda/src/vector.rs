//! Dense vectors on a device.

use std::sync::Arc;

use residua_backend::shape::values;
use residua_backend::{BackendError, Shaped};
use residua_memory::Budget;

use crate::abi::BATCH;
use crate::driver::{Buffer, Driver};

/// `[len, batch]` f32 values in a device's memory.
///
/// A batch of more than one vector is padded to a multiple of 8, so that rows are aligned. A row of zeros follows the
/// last row: kernels read it for padding and fillers, because these have no column.
#[derive(Debug)]
pub struct CudaVector {
    shape: [usize; 2],
    pub(crate) values: Arc<Buffer>,
}

/// Values from one row to the next.
pub(crate) fn stride(batch: usize) -> usize {
    if batch <= 1 { batch } else { batch.next_multiple_of(BATCH) }
}

impl CudaVector {
    pub(crate) fn zeros(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        shape: [usize; 2],
    ) -> Result<Self, BackendError> {
        let values = Arc::new(Buffer::zeroed(driver, budget, bytes(shape)?, "a vector")?);
        Ok(Self { shape, values })
    }

    pub(crate) fn upload(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        values: &[f32],
        shape: [usize; 2],
    ) -> Result<Self, BackendError> {
        let vector = Self::zeros(driver, budget, shape)?;
        if !values.is_empty() {
            vector.write(driver, budget, values)?;
        }
        Ok(vector)
    }

    /// Overwrites the values, `len·batch` of them.
    pub(crate) fn write(
        &self,
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        values: &[f32],
    ) -> Result<(), BackendError> {
        let [len, batch] = self.shape;
        let stride = stride(batch);
        if stride == batch {
            return driver.upload(self.values.address(), bytemuck::cast_slice(values));
        }
        let _scratch = budget.reserve((len * stride * size_of::<f32>()) as u64, "padding a batch")?;
        let mut padded = vec![0.0f32; len * stride];
        for (to, from) in padded.chunks_exact_mut(stride).zip(values.chunks_exact(batch)) {
            to[..batch].copy_from_slice(from);
        }
        driver.upload(self.values.address(), bytemuck::cast_slice(&padded))
    }

    pub(crate) fn read(&self, driver: &Arc<dyn Driver>, budget: &Budget) -> Result<Vec<f32>, BackendError> {
        let [len, batch] = self.shape;
        let stride = stride(batch);
        let scratch = if stride == batch { 0 } else { len * stride * size_of::<f32>() };
        let _scratch = budget.reserve(scratch as u64, "unpadding a batch")?;
        let mut padded = vec![0.0f32; len * stride];
        if !padded.is_empty() {
            driver.download(self.values.address(), bytemuck::cast_slice_mut(&mut padded))?;
        }
        if stride == batch {
            return Ok(padded);
        }
        Ok(padded.chunks_exact(stride).flat_map(|row| &row[..batch]).copied().collect())
    }

    /// The identity of its device.
    pub(crate) fn device(&self) -> usize {
        self.values.device()
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> usize {
        self.values.bytes()
    }
}

impl Shaped for CudaVector {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

/// Bytes of a vector with its padding.
fn bytes(shape: [usize; 2]) -> Result<usize, BackendError> {
    values(shape)?;
    let limit = isize::MAX as usize / size_of::<f32>();
    let too_large = BackendError::TooLarge { what: "a vector", shape, limit: limit as u64, unit: "values" };
    // Kernels number rows with 32 bits.
    if shape.iter().any(|&size| size >= 1 << 31) {
        return Err(too_large);
    }
    let padded = (shape[0] + 1).checked_mul(stride(shape[1])).filter(|&padded| padded <= limit);
    Ok(padded.ok_or(too_large)? * size_of::<f32>())
}
