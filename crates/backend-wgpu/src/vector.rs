//! Dense vectors in the device's memory.

use std::sync::Arc;

use residua_backend::shape::check_upload;
use residua_backend::{BackendError, Shaped, shape};
use residua_memory::Budget;

use crate::gpu::{DeviceBuffer, Gpu, Usage, piece_end};
use crate::kernels::Cell;

/// `[len, batch]` f32 values in the device's memory.
///
/// A batch of more than one is padded to whole cells of four values, so that kernels read cells.
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
        let (batch, stride) = (shape[1], stride(shape[1]));
        let held =
            gpu.upload(budget, bytes as usize / 4, "a vector", Usage::Vector, piece_end, |first, words| {
                for (i, word) in words.iter_mut().enumerate() {
                    let (row, column) = ((first + i) / stride, (first + i) % stride);
                    if column < batch {
                        *word = values[row * batch + column].to_bits();
                    }
                }
            })?;
        Ok(Self { gpu: gpu.clone(), held, shape })
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

    /// What kernels read and write of it at once.
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

/// Values of a row with its padding.
fn stride(batch: usize) -> usize {
    if batch == 1 { 1 } else { batch.next_multiple_of(4) }
}

/// Bytes of a vector that can be bound.
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
