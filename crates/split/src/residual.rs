//! One row's residual, the weight less its base.

use residua_format::{BaseKind, dequantize_row, quantize_row};

use crate::float::{Float, all_finite};
use crate::vectorised::vectorised;

/// Where a row's base comes from.
#[derive(Debug)]
pub(crate) enum RowBase<'a> {
    /// The row itself at low precision: codes and scales are written here.
    Quantized { kind: BaseKind, codes: &'a mut [u8], scales: &'a mut [f32] },
    /// Another row, of the same element type.
    Dense(&'a [u8]),
}

/// Room for one row.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual, and before it the weights.
    residual: Vec<f32>,
    base: Vec<f32>,
}

impl Scratch {
    /// Bytes for rows of `cols` columns, at most.
    pub(crate) fn bytes(cols: usize) -> u64 {
        8 * cols as u64
    }

    pub(crate) fn new(cols: usize) -> Self {
        Self { residual: vec![0.0; cols], base: vec![0.0; cols] }
    }

    /// Weights less base.
    ///
    /// # Errors
    /// With the column of the first residual that is not finite.
    pub(crate) fn residual(
        &mut self,
        float: Float,
        weights: &[u8],
        base: RowBase<'_>,
    ) -> Result<&[f32], usize> {
        let residual = &mut self.residual;
        float.widen(weights, residual);
        match base {
            RowBase::Quantized { kind, codes, scales } => {
                quantize_row(residual, kind, codes, scales)?;
                dequantize_row(kind, codes, scales, &mut self.base);
                subtract(residual, &self.base);
            }
            RowBase::Dense(raw) => {
                float.widen(raw, &mut self.base);
                subtract(residual, &self.base);
                if !all_finite(residual) {
                    return Err(residual.iter().position(|r| !r.is_finite()).unwrap_or(0));
                }
            }
        }
        Ok(residual)
    }

    /// As [`residual`](Self::residual), where nobody wants the codes: a base kind, or the base's row.
    pub(crate) fn residual_only(
        &mut self,
        float: Float,
        weights: &[u8],
        kind: Option<BaseKind>,
        base: &[u8],
    ) -> Result<&[f32], usize> {
        let Some(kind) = kind else { return self.residual(float, weights, RowBase::Dense(base)) };
        float.widen(weights, &mut self.residual);
        subtract_quantized(&mut self.residual, kind);
        Ok(&self.residual)
    }
}

vectorised! {
    /// Finite weights less what [`quantize_row`] and [`dequantize_row`] make of them, bit for bit.
    fn subtract_quantized(weights: &mut [f32], kind: BaseKind) {
        // As large as makes an addition round to whole numbers.
        const ROUND: f32 = 12_582_912.0;
        let limit = f32::from(kind.max_code());
        for weights in weights.chunks_mut(kind.group(weights.len())) {
            let bits = weights.iter().fold(0, |max, w| max.max((w.to_bits() & 0x7FFF_FFFF) as i32));
            let scale = (f32::from_bits(bits as u32) / limit).min(kind.max_scale());
            if scale > 0.0 {
                for weight in weights {
                    let code = (*weight / scale).clamp(-limit, limit) + ROUND - ROUND;
                    *weight -= code * scale;
                }
            }
        }
    }
}

vectorised! {
    fn subtract(weights: &mut [f32], base: &[f32]) {
        for (weight, base) in weights.iter_mut().zip(base) {
            *weight -= base;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// With and without codes, the same residual.
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
                let other = scratch.residual_only(Float::F32, raw, Some(kind), &[]).unwrap();
                let bits = |residual: &[f32]| residual.iter().map(|r| r.to_bits()).collect::<Vec<_>>();
                prop_assert_eq!(bits(&one), bits(other), "{}", kind);
            }
        }
    }
}
