//! Weights to the nearest codes.

use std::sync::Arc;

use super::{BaseKind, Grid, MULTIPLIERS, bits};
use crate::vectorised;

/// Finds the codes nearest to weights.
///
/// Integers come from rounding. A codebook has a table of its nearest levels: halves between neighbouring levels are
/// multiples of ½, so the nearest level is the same all the way from one multiple of ½ to the next. In a kind with blocks
/// there is a table for each multiplier.
#[derive(Debug, Clone)]
pub struct Coder {
    grid: Grid,
    /// The largest multiple.
    limit: f32,
    nearest: Arc<[Nearest]>,
    /// The levels with all multipliers side by side, by cell; empty in a kind without blocks.
    products: Arc<[[i8; MULTIPLIERS.len()]]>,
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
        let nearest: Arc<[Nearest]> = match grid.kind().block() {
            Some(_) => MULTIPLIERS.iter().map(|&multiplier| Nearest::of(&grid.times(multiplier))).collect(),
            None => [Nearest::of(&grid)].into(),
        };
        let products: Arc<[_]> = match nearest.len() {
            1 => [].into(),
            _ => (0..CELLS).map(|cell| std::array::from_fn(|i| nearest[i].levels[cell] as i8)).collect(),
        };
        Self { grid, limit: grid.kind().max_code().into(), nearest, products }
    }
}

impl Nearest {
    fn of(grid: &Grid) -> Self {
        let mut nearest = Self { levels: [0.0; CELLS], codes: [0; CELLS] };
        let levels = grid.levels();
        for step in -256..256 {
            // The middle of a cell. Halves are multiples of ½, so none is there.
            let multiple = f32::from(step as i16) / 2.0 + 0.25;
            let below = |pair: &[i8]| (f32::from(pair[0]) + f32::from(pair[1])) / 2.0 < multiple;
            let code = levels.windows(2).take_while(|pair| below(pair)).count();
            nearest.levels[cell(multiple)] = levels.get(code).copied().unwrap_or(0).into();
            nearest.codes[cell(multiple)] = code as u8;
        }
        nearest
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
    /// Bytes of the tables. Clones share them.
    pub const fn bytes(kind: BaseKind) -> usize {
        match kind.block() {
            Some(_) => (size_of::<Nearest>() + CELLS) * MULTIPLIERS.len(),
            None => size_of::<Nearest>(),
        }
    }

    /// What the codes stand for.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }

    /// The multiple of the scale nearest to `steps`, a weight divided by its scale. `multiplier` is the number of its
    /// block's multiplier, 0 to 15; 0 if the kind has no blocks.
    ///
    /// # Panics
    /// When there is no such multiplier.
    #[inline(always)]
    pub fn nearest(&self, steps: f32, multiplier: u8) -> f32 {
        match self.grid.kind().is_codebook() {
            true => self.levels(multiplier)(steps),
            false => self.integer(steps),
        }
    }

    /// The number of the table of unchanged levels, for [`levels`](Self::levels).
    #[doc(hidden)]
    pub fn whole(&self) -> u8 {
        self.nearest.len() as u8 - 1
    }

    /// As [`nearest`](Self::nearest), for a codebook.
    #[doc(hidden)]
    #[inline(always)]
    pub fn levels(&self, multiplier: u8) -> impl Fn(f32) -> f32 {
        let (nearest, limit) = (&self.nearest[usize::from(multiplier)], self.limit);
        move |steps| nearest.levels[cell(steps.clamp(-limit, limit))]
    }

    /// As [`nearest`](Self::nearest), with each multiplier.
    ///
    /// # Panics
    /// When the kind has no blocks.
    #[doc(hidden)]
    #[inline(always)]
    pub fn products(&self) -> impl Fn(f32) -> [i8; MULTIPLIERS.len()] {
        let (products, limit) = (&self.products[..CELLS], self.limit);
        move |steps| products[cell(steps.clamp(-limit, limit))]
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
    /// `weights` is one row of finite weights, `scales` its [`BaseKind::groups`] scales, each finite and at least 0,
    /// `multipliers` the numbers of its [`BaseKind::blocks`] multipliers, 0 to 15. The function writes all
    /// [`BaseKind::row_bytes`] of `codes`.
    ///
    /// # Panics
    /// When `codes`, `scales` or `multipliers` has the wrong length, or there is no such multiplier.
    pub fn code_row(&self, weights: &[f32], scales: &[f32], multipliers: &[u8], codes: &mut [u8]) {
        let (kind, cols) = (self.grid.kind(), weights.len());
        assert_eq!(codes.len(), kind.row_bytes(cols), "bytes of codes for {cols} columns of {kind}");
        assert_eq!(scales.len(), kind.groups(cols), "scales for {cols} columns of {kind}");
        assert_eq!(multipliers.len(), kind.blocks(cols), "multipliers for {cols} columns of {kind}");
        let group = kind.group(cols);
        let groups = weights.chunks(group).zip(codes.chunks_mut(kind.row_bytes(group))).zip(scales);
        for ((weights, codes), &scale) in groups {
            match kind {
                BaseKind::Int8 => code_int8(weights, scale, bytemuck::cast_slice_mut(codes)),
                kind if kind.is_codebook() => code_levels(self, weights, scale, multipliers, codes),
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
fn code_levels(coder: &Coder, weights: &[f32], scale: f32, multipliers: &[u8], codes: &mut [u8]) {
    let (kind, cols) = (coder.grid.kind(), weights.len());
    let steps = |weight: f32| if scale > 0.0 { (weight / scale).clamp(-coder.limit, coder.limit) } else { 0.0 };
    let code = |table: &Nearest, col: usize| table.codes[cell(steps(weights[col]))];
    let (packed, codes) = codes.split_at_mut(kind.multiplier_bytes(cols));
    bits::pack_multipliers(multipliers, packed);
    match kind.block() {
        None => bits::pack(kind, cols, codes, |col| code(&coder.nearest[0], col)),
        Some(block) => {
            let table = |col: usize| &coder.nearest[usize::from(multipliers[col / block])];
            bits::pack(kind, cols, codes, |col| code(table(col), col));
        }
    }
}
}
