//! The fused layer on borrowed operands.

use residua_backend::shape::{check_forward, check_upload, values};
use residua_backend::{BackendError, Shaped};

use super::{BorrowedBase, BorrowedCsr};
use crate::CpuBackend;
use crate::kernel::{Rows, codes_product, csr_product};
use crate::tile::{LANE_WIDTH, Tile, cut};

/// Rows that a thread works on at a time: their codes and sums stay in the second-level cache. A multiple of the rows
/// that the base's kernels take together.
const CHUNK_ROWS: usize = 192;

/// `[cols, batch]` or `[rows, batch]` of a slice.
struct Shape([usize; 2]);

impl Shaped for Shape {
    fn shape(&self) -> [usize; 2] {
        self.0
    }
}

impl CpuBackend {
    /// The layer `y = base·x + alpha·(residual·x)` in the caller's memory. `x` is row-major `[batch, cols]`, `y` is row-major
    /// `[batch, rows]`. With `alpha = 0`, or without a residual, the bits are those of the base alone.
    ///
    /// # Errors
    /// [`BackendError::Shape`] when the operands do not fit together; [`BackendError::Budget`] when the budget has no room
    /// for scratch: two tiles of 32 vectors and a few rows. `y` is unchanged then.
    pub fn forward_borrowed(
        &self,
        base: &BorrowedBase<'_>,
        residual: Option<&BorrowedCsr<'_>>,
        alpha: f32,
        batch: usize,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), BackendError> {
        let [rows, cols] = base.shape();
        let (shape_x, shape_y) = (Shape([cols, batch]), Shape([rows, batch]));
        match residual {
            Some(residual) => check_forward(base, residual, &shape_x, &shape_y)?,
            None => check_forward(base, base, &shape_x, &shape_y)?,
        }
        check_upload(x.len(), shape_x.0)?;
        check_upload(y.len(), shape_y.0)?;
        let residual = residual.filter(|residual| alpha != 0.0 && residual.nnz() > 0);
        let scratch = 2 * values([cols, batch.min(4 * LANE_WIDTH)])? * size_of::<f32>();
        let _scratch = self.budget().reserve(scratch as u64, "a tile of a batch")?;
        for (at, used, width) in cut(batch) {
            let x = &x[at * cols..(at + used) * cols];
            let tile = Tile::of_vectors(x, cols, (used, width))?;
            let mut work: Vec<(usize, Vec<&mut [f32]>)> =
                (0..rows).step_by(CHUNK_ROWS).map(|row| (row, Vec::with_capacity(used))).collect();
            for vector in y[at * rows..(at + used) * rows].chunks_exact_mut(rows.max(1)) {
                work.iter_mut().zip(vector.chunks_mut(CHUNK_ROWS)).for_each(|((_, to), y)| to.push(y));
            }
            let cost = (rows * cols + residual.map_or(0, BorrowedCsr::nnz)) * width;
            let done = self.pool().map(cost, work, |(first, to)| {
                let count = to.first().map_or(0, |y| y.len());
                let base = base.rows(first..first + count)?;
                let mut sums = zeroed(count * used)?;
                let mut y = Rows { y: &mut sums, batch: used };
                codes_product(self.path(), base.view(), 0, std::slice::from_ref(&tile), &mut y);
                if let Some(residual) = residual {
                    csr_product(self.path(), residual, first, alpha, &tile, &mut y.of(&tile));
                }
                for (vector, y) in to.into_iter().enumerate() {
                    y.iter_mut().zip(sums[vector..].iter().step_by(used)).for_each(|(y, sum)| *y = *sum);
                }
                Ok(())
            });
            done.into_iter().collect::<Result<(), BackendError>>()?;
        }
        Ok(())
    }
}

/// Zeros, or an error when memory is exhausted: a caller of the C API must survive that.
pub(crate) fn zeroed<T: Copy + Default>(len: usize) -> Result<Vec<T>, BackendError> {
    let mut zeros = Vec::new();
    let message = |error: std::collections::TryReserveError| BackendError::Device {
        backend: "cpu",
        message: format!("{} bytes of scratch: {error}", len.saturating_mul(size_of::<T>())),
    };
    zeros.try_reserve_exact(len).map_err(message)?;
    zeros.resize(len, T::default());
    Ok(zeros)
}
