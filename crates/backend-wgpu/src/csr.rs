//! Plain CSR in the device's memory: for matrices that are used too rarely to be laid out, and for comparisons.

use std::ops::Range;
use std::sync::Arc;

use residua_backend::shape::{check_product, check_single};
use residua_backend::{BackendError, Shaped};
use residua_format::Csr;

use crate::gpu::{DeviceBuffer, Gpu, Usage, piece_end};
use crate::kernels::{Cell, Kernel};
use crate::layout::LANES;
use crate::run::{dispatch, groups};
use crate::{NAME, WgpuBackend, WgpuVector};

/// A CSR matrix, each row padded to whole quads of entries: 8 bytes per non-zero.
#[derive(Debug)]
pub struct WgpuCsr {
    gpu: Arc<Gpu>,
    shape: [usize; 2],
    /// Threads for one row.
    team: u32,
    parts: Vec<CsrPart>,
}

#[derive(Debug)]
struct CsrPart {
    rows: Range<usize>,
    row_ptr: DeviceBuffer,
    columns: DeviceBuffer,
    values: DeviceBuffer,
}

/// The column of an entry that pads a quad; `NO_COLUMN` of the kernel.
const NO_COLUMN: u32 = u32::MAX;

impl WgpuBackend {
    /// Uploads a CSR matrix without laying it out. [`upload_csr`](residua_backend::Backend::upload_csr) takes longer
    /// and makes products faster.
    ///
    /// # Errors
    /// See the [trait](residua_backend::Backend#errors); [`BackendError::DeviceLimit`] when a row does not fit a
    /// binding.
    pub fn upload_plain_csr(&self, matrix: &Csr<f32, u32>) -> Result<WgpuCsr, BackendError> {
        let gpu = &self.gpu;
        let (rows, shape) = (matrix.rows(), [matrix.rows(), matrix.cols()]);
        let quads = |row: usize| matrix.row(row).0.len().div_ceil(4) as u64;
        let mut parts = Vec::new();
        let mut first = 0;
        while first < rows {
            let (mut end, mut all) = (first, 0);
            while end < rows && 16 * (all + quads(end)) <= gpu.binding_limit {
                all += quads(end);
                end += 1;
            }
            // Pointers need a binding too.
            end = end.min(first + (gpu.binding_limit / 4) as usize - 1);
            if end == first {
                return Err(BackendError::DeviceLimit {
                    backend: NAME,
                    what: format!("row {first} with {} entries", matrix.row(first).0.len()),
                    needed: 16 * quads(first),
                    limit: gpu.binding_limit,
                    name: "bytes in one binding",
                });
            }
            parts.push(self.upload_part(matrix, first..end)?);
            first = end;
        }
        let wanted = (gpu.tuning.lanes / rows.max(1)).next_power_of_two().clamp(1, LANES);
        // No more threads than an average row has quads.
        let usual = (matrix.nnz() / rows.max(1)).div_ceil(4).next_power_of_two();
        Ok(WgpuCsr { gpu: gpu.clone(), shape, team: wanted.min(usual) as u32, parts })
    }

    fn upload_part(&self, matrix: &Csr<f32, u32>, rows: Range<usize>) -> Result<CsrPart, BackendError> {
        let (gpu, budget) = (&self.gpu, &self.budget);
        let _held = budget.reserve(4 * (rows.len() as u64 + 1), "row pointers")?;
        let mut row_ptr = vec![0u32];
        let mut quads = 0;
        for row in rows.clone() {
            quads += matrix.row(row).0.len().div_ceil(4) as u32;
            row_ptr.push(quads);
        }
        let plane = |what: &str, padding: u32, place: &dyn Fn(usize, &mut [u32])| {
            gpu.upload(budget, 4 * quads as usize, what, Usage::Operand, piece_end, |first, words| {
                words.fill(padding);
                // The row that holds the piece's first word, then the rows after it.
                let start = row_ptr.partition_point(|&quad| 4 * quad as usize <= first) - 1;
                let end = first + words.len();
                for (row, &quad) in row_ptr[..rows.len()].iter().enumerate().skip(start) {
                    let at = 4 * quad as usize;
                    if at >= end {
                        break;
                    }
                    let len = matrix.row(rows.start + row).0.len();
                    let (from, to) = (at.max(first), (at + len).min(end));
                    if from < to {
                        let mut own = vec![0; len];
                        place(rows.start + row, &mut own);
                        words[from - first..to - first].copy_from_slice(&own[from - at..to - at]);
                    }
                }
            })
        };
        let columns = plane("columns", NO_COLUMN, &|row, own| own.copy_from_slice(matrix.row(row).0))?;
        let values = plane("values", 0, &|row, own| {
            own.copy_from_slice(bytemuck::cast_slice(matrix.row(row).1));
        })?;
        let row_ptr = gpu.upload_words(budget, &row_ptr, "row pointers")?;
        Ok(CsrPart { rows, row_ptr, columns, values })
    }

    /// `y = alpha·A·x + beta·y` for `x` of shape `[cols, 1]` and `y` of shape `[rows, 1]`.
    ///
    /// # Errors
    /// See the [trait](residua_backend::Backend#errors).
    pub fn spmv_plain_csr(
        &self,
        alpha: f32,
        a: &WgpuCsr,
        x: &WgpuVector,
        beta: f32,
        y: &mut WgpuVector,
    ) -> Result<(), BackendError> {
        check_single("spmv", x, y)?;
        check_product("spmv", a, x, y)?;
        for (what, held_by) in [("the matrix", &a.gpu), ("x", &x.gpu), ("y", &y.gpu)] {
            self.own(what, held_by)?;
        }
        let threads = LANES as u32;
        let one = |part: &CsrPart| {
            let rows = part.rows.len() as u32;
            let params = vec![alpha.to_bits(), beta.to_bits(), rows, part.rows.start as u32];
            let buffers = [
                &part.row_ptr.buffer,
                &part.columns.buffer,
                &part.values.buffer,
                &x.held.buffer,
                &y.held.buffer,
            ];
            let constants = vec![("TEAM", a.team), ("THREADS", threads)];
            let groups = groups(&self.gpu, rows.div_ceil(threads / a.team), 1)?;
            dispatch(&self.gpu, Kernel::CsrSpmv, Cell::One, constants, &buffers, params, groups)
        };
        let dispatches = a.parts.iter().map(one).collect::<Result<_, _>>()?;
        self.gpu.enqueue(dispatches)
    }
}

impl WgpuCsr {
    /// Bytes that it takes in the device's memory.
    pub fn bytes(&self) -> usize {
        let part = |part: &CsrPart| part.row_ptr.bytes() + part.columns.bytes() + part.values.bytes();
        self.parts.iter().map(part).sum::<u64>() as usize
    }
}

impl Shaped for WgpuCsr {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}
