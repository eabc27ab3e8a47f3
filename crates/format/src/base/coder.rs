//! Weights to the nearest codes.

use super::{BaseKind, Grid, bits};
use crate::vectorised;

/// Finds the codes nearest to weights.
///
/// Integers come from rounding. A codebook has a table of its nearest levels: halves between neighbouring levels are
/// multiples of ½, so the nearest level is the same all the way from one multiple of ½ to the next.
#[derive(Debug, Clone)]
pub struct Coder {
    grid: Grid,
    /// The largest multiple.
    limit: f32,
    nearest: Box<Nearest>,
}

/// Levels by the low bits of twice a multiple.
#[derive(Debug, Clone)]
struct Nearest {
    levels: [f32; CELLS],
    codes: [u8; CELLS],
}

/// Twice the multiples from −127.5 to 127.5, and a power of two.
const CELLS: usize = 512;

impl From<Grid> for Coder {
    fn from(grid: Grid) -> Self {
        let mut nearest = Box::new(Nearest { levels: [0.0; CELLS], codes: [0; CELLS] });
        for step in -256..256 {
            // The middle of a cell.
            let multiple = f32::from(step as i16) / 2.0 + 0.25;
            let distance = |code: &usize| (f32::from(grid.levels()[*code]) - multiple).abs();
            let codes = 0..grid.levels().len();
            let Some(code) = codes.min_by(|a, b| distance(a).total_cmp(&distance(b))) else { break };
            nearest.levels[cell(multiple)] = grid.levels()[code].into();
            nearest.codes[cell(multiple)] = code as u8;
        }
        Self { grid, limit: grid.kind().max_code().into(), nearest }
    }
}

/// The cell of a multiple between −128 and 128.
#[inline(always)]
fn cell(multiple: f32) -> usize {
    // 1.5·2²² leaves one bit for fractions: the addition rounds to multiples of ½, and the low bits count them in two's
    // complement. Less ¼ it rounds down.
    const ROUND: f32 = 6_291_456.0;
    ((multiple - 0.25 + ROUND).to_bits() as usize) % CELLS
}

impl Coder {
    /// What the codes stand for.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The multiple of the scale nearest to `steps`, a weight divided by its scale.
    #[inline(always)]
    pub fn nearest(&self, steps: f32) -> f32 {
        match self.grid.kind().is_codebook() {
            true => self.level(steps),
            false => self.integer(steps),
        }
    }

    /// As [`nearest`](Self::nearest), for a codebook.
    #[doc(hidden)]
    #[inline(always)]
    pub fn level(&self, steps: f32) -> f32 {
        self.nearest.levels[cell(steps.clamp(-self.limit, self.limit))]
    }

    /// As [`nearest`](Self::nearest), for integers: ties to even.
    #[doc(hidden)]
    #[inline(always)]
    pub fn integer(&self, steps: f32) -> f32 {
        // So large that an addition rounds to whole numbers.
        const ROUND: f32 = 12_582_912.0;
        steps.clamp(-self.limit, self.limit) + ROUND - ROUND
    }

    /// The codes of one row for given scales. A group with scale 0 has the code nearest to 0.
    ///
    /// `weights` is one row of finite weights, `scales` its [`BaseKind::groups`] scales, each finite and at least 0.
    /// The function writes all [`BaseKind::row_bytes`] of `codes`.
    ///
    /// # Panics
    /// When `codes` or `scales` has the wrong length.
    pub fn code_row(&self, weights: &[f32], scales: &[f32], codes: &mut [u8]) {
        let (kind, cols) = (self.grid.kind(), weights.len());
        assert_eq!(codes.len(), kind.row_bytes(cols), "bytes of codes for {cols} columns of {kind}");
        assert_eq!(scales.len(), kind.groups(cols), "scales for {cols} columns of {kind}");
        let group = kind.group(cols);
        let groups = weights.chunks(group).zip(codes.chunks_mut(kind.row_bytes(group))).zip(scales);
        for ((weights, codes), &scale) in groups {
            match kind {
                BaseKind::Int8 => code_int8(weights, scale, bytemuck::cast_slice_mut(codes)),
                kind if kind.is_codebook() => code_levels(self, weights, scale, codes),
                _ => code_int4(weights, scale, codes),
            }
        }
    }
}

/// The code nearest to a weight. `scale` must be above 0. The function divides by the scale: multiplying by the
/// inverse could overflow for subnormal scales, and division is as fast as memory.
#[inline(always)]
fn code(weight: f32, scale: f32, limit: f32) -> i8 {
    // 1.5·2²³ leaves no bits for fractions, so the addition rounds, and the low byte is the integer in two's
    // complement. `f32::round` is a function call on plain x86-64 and keeps the loop scalar.
    const ROUND: f32 = 12_582_912.0;
    let steps = (weight / scale).clamp(-limit, limit);
    (steps + ROUND).to_bits() as i8
}

vectorised! {
/// Codes of one byte each, also those of an i8 value plane.
pub(super) fn code_int8(weights: &[f32], scale: f32, codes: &mut [i8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    for (out, &weight) in codes.iter_mut().zip(weights) {
        *out = code(weight, scale, 127.0);
    }
}
}

vectorised! {
fn code_int4(weights: &[f32], scale: f32, codes: &mut [u8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    let (pairs, odd) = weights.as_chunks::<2>();
    for (out, &[low, high]) in codes.iter_mut().zip(pairs) {
        let (low, high) = (code(low, scale, 7.0), code(high, scale, 7.0));
        *out = (low as u8 & 15) | (high as u8) << 4;
    }
    if let ([odd], Some(out)) = (odd, codes.last_mut()) {
        *out = code(*odd, scale, 7.0) as u8 & 15;
    }
}
}

vectorised! {
fn code_levels(coder: &Coder, weights: &[f32], scale: f32, codes: &mut [u8]) {
    let steps = |weight: f32| if scale > 0.0 { (weight / scale).clamp(-coder.limit, coder.limit) } else { 0.0 };
    bits::pack(coder.grid.kind(), weights.len(), codes, |col| coder.nearest.codes[cell(steps(weights[col]))]);
}
}
