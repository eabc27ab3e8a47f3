//! The residual of one row: weights minus base.

use std::ops::Range;

use residua_format::{Coder, vectorised};

use crate::float::{Float, all_finite};
use crate::rows::Rows;

/// The base of some rows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base<'a> {
    /// The rows themselves at low precision, with these scales and numbers of multipliers.
    Quantized { coder: &'a Coder, scales: &'a [f32], multipliers: &'a [u8] },
    /// Rows of another checkpoint, of the same element type.
    Dense(&'a [u8]),
}

impl<'a> Base<'a> {
    /// The base of some of the rows. `of` is the tensor.
    pub(super) fn rows(self, rows: Range<usize>, of: &Rows<'_>) -> Self {
        let part = |size: usize| rows.start * size..rows.end * size;
        match self {
            Self::Quantized { coder, scales, multipliers } => {
                let kind = coder.grid().kind();
                let (scales, multipliers) =
                    (&scales[part(kind.groups(of.cols))], &multipliers[part(kind.blocks(of.cols))]);
                Self::Quantized { coder, scales, multipliers }
            }
            Self::Dense(raw) => Self::Dense(&raw[part(of.row_bytes())]),
        }
    }

    /// The bytes of the other checkpoint's rows.
    pub(super) fn dense(self) -> &'a [u8] {
        match self {
            Self::Quantized { .. } => &[],
            Self::Dense(raw) => raw,
        }
    }
}

/// Buffers for one row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    residual: Vec<f32>,
    /// Weights and base as f32, if they are not f32 in memory already.
    weights: Vec<f32>,
    base: Vec<f32>,
}

impl Scratch {
    /// Maximum bytes for rows of `cols` columns.
    pub(super) fn bytes(cols: usize) -> u64 {
        12 * cols as u64
    }

    pub(super) fn new(cols: usize) -> Self {
        Self { residual: vec![0.0; cols], ..Self::default() }
    }

    /// The weights of one row as f32.
    pub(super) fn weights<'b>(&'b mut self, float: Float, raw: &'b [u8]) -> &'b [f32] {
        float.view(raw, &mut self.weights)
    }

    /// The weights of one row minus their base; also the weights.
    ///
    /// # Errors
    /// The column of the first residual that is not finite.
    pub(super) fn residual<'b>(
        &'b mut self,
        float: Float,
        raw: &'b [u8],
        base: Base<'_>,
    ) -> Result<(&'b [f32], &'b [f32]), usize> {
        let Self { residual, weights, base: base_weights } = self;
        let weights = float.view(raw, weights);
        match base {
            Base::Quantized { coder, scales: &[scale], multipliers } if !multipliers.is_empty() => {
                subtract_blocks(coder, weights, scale, multipliers, residual);
            }
            Base::Quantized { coder, scales, .. } => {
                let group = coder.grid().kind().group(weights.len());
                let groups = weights.chunks(group).zip(residual.chunks_mut(group)).zip(scales);
                for ((weights, residual), &scale) in groups {
                    subtract_quantized(coder, weights, scale, residual);
                }
            }
            Base::Dense(raw) => subtract(weights, float.view(raw, base_weights), residual),
        }
        if !all_finite(residual) {
            return Err(residual.iter().position(|r| !r.is_finite()).unwrap_or(0));
        }
        Ok((residual, weights))
    }
}

impl Scratch {
    /// The weights of one row minus their base.
    pub(super) fn differences(&mut self, float: Float, raw: &[u8], base: &[f32]) -> &[f32] {
        let Self { residual, weights, .. } = self;
        subtract(float.view(raw, weights), base, residual);
        residual
    }
}

vectorised! {
    /// Finite weights minus their quantised values, with the same bits as [`Coder::code_row`] and
    /// [`dequantize_row`](residua_format::Grid::dequantize_row) give.
    fn subtract_quantized(coder: &Coder, weights: &[f32], scale: f32, residual: &mut [f32]) {
        if scale <= 0.0 {
            residual.copy_from_slice(weights);
        } else if coder.grid().kind().is_codebook() {
            let level = coder.levels(0);
            for (weight, residual) in weights.iter().zip(residual) {
                *residual = *weight - level(*weight / scale) * scale;
            }
        } else {
            for (weight, residual) in weights.iter().zip(residual) {
                *residual = *weight - coder.integer(*weight / scale) * scale;
            }
        }
    }
}

vectorised! {
    /// The same for a row whose blocks have multipliers.
    fn subtract_blocks(coder: &Coder, weights: &[f32], scale: f32, multipliers: &[u8], residual: &mut [f32]) {
        let block = coder.grid().kind().block().unwrap_or(weights.len());
        if scale <= 0.0 {
            return residual.copy_from_slice(weights);
        }
        for ((weights, residual), &multiplier) in weights.chunks(block).zip(residual.chunks_mut(block)).zip(multipliers)
        {
            let level = coder.levels(multiplier);
            for (weight, residual) in weights.iter().zip(residual) {
                *residual = *weight - level(*weight / scale) * scale;
            }
        }
    }
}

vectorised! {
    fn subtract(weights: &[f32], base: &[f32], residual: &mut [f32]) {
        for ((residual, weight), base) in residual.iter_mut().zip(weights).zip(base) {
            *residual = weight - base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use residua_format::{BaseKind, Grid};

    proptest! {
        /// The residual is the weight less what its code and scale stand for.
        #[test]
        fn residuals_follow_from_codes_and_scales(
            weights in prop::collection::vec(
                prop_oneof![-1.0f32..1.0, Just(0.0), prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL], 1..300,
            ),
            scale in prop_oneof![0.0f32..0.3, Just(0.0), Just(1e-40), Just(f32::MAX / 128.0)],
        ) {
            for kind in BaseKind::ALL {
                let mut codes = vec![0; kind.row_bytes(weights.len())];
                let scales = vec![scale; kind.groups(weights.len())];
                let coder = Coder::from(Grid::from(kind));
                let multipliers: Vec<u8> = (0..kind.blocks(weights.len())).map(|i| (i * 7 % 16) as u8).collect();
                coder.code_row(&weights, &scales, &multipliers, &mut codes);
                let mut expected = vec![0.0; weights.len()];
                coder.grid().dequantize_row(&codes, &scales, &mut expected);
                expected.iter_mut().zip(&weights).for_each(|(base, weight)| *base = weight - *base);
                let mut scratch = Scratch::new(weights.len());
                let base = Base::Quantized { coder: &coder, scales: &scales, multipliers: &multipliers };
                let (found, _) = scratch.residual(Float::F32, bytemuck::cast_slice(&weights), base).unwrap();
                let bits = |residual: &[f32]| residual.iter().map(|r| r.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&expected), bits(found), "{}", kind);
            }
        }
    }
}
