//! Dense vectors in the device's memory.

use std::sync::Arc;

use residua_backend::shape::check_upload;
use residua_backend::{BackendError, Shaped, shape};
use residua_memory::Budget;

use crate::gpu::{DeviceBuffer, Gpu, Usage, piece_end};
use crate::kernels::Cell;

/// `[len, batch]` f32 values in the device's memory.
///
/// Kernels read cells of four values, so a batch of more than one is padded to whole cells.
#[derive(Debug)]
pub struct WgpuVector {
    pub(crate) gpu: Arc<Gpu>,
    pub(crate) held: DeviceBuffer,
    shape: [usize; 2],
}

impl WgpuVector {
    pub(crate) fn zeros(gpu: &Arc<Gpu>, budget: &Budget, shape: [usize; 2]) -> Result<Self, BackendError> {
        let bytes = bytes(gpu, shape)?;
        let held = gpu.allocate(budget, bytes, Usage::Vector, "a vector")?;
        Ok(Self { gpu: gpu.clone(), held, shape })
    }

    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        budget: &Budget,
        values: &[f32],
        shape: [usize; 2],
    ) -> Result<Self, BackendError> {
        check_upload(values.len(), shape)?;
        let bytes = bytes(gpu, shape)?;
        let words = bytes as usize / 4;
        let fill = padded(values, shape[1]);
        let held = gpu.upload(budget, words, "a vector", Usage::Vector, piece_end, fill)?;
        Ok(Self { gpu: gpu.clone(), held, shape })
    }

    /// Replaces its values.
    pub(crate) fn write(&self, budget: &Budget, values: &[f32]) -> Result<(), BackendError> {
        check_upload(values.len(), self.shape)?;
        let ([len, batch], what) = (self.shape, "values on their way to the device");
        self.gpu.write(budget, &self.held.buffer, len * stride(batch), what, padded(values, batch))
    }

    pub(crate) fn download(&self) -> Result<Vec<f32>, BackendError> {
        let ([len, batch], stride) = (self.shape, stride(self.shape[1]));
        let mut values = self.gpu.read(&self.held.buffer, 4 * (len * stride) as u64)?;
        if stride != batch {
            let mut place = 0;
            values.retain(|_| {
                place += 1;
                (place - 1) % stride < batch
            });
        }
        Ok(values)
    }

    /// The cell that kernels read and write at a time.
    pub(crate) fn cell(&self) -> Cell {
        if self.shape[1] == 1 { Cell::One } else { Cell::Four }
    }

    /// Cells of one row.
    pub(crate) fn chunks(&self) -> u32 {
        match self.cell() {
            Cell::One => 1,
            // A binding has fewer bytes than 32 bits count.
            Cell::Four => (stride(self.shape[1]) / 4) as u32,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }
}

/// Values in a row, with its padding.
fn stride(batch: usize) -> usize {
    if batch == 1 { 1 } else { batch.next_multiple_of(4) }
}

/// Writes words of a padded vector, from the word `first` on, into zeros.
fn padded(values: &[f32], batch: usize) -> impl FnMut(usize, &mut [u32]) {
    let stride = stride(batch);
    move |first, words| {
        if stride == batch {
            words.copy_from_slice(bytemuck::cast_slice(&values[first..first + words.len()]));
            return;
        }
        for (i, word) in words.iter_mut().enumerate() {
            let (row, column) = ((first + i) / stride, (first + i) % stride);
            if column < batch {
                *word = values[row * batch + column].to_bits();
            }
        }
    }
}

/// Bytes of a vector, padding included.
///
/// # Errors
/// When they do not fit a binding.
fn bytes(gpu: &Gpu, shape: [usize; 2]) -> Result<u64, BackendError> {
    shape::values(shape)?;
    let padded = [shape[0], shape[1].checked_next_multiple_of(4).map_or(usize::MAX, |_| stride(shape[1]))];
    let limit = gpu.binding_limit / 4;
    match shape::values(padded) {
        Ok(values) if values as u64 <= limit => Ok(4 * values as u64),
        _ => Err(BackendError::TooLarge {
            what: "a vector",
            shape,
            limit,
            unit: "values in one binding of this device, a batch padded to fours",
        }),
    }
}

impl Shaped for WgpuVector {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}
