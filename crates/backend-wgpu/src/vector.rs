//! Dense vectors in the device's memory.

use std::sync::Arc;

use residua_backend::shape::check_upload;
use residua_backend::{BackendError, Shaped, shape};
use residua_memory::Budget;

use crate::gpu::{DeviceBuffer, Gpu, PIECE, Usage};
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

/// The order of a vector's values in the memory of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// As [`VectorShape`](residua_backend::VectorShape) says.
    Interleaved,
    /// One vector of the batch after the other.
    Rows,
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
        order: Order,
        shape: [usize; 2],
    ) -> Result<Self, BackendError> {
        check_upload(values.len(), shape)?;
        let words = bytes(gpu, shape)? as usize / 4;
        let (cut, fill) = (whole_rows(shape), pad(values, order, shape));
        let held = gpu.upload(budget, words, "a vector", Usage::Vector, cut, fill)?;
        Ok(Self { gpu: gpu.clone(), held, shape })
    }

    /// Replaces its values.
    pub(crate) fn write(&self, budget: &Budget, values: &[f32], order: Order) -> Result<(), BackendError> {
        check_upload(values.len(), self.shape)?;
        let words = self.shape[0] * stride(self.shape[1]);
        let (cut, fill) = (whole_rows(self.shape), pad(values, order, self.shape));
        self.gpu.write(budget, &self.held.buffer, words, "values of a vector", cut, fill)
    }

    /// Reads its values into `out`, of its length.
    pub(crate) fn read(&self, out: &mut [f32], order: Order) -> Result<(), BackendError> {
        let ([len, batch], stride) = (self.shape, stride(self.shape[1]));
        self.gpu.read(&self.held.buffer, [len, 4 * stride], |first, bytes| {
            if stride == batch && (batch == 1 || order == Order::Interleaved) {
                let out = &mut out[first * batch..][..bytes.len() / 4];
                return bytemuck::cast_slice_mut(out).copy_from_slice(bytes);
            }
            for (row, bytes) in (first..).zip(bytes.chunks_exact(4 * stride)) {
                let (values, _) = bytes.as_chunks();
                for (column, &value) in values[..batch].iter().enumerate() {
                    out[order.place(self.shape, row, column)] = f32::from_ne_bytes(value);
                }
            }
        })
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

impl Order {
    /// Where the value of a row and a column stands.
    fn place(self, [len, batch]: [usize; 2], row: usize, column: usize) -> usize {
        match self {
            Self::Interleaved => row * batch + column,
            Self::Rows => column * len + row,
        }
    }
}

/// Cuts a padded vector between rows.
fn whole_rows(shape: [usize; 2]) -> impl Fn(usize) -> usize {
    let stride = stride(shape[1]).max(1);
    move |first| first + (PIECE / stride).max(1) * stride
}

/// Fills whole rows of a padded vector, from the word `first` on.
fn pad(values: &[f32], order: Order, shape: [usize; 2]) -> impl FnMut(usize, &mut [u32]) {
    let (batch, stride) = (shape[1], stride(shape[1]));
    move |first, words| {
        if stride == batch && (batch == 1 || order == Order::Interleaved) {
            return words.copy_from_slice(bytemuck::cast_slice(&values[first..first + words.len()]));
        }
        for (row, words) in (first / stride..).zip(words.chunks_exact_mut(stride)) {
            for (column, word) in words[..batch].iter_mut().enumerate() {
                *word = values[order.place(shape, row, column)].to_bits();
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
