//! The residual of one row: weights minus base.

use residua_format::{BaseKind, quantize_row, vectorised};

use crate::float::{Float, all_finite};

/// The source of a row's base.
#[derive(Debug)]
pub(super) enum RowBase<'a> {
    /// The row itself at low precision. Its codes and scales are written here.
    Quantized { kind: BaseKind, codes: &'a mut [u8], scales: &'a mut [f32] },
    /// A row of another checkpoint, of the same element type.
    Dense(&'a [u8]),
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

    /// Weights minus base.
    ///
    /// # Errors
    /// The column of the first residual that is not finite.
    pub(super) fn residual(&mut self, float: Float, raw: &[u8], base: RowBase<'_>) -> Result<&[f32], usize> {
        let Self { residual, weights, base: base_weights } = self;
        let weights = float.view(raw, weights);
        match base {
            RowBase::Quantized { kind, codes, scales } => {
                quantize_row(weights, kind, codes, scales)?;
                subtract_quantized(weights, kind, residual);
            }
            RowBase::Dense(raw) => {
                subtract(weights, float.view(raw, base_weights), residual);
                if !all_finite(residual) {
                    return Err(residual.iter().position(|r| !r.is_finite()).unwrap_or(0));
                }
            }
        }
        Ok(residual)
    }

    /// As [`residual`](Self::residual), without codes. The base is a kind, or a row of another checkpoint.
    pub(super) fn residual_only(
        &mut self,
        float: Float,
        raw: &[u8],
        kind: Option<BaseKind>,
        base: &[u8],
    ) -> Result<&[f32], usize> {
        let Some(kind) = kind else { return self.residual(float, raw, RowBase::Dense(base)) };
        subtract_quantized(float.view(raw, &mut self.weights), kind, &mut self.residual);
        Ok(&self.residual)
    }
}

vectorised! {
    /// Finite weights minus their quantised values, with the same bits as [`quantize_row`] and `dequantize_row` give.
    fn subtract_quantized(weights: &[f32], kind: BaseKind, residual: &mut [f32]) {
        // So large that an addition rounds to whole numbers.
        const ROUND: f32 = 12_582_912.0;
        let limit = f32::from(kind.max_code());
        let group = kind.group(weights.len());
        for (weights, residual) in weights.chunks(group).zip(residual.chunks_mut(group)) {
            let bits = weights.iter().fold(0, |max, w| max.max((w.to_bits() & 0x7FFF_FFFF) as i32));
            let scale = (f32::from_bits(bits as u32) / limit).min(kind.max_scale());
            if scale > 0.0 {
                for (weight, residual) in weights.iter().zip(residual) {
                    let code = (*weight / scale).clamp(-limit, limit) + ROUND - ROUND;
                    *residual = *weight - code * scale;
                }
            } else {
                residual.copy_from_slice(weights);
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
    use residua_format::dequantize_row;

    proptest! {
        /// With and without codes the same residual: the weight less what its code and scale stand for.
        #[test]
        fn both_ways_give_the_same_bits(
            weights in prop::collection::vec(
                prop_oneof![-1.0f32..1.0, Just(0.0), prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL], 1..300,
            ),
        ) {
            let raw: &[u8] = bytemuck::cast_slice(&weights);
            for kind in BaseKind::ALL {
                let mut scratch = Scratch::new(weights.len());
                let mut codes = vec![0; kind.row_bytes(weights.len())];
                let mut scales = vec![0.0; kind.groups(weights.len())];
                let base = RowBase::Quantized { kind, codes: &mut codes, scales: &mut scales };
                let one = scratch.residual(Float::F32, raw, base).unwrap().to_vec();
                let mut plain = vec![0.0; weights.len()];
                dequantize_row(kind, &codes, &scales, &mut plain);
                plain.iter_mut().zip(&weights).for_each(|(base, weight)| *base = weight - *base);
                let other = scratch.residual_only(Float::F32, raw, Some(kind), &[]).unwrap();
                let bits = |residual: &[f32]| residual.iter().map(|r| r.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&one), bits(&plain), "{}", kind);
                prop_assert_eq!(bits(&one), bits(other), "{}", kind);
            }
        }
    }
}
