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
    codes: Vec<u8>,
    scales: Vec<f32>,
}

impl Scratch {
    /// Bytes for rows of `cols` columns, at most.
    pub(crate) fn bytes(cols: usize) -> u64 {
        4 * cols as u64 * 2 + cols as u64 + 4 * BaseKind::Int4G32.groups(cols) as u64
    }

    pub(crate) fn new(cols: usize, kind: Option<BaseKind>) -> Self {
        let (code_bytes, groups) = kind.map_or((0, 0), |kind| (kind.row_bytes(cols), kind.groups(cols)));
        Self {
            residual: vec![0.0; cols],
            base: vec![0.0; cols],
            codes: vec![0; code_bytes],
            scales: vec![0.0; groups],
        }
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

    /// As [`residual`](Self::residual), where nobody wants the codes.
    pub(crate) fn residual_only(
        &mut self,
        float: Float,
        weights: &[u8],
        kind: Option<BaseKind>,
        base: &[u8],
    ) -> Result<&[f32], usize> {
        let Some(kind) = kind else { return self.residual(float, weights, RowBase::Dense(base)) };
        let (mut codes, mut scales) = (std::mem::take(&mut self.codes), std::mem::take(&mut self.scales));
        let base = RowBase::Quantized { kind, codes: &mut codes, scales: &mut scales };
        let result = self.residual(float, weights, base).map(drop);
        (self.codes, self.scales) = (codes, scales);
        result.map(|()| &*self.residual)
    }
}

vectorised! {
    fn subtract(weights: &mut [f32], base: &[f32]) {
        for (weight, base) in weights.iter_mut().zip(base) {
            *weight -= base;
        }
    }
}
