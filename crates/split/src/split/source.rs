//! Blocks of rows with their bases, as every pass reads them.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use residua_format::file::{ContainerWriter, Dtype, Plane};
use residua_format::{BaseKind, Coder};

use super::inputs::Job;
use super::residual::Base;
use super::waiting_plane::WaitingPlane;
use crate::SplitError;
use crate::rows::Block;

/// The buffers of a block. The scales and multipliers of a quantised base lie in temporary files, because later passes
/// read them again.
#[derive(Debug)]
pub(super) struct Source {
    coder: Option<Coder>,
    weights: Block,
    dense: Block,
    scales: Vec<f32>,
    plane: WaitingPlane,
    multipliers: Vec<u8>,
    multiplier_plane: WaitingPlane,
    /// Whether scales are rounded to f16.
    half: bool,
}

/// Scales that are rounded together.
const ROUNDED: usize = 1024;

impl Source {
    /// Buffers for blocks of so many bytes; `dense` if bases are tensors of another checkpoint.
    pub(super) fn new(dense: bool, block: usize, [plane, multiplier_plane]: [WaitingPlane; 2]) -> Self {
        Self {
            coder: None,
            weights: Block::with_bytes(block),
            dense: Block::with_bytes(if dense { block } else { 0 }),
            scales: Vec::new(),
            plane,
            multipliers: Vec::new(),
            multiplier_plane,
            half: false,
        }
    }

    /// Reads rows without their base.
    pub(super) fn weights(&mut self, job: &Job<'_>, rows: Range<usize>) -> Result<&[u8], SplitError> {
        Ok(self.weights.load(&job.rows, rows)?)
    }

    /// Reads the same rows of the other checkpoint that is the base, if there is one.
    pub(super) fn dense(&mut self, job: &Job<'_>, rows: Range<usize>) -> Result<Option<&[u8]>, SplitError> {
        Ok(job.base.as_ref().map(|base| self.dense.load(base, rows)).transpose()?)
    }

    /// Reads rows and their base. Scales and multipliers of a quantised base must be [written](Self::write_scales).
    pub(super) fn rows(
        &mut self,
        job: &Job<'_>,
        rows: Range<usize>,
    ) -> Result<(&[u8], Base<'_>), SplitError> {
        let Self { coder, weights, dense, scales, plane, multipliers, multiplier_plane, half } = self;
        let base = match (coder, &job.base) {
            (Some(coder), _) => {
                let kind = coder.grid().kind();
                let (groups, blocks) = (kind.groups(job.rows.cols), kind.blocks(job.rows.cols));
                scales.resize(rows.len() * groups, 0.0);
                plane.read_at((4 * rows.start * groups) as u64, bytemuck::cast_slice_mut(scales))?;
                if *half {
                    scales.chunks_mut(ROUNDED).for_each(round);
                }
                multipliers.resize(rows.len() * blocks, 0);
                if blocks > 0 {
                    multiplier_plane.read_at((rows.start * blocks) as u64, multipliers)?;
                }
                Base::Quantized { coder, scales, multipliers }
            }
            (None, Some(base)) => Base::Dense(dense.load(base, rows.clone())?),
            (None, None) => Base::Dense(&[]),
        };
        Ok((weights.load(&job.rows, rows)?, base))
    }

    /// Forgets all scales and multipliers. Those that are written from now on belong to the codes of `coder`.
    pub(super) fn clear_scales(&mut self, coder: Coder) -> Result<(), SplitError> {
        self.coder = Some(coder);
        self.multiplier_plane.clear()?;
        self.plane.clear()
    }

    /// Reads rows, lets `fit` set their scales and multipliers, and appends those to the ones before. A row has at least
    /// one byte for multipliers, used or not.
    pub(super) fn write_scales<T>(
        &mut self,
        job: &Job<'_>,
        kind: BaseKind,
        rows: Range<usize>,
        fit: impl FnOnce(&[u8], &mut [f32], &mut [u8]) -> Result<T, SplitError>,
    ) -> Result<T, SplitError> {
        let Self { weights, scales, plane, multipliers, multiplier_plane, .. } = self;
        let raw = weights.load(&job.rows, rows.clone())?;
        scales.resize(rows.len() * kind.groups(job.rows.cols), 0.0);
        let blocks = kind.blocks(job.rows.cols);
        multipliers.resize(rows.len() * blocks.max(1), 0);
        let result = fit(raw, scales, multipliers)?;
        plane.write(bytemuck::cast_slice(scales))?;
        if blocks > 0 {
            multiplier_plane.write(multipliers)?;
        }
        Ok(result)
    }

    /// Replaces the scales of rows from `first` on.
    pub(super) fn replace_scales(
        &mut self,
        first: usize,
        groups: usize,
        scales: &[f32],
    ) -> Result<(), SplitError> {
        self.plane.write_at((4 * first * groups) as u64, bytemuck::cast_slice(scales))
    }

    /// Rounds all scales to f16, or leaves them as they are.
    pub(super) fn round_scales(&mut self, half: bool) {
        self.half = half;
    }

    /// Whether scales are rounded to f16.
    pub(super) fn half_scales(&self) -> bool {
        self.half
    }

    /// The element type of the scales in the output.
    pub(super) fn scale_dtype(&self) -> Dtype {
        if self.half { Dtype::F16 } else { Dtype::F32 }
    }

    /// Moves all scales to the output, as a plane of matrix `name`.
    pub(super) fn drain_scales(
        &mut self,
        name: &str,
        writer: &mut ContainerWriter,
    ) -> Result<(), SplitError> {
        writer.begin_plane(name, Plane::BaseScales, self.scale_dtype())?;
        if self.half {
            self.plane.drain_with(|bytes| {
                let mut halves = [f16::ZERO; ROUNDED];
                bytes.chunks(4 * ROUNDED).try_for_each(|bytes| {
                    let halves = &mut halves[..bytes.len() / 4];
                    let scales = bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
                    halves.iter_mut().zip(scales).for_each(|(half, scale)| *half = f16::from_f32(scale));
                    Ok(writer.write(bytemuck::cast_slice(halves))?)
                })
            })?;
        } else {
            self.plane.drain(writer)?;
        }
        writer.end_plane()?;
        Ok(())
    }
}

/// Rounds at most [`ROUNDED`] scales to f16.
fn round(scales: &mut [f32]) {
    let mut halves = [f16::ZERO; ROUNDED];
    let halves = &mut halves[..scales.len()];
    halves.convert_from_f32_slice(scales);
    halves.convert_to_f32_slice(scales);
}
