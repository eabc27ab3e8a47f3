//! Blocks of rows with their bases, as every pass reads them.

use std::ops::Range;

use residua_format::BaseKind;
use residua_format::file::ContainerWriter;

use super::inputs::Job;
use super::residual::Base;
use super::waiting_plane::WaitingPlane;
use crate::SplitError;
use crate::rows::Block;

/// The buffers of a block. The scales of a quantised base lie in a temporary file, because later passes read them again.
#[derive(Debug)]
pub(super) struct Source {
    kind: Option<BaseKind>,
    weights: Block,
    dense: Block,
    scales: Vec<f32>,
    plane: WaitingPlane,
}

impl Source {
    /// Buffers for blocks of so many bytes.
    pub(super) fn new(kind: Option<BaseKind>, block: usize, plane: WaitingPlane) -> Self {
        let dense = Block::with_bytes(if kind.is_some() { 0 } else { block });
        Self { kind, weights: Block::with_bytes(block), dense, scales: Vec::new(), plane }
    }

    /// Reads rows without their base.
    pub(super) fn weights(&mut self, job: &Job<'_>, rows: Range<usize>) -> Result<&[u8], SplitError> {
        Ok(self.weights.load(&job.rows, rows)?)
    }

    /// Reads rows and their base. The scales of a quantised base must be [written](Self::write_scales).
    pub(super) fn rows(
        &mut self,
        job: &Job<'_>,
        rows: Range<usize>,
    ) -> Result<(&[u8], Base<'_>), SplitError> {
        let Self { kind, weights, dense, scales, plane } = self;
        let base = match (*kind, &job.base) {
            (Some(kind), _) => {
                let groups = kind.groups(job.rows.cols);
                scales.resize(rows.len() * groups, 0.0);
                plane.read_at((4 * rows.start * groups) as u64, bytemuck::cast_slice_mut(scales))?;
                Base::Quantized { kind, scales }
            }
            (None, Some(base)) => Base::Dense(dense.load(base, rows.clone())?),
            (None, None) => Base::Dense(&[]),
        };
        Ok((weights.load(&job.rows, rows)?, base))
    }

    /// Forgets all scales.
    pub(super) fn clear_scales(&mut self) -> Result<(), SplitError> {
        self.plane.clear()
    }

    /// Reads rows, lets `fit` set their scales, and appends those to the scales before.
    pub(super) fn write_scales<T>(
        &mut self,
        job: &Job<'_>,
        kind: BaseKind,
        rows: Range<usize>,
        fit: impl FnOnce(&[u8], &mut [f32]) -> Result<T, SplitError>,
    ) -> Result<T, SplitError> {
        let Self { weights, scales, plane, .. } = self;
        let raw = weights.load(&job.rows, rows.clone())?;
        scales.resize(rows.len() * kind.groups(job.rows.cols), 0.0);
        let result = fit(raw, scales)?;
        plane.write(bytemuck::cast_slice(scales))?;
        Ok(result)
    }

    /// Moves all scales to the output.
    pub(super) fn drain_scales(&mut self, writer: &mut ContainerWriter) -> Result<(), SplitError> {
        self.plane.drain(writer)
    }
}
