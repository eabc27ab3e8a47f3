//! From operands to dispatches.

use residua_backend::{BackendError, Shaped};
use residua_memory::Budget;

use crate::NAME;
use crate::base::{BasePart, WgpuBase};
use crate::gpu::{Dispatch, Gpu};
use crate::kernels::{Cell, Constants, Kernel, value_code};
use crate::layout::LANES;
use crate::matrix::{Part, WgpuMatrix};
use crate::vector::WgpuVector;

/// Threads in a workgroup of a kernel whose threads do not work together.
const LONE_THREADS: u32 = 64;

/// The operands of one product or layer.
pub(crate) struct Run<'a> {
    pub(crate) gpu: &'a Gpu,
    pub(crate) budget: &'a Budget,
    pub(crate) alpha: f32,
    pub(crate) x: &'a WgpuVector,
    pub(crate) y: &'a WgpuVector,
}

impl Run<'_> {
    /// `y = alpha·A·x + beta·y`.
    pub(crate) fn product(&self, a: &WgpuMatrix, beta: f32) -> Result<Vec<Dispatch>, BackendError> {
        if self.alpha == 0.0 {
            return Ok(if beta == 1.0 { Vec::new() } else { vec![self.scale(beta)?] });
        }
        let mut dispatches = Vec::new();
        let (chunks, per_group) = (self.y.chunks(), self.chunks_per_group());
        for part in &a.parts {
            let sums = self.segment_sums(part)?;
            let mut constants = slice_constants(a, part);
            constants.extend([("CHUNKS", per_group), ("THREADS", LANES as u32 * per_group)]);
            let buffers =
                [&part.slices.buffer, &part.data.buffer, &self.x.held.buffer, &self.y.held.buffer, &sums];
            for (first, depth) in self.depths(per_group) {
                let params = vec![self.alpha.to_bits(), beta.to_bits(), chunks, first, part.slice_count];
                let extent = groups(self.gpu, part.slice_count, depth)?;
                dispatches.push(self.dispatch(
                    Kernel::GapSpmm,
                    constants.clone(),
                    &buffers,
                    params,
                    extent,
                )?);
            }
            dispatches.extend(self.add_segments(part, &sums, beta)?);
        }
        Ok(dispatches)
    }

    /// `y = base·x + alpha·(residual·x)`.
    pub(crate) fn layer(&self, base: &WgpuBase, a: &WgpuMatrix) -> Result<Vec<Dispatch>, BackendError> {
        let mut dispatches = Vec::new();
        let (chunks, per_group) = (self.y.chunks(), self.chunks_per_group());
        let [words, scale_groups, group_words] = base.strides();
        let (kernel, stored) = base.kernel();
        let threads = (LANES as u32 * per_group).max(self.gpu.tuning.base_threads);
        for part in &a.parts {
            let sums = self.segment_sums(part)?;
            let mut constants = slice_constants(a, part);
            constants.extend([("CHUNKS", per_group), ("THREADS", threads), stored]);
            let meets = |rows: &BasePart| rows.rows.start < part.rows.end && part.rows.start < rows.rows.end;
            for rows in base.parts.iter().filter(|rows| meets(rows)) {
                let mut buffers = vec![
                    &part.slices.buffer,
                    &part.data.buffer,
                    &self.x.held.buffer,
                    &self.y.held.buffer,
                    &sums,
                ];
                buffers.extend(rows.buffers());
                for (first, depth) in self.depths(per_group) {
                    let [first_row, end_row] = [rows.rows.start as u32, rows.rows.end as u32];
                    let params = vec![
                        self.alpha.to_bits(),
                        chunks,
                        first,
                        part.slice_count,
                        a.shape()[1] as u32,
                        first_row,
                        end_row,
                        words,
                        scale_groups,
                        group_words,
                    ];
                    let extent = groups(self.gpu, part.slice_count, depth)?;
                    let constants = constants.clone();
                    dispatches.push(self.dispatch(kernel, constants, &buffers, params, extent)?);
                }
            }
            if self.alpha != 0.0 {
                dispatches.extend(self.add_segments(part, &sums, 1.0)?);
            }
        }
        Ok(dispatches)
    }

    fn scale(&self, beta: f32) -> Result<Dispatch, BackendError> {
        let cells = self.y.shape()[0] as u32 * self.y.chunks();
        let params = vec![beta.to_bits(), cells];
        let extent = groups(self.gpu, cells.div_ceil(LONE_THREADS), 1)?;
        let constants = vec![("THREADS", LONE_THREADS)];
        self.dispatch(Kernel::Scale, constants, &[&self.y.held.buffer], params, extent)
    }

    /// The second step for rows in segments.
    fn add_segments(
        &self,
        part: &Part,
        sums: &wgpu::Buffer,
        beta: f32,
    ) -> Result<Option<Dispatch>, BackendError> {
        let Some(long_rows) = &part.long_rows else { return Ok(None) };
        let chunks = self.y.chunks();
        let params = vec![self.alpha.to_bits(), beta.to_bits(), chunks, part.long_row_count];
        let threads = u64::from(part.long_row_count) * u64::from(chunks);
        let extent = groups(self.gpu, threads.div_ceil(LONE_THREADS.into()) as u32, 1)?;
        let buffers = [&long_rows.buffer, sums, &self.y.held.buffer];
        let constants = vec![("THREADS", LONE_THREADS)];
        self.dispatch(Kernel::SegmentSum, constants, &buffers, params, extent).map(Some)
    }

    /// A buffer for the sums of a part's segments.
    fn segment_sums(&self, part: &Part) -> Result<wgpu::Buffer, BackendError> {
        let cell = if self.y.cell() == Cell::One { 4 } else { 16 };
        let needed = u64::from(part.segments) * u64::from(self.y.chunks()) * cell;
        if needed > self.gpu.binding_limit {
            return Err(BackendError::DeviceLimit {
                backend: NAME,
                what: format!(
                    "sums of {} segments of long rows times a batch of {}",
                    part.segments,
                    self.y.shape()[1]
                ),
                needed,
                limit: self.gpu.binding_limit,
                name: "bytes in one binding",
            });
        }
        self.gpu.scratch(self.budget, needed)
    }

    /// Chunks of the batch for one workgroup.
    fn chunks_per_group(&self) -> u32 {
        self.y.chunks().next_power_of_two().min(self.gpu.tuning.chunks)
    }

    /// For each dispatch: its first chunk in the batch, and how many workgroups deep it is.
    fn depths(&self, per_group: u32) -> impl Iterator<Item = (u32, u32)> + use<> {
        let (all, limit) = (self.y.chunks().div_ceil(per_group), self.gpu.groups_limit);
        (0..all).step_by(limit as usize).map(move |first| (first * per_group, limit.min(all - first)))
    }

    fn dispatch(
        &self,
        kernel: Kernel,
        constants: Constants,
        buffers: &[&wgpu::Buffer],
        params: Vec<u32>,
        groups: [u32; 3],
    ) -> Result<Dispatch, BackendError> {
        dispatch(self.gpu, kernel, self.y.cell(), constants, buffers, params, groups)
    }
}

/// At least `count` workgroups in two dimensions, `depth` in the third. Kernels ignore the surplus.
pub(crate) fn groups(gpu: &Gpu, count: u32, depth: u32) -> Result<[u32; 3], BackendError> {
    let limit = gpu.groups_limit;
    let high = count.div_ceil(limit).max(1);
    if high > limit {
        return Err(BackendError::DeviceLimit {
            backend: NAME,
            what: "one kernel".into(),
            needed: count.into(),
            limit: u64::from(limit) * u64::from(limit),
            name: "workgroups",
        });
    }
    Ok([count.div_ceil(high), high, depth])
}

/// One run of a kernel. `buffers` are in the order of the bindings.
pub(crate) fn dispatch(
    gpu: &Gpu,
    kernel: Kernel,
    cell: Cell,
    constants: Constants,
    buffers: &[&wgpu::Buffer],
    params: Vec<u32>,
    groups: [u32; 3],
) -> Result<Dispatch, BackendError> {
    let (pipeline, layout) = gpu.pipeline(kernel, cell, constants)?;
    let slots = gpu.params()?;
    let params_binding = wgpu::BufferBinding {
        buffer: &slots,
        offset: 0,
        size: std::num::NonZeroU64::new(4 * params.len() as u64),
    };
    let mut entries =
        vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(params_binding) }];
    for (number, buffer) in buffers.iter().enumerate() {
        entries
            .push(wgpu::BindGroupEntry { binding: 1 + number as u32, resource: buffer.as_entire_binding() });
    }
    let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries };
    let bindings = gpu.scoped(kernel.name(), 0, || gpu.device.create_bind_group(&descriptor))?;
    Ok(Dispatch { pipeline, bindings, params, groups })
}

/// The constants that say how a part of a matrix is stored.
fn slice_constants(a: &WgpuMatrix, part: &Part) -> Constants {
    vec![("GAP_BITS", part.gap_bits), ("VALUES", value_code(a.value_type))]
}
