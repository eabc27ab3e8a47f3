//! Dense vectors in main memory.

use residua_backend::{BackendError, Shaped, shape};
use residua_memory::{ALIGNMENT, AlignedVec, Budget, Reservation};

/// Zeros follow the values of a vector up to a multiple of this, so that kernels read whole blocks.
pub(crate) const BLOCK: usize = 64;

/// `[len, batch]` f32 values in main memory, 128-byte aligned.
#[derive(Debug)]
pub struct CpuVector {
    shape: [usize; 2],
    /// The values, then zeros up to a multiple of [`BLOCK`].
    values: AlignedVec<f32>,
    _held: Reservation,
}

impl CpuVector {
    pub(crate) fn zeros(budget: &Budget, shape: [usize; 2]) -> Result<Self, BackendError> {
        let padded = shape::values(shape)?.next_multiple_of(BLOCK);
        let bytes = (padded * size_of::<f32>()).next_multiple_of(ALIGNMENT);
        let held = budget.reserve(bytes as u64, "a vector")?;
        Ok(Self { shape, values: AlignedVec::zeroed(padded), _held: held })
    }

    /// The values, `len·batch` of them.
    pub fn values(&self) -> &[f32] {
        &self.values[..self.len()]
    }

    /// The values, mutable.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let len = self.len();
        &mut self.values[..len]
    }

    /// The values and the zeros after them.
    pub(crate) fn padded(&self) -> &[f32] {
        &self.values
    }

    fn len(&self) -> usize {
        // No overflow: `zeros` counted them.
        self.shape[0] * self.shape[1]
    }
}

impl Shaped for CpuVector {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}
