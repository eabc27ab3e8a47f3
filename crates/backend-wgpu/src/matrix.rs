//! Sparse matrices in the device's memory.

use std::ops::Range;
use std::sync::Arc;

use residua_backend::source::Source;
use residua_backend::{BackendError, Shaped};
use residua_format::ValueType;
use residua_memory::Budget;

use crate::NAME;
use crate::gpu::{DeviceBuffer, Gpu, PIECE, Usage};
use crate::layout::{Counts, Plan, Slice, Stored, counts, fill, plan};

/// A sparse matrix laid out for [`WgpuBackend`](crate::WgpuBackend).
#[derive(Debug)]
pub struct WgpuMatrix {
    pub(crate) gpu: Arc<Gpu>,
    shape: [usize; 2],
    nnz: usize,
    pub(crate) value_type: ValueType,
    pub(crate) parts: Vec<Part>,
}

/// A run of rows that fits the bindings of the device.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) rows: Range<usize>,
    pub(crate) gap_bits: u32,
    pub(crate) slices: DeviceBuffer,
    pub(crate) slice_count: u32,
    pub(crate) data: DeviceBuffer,
    /// The rows in segments, if there are any.
    pub(crate) long_rows: Option<DeviceBuffer>,
    pub(crate) long_row_count: u32,
    pub(crate) segments: u32,
}

impl WgpuMatrix {
    /// Lays out a matrix. `scales` has a factor for the sum of each row, or none at all.
    pub(crate) fn new<V: Stored>(
        gpu: &Arc<Gpu>,
        budget: &Budget,
        source: &impl Source<V>,
        scales: &[f32],
    ) -> Result<Self, BackendError> {
        let [rows, cols] = source.shape();
        // A row's number has 31 bits, and y is one binding.
        if rows as u64 > gpu.binding_limit / 4 || rows >= 1 << 31 {
            let limit = (gpu.binding_limit / 4).min((1 << 31) - 1);
            let (what, shape) = ("a matrix", [rows, cols]);
            return Err(BackendError::TooLarge { what, shape, limit, unit: "rows" });
        }
        // Counts, teams and slices of the plan.
        let _held = budget.reserve(rows as u64 * 64, "laying a matrix out")?;
        let counts = counts(source);
        let mut parts = Vec::new();
        // Ranges of rows to lay out, the first one last.
        let mut rest: Vec<_> = std::iter::once(0..rows).filter(|rows| !rows.is_empty()).collect();
        while let Some(rows) = rest.pop() {
            match plan(&counts, rows.clone(), V::WORDS, gpu.tuning, gpu.binding_limit) {
                Some(plan) => parts.push(Part::new(gpu, budget, source, scales, &plan)?),
                None if rows.len() > 1 => {
                    let middle = rows.start + rows.len() / 2;
                    rest.push(middle..rows.end);
                    rest.push(rows.start..middle);
                }
                None => return Err(row_too_large(gpu, &counts, rows.start, V::TYPE)),
            }
        }
        let (shape, nnz, value_type) = ([rows, cols], source.nnz(), V::TYPE);
        Ok(Self { gpu: gpu.clone(), shape, nnz, value_type, parts })
    }

    /// Number of non-zeros.
    pub fn nnz(&self) -> usize {
        self.nnz
    }

    /// Bytes that it takes in the device's memory.
    pub fn bytes(&self) -> usize {
        let part = |part: &Part| {
            part.slices.bytes() + part.data.bytes() + part.long_rows.as_ref().map_or(0, DeviceBuffer::bytes)
        };
        self.parts.iter().map(part).sum::<u64>() as usize
    }

    /// Number of parts: runs of rows, each small enough for a binding of the device.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

fn row_too_large(gpu: &Gpu, counts: &[Counts], row: usize, value_type: ValueType) -> BackendError {
    let Counts { entries, narrow, wide } = counts[row];
    let bytes = value_type.bytes() as u64;
    BackendError::DeviceLimit {
        backend: NAME,
        what: format!("row {row} with {entries} entries"),
        needed: ((entries + narrow) * (1 + bytes)).min((entries + wide) * (2 + bytes)),
        limit: gpu.binding_limit,
        name: "bytes in one binding",
    }
}

impl Part {
    fn new<V: Stored>(
        gpu: &Gpu,
        budget: &Budget,
        source: &impl Source<V>,
        scales: &[f32],
        plan: &Plan,
    ) -> Result<Self, BackendError> {
        // A piece is whole slices: those that start within `PIECE` words, at least one.
        let ends = |first: usize| {
            let past = |bound: usize| plan.slices.partition_point(|slice| slice.start as usize <= bound);
            match plan.slices.get(past(first).max(past(first + PIECE) - 1)) {
                Some(slice) if plan.words > first + PIECE => slice.start as usize,
                _ => plan.words,
            }
        };
        let data = gpu.upload(budget, plan.words, "a matrix", Usage::Operand, ends, |first, words| {
            let start = plan.slices.partition_point(|slice| (slice.start as usize) < first);
            let end = plan.slices.partition_point(|slice| (slice.start as usize) < first + words.len());
            fill(plan, source, scales, start, end - start, words);
        })?;
        let words: &[u32] = bytemuck::cast_slice::<Slice, u32>(&plan.slices);
        let slices = gpu.upload_words(budget, words, "slices of a matrix")?;
        let long_rows = match &*plan.long_rows {
            [] => None,
            rows => Some(gpu.upload_words(budget, bytemuck::cast_slice(rows), "long rows")?),
        };
        Ok(Self {
            rows: plan.rows.clone(),
            gap_bits: plan.gap_bits,
            slices,
            slice_count: plan.slices.len() as u32,
            data,
            long_rows,
            long_row_count: plan.long_rows.len() as u32,
            segments: plan.segments,
        })
    }
}

impl Shaped for WgpuMatrix {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}
