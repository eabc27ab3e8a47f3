//! What codes stand for.

use super::{BaseKind, bits};
use crate::error::{FormatError, Result};
use crate::vectorised;

/// Multipliers of a row's scale, in 1/256: powers of 2^⅛. A 4-bit number chooses one for a block of columns.
pub const MULTIPLIERS: [u16; 16] =
    [70, 76, 83, 91, 99, 108, 117, 128, 140, 152, 166, 181, 197, 215, 235, 256];

/// A level times a multiplier, rounded to the nearest integer, halves up.
#[inline(always)]
pub(super) fn product(level: i8, multiplier: u16) -> i8 {
    ((i32::from(level) * i32::from(multiplier) + 128) >> 8) as i8
}

/// The multiples of the scale that the codes of a base stand for: integers, or the levels of a codebook. In a kind with
/// [blocks](BaseKind::block) it is the level times the block's [multiplier](MULTIPLIERS), rounded to the nearest integer,
/// halves up.
///
/// A `BaseKind` turns into a grid with `into()`. A codebook then holds the levels that round a normal distribution with
/// the smallest mean square error (Lloyd 1982, Max 1960).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    kind: BaseKind,
    /// As many as the kind has levels, then zeros.
    levels: [i8; 64],
}

impl Grid {
    /// The codebook with these levels.
    ///
    /// # Errors
    /// When the number of levels is not [`BaseKind::levels`], or a level lies below the one before.
    pub fn codebook(kind: BaseKind, levels: &[i8]) -> Result<Self> {
        if levels.len() != kind.levels() {
            let (found, expected) = (levels.len(), kind.levels());
            return Err(FormatError::Length { what: "levels of a codebook", found, expected });
        }
        if let Some(position) = levels.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(FormatError::Level { position: position + 1 });
        }
        let mut all = [0; 64];
        all[..levels.len()].copy_from_slice(levels);
        Ok(Self { kind, levels: all })
    }

    /// How the base is quantised.
    pub fn kind(&self) -> BaseKind {
        self.kind
    }

    /// The levels of a codebook, smallest first; empty if codes are integers.
    pub fn levels(&self) -> &[i8] {
        &self.levels[..self.kind.levels()]
    }

    /// The multiple of the scale in one column of a row of `cols`.
    pub(super) fn multiple(&self, row: &[u8], cols: usize, col: usize) -> i8 {
        let (multipliers, codes) = bits::parts(self.kind, cols, row);
        let raw = bits::one(self.kind, codes, col);
        let level = self.levels[usize::from(raw & 63)];
        match self.kind.block() {
            Some(block) => product(level, MULTIPLIERS[bits::multiplier(multipliers, col / block)]),
            None if self.kind.is_codebook() => level,
            // Shift the code to the top, then back with its sign.
            None => ((raw << (8 - self.kind.bits())) as i8) >> (8 - self.kind.bits()),
        }
    }

    /// The levels of a codebook times a multiplier.
    pub(super) fn times(&self, multiplier: u16) -> Self {
        Self { levels: self.levels.map(|level| product(level, multiplier)), ..*self }
    }

    /// The multiples of the scale in one row of codes.
    ///
    /// # Panics
    /// When `codes` is not [`BaseKind::row_bytes`] long for as many columns as `multiples` has.
    pub fn multiples(&self, codes: &[u8], multiples: &mut [i8]) {
        check_codes(self.kind, codes, multiples.len());
        unpack(self, codes, multiples);
    }

    /// The weights of one row: multiple · scale, exactly what
    /// [`QuantizedBase::weight`](super::QuantizedBase::weight) gives.
    ///
    /// `codes` is the row's [`BaseKind::row_bytes`], `scales` its [`BaseKind::groups`] for `weights.len()` columns.
    ///
    /// # Panics
    /// When `codes` or `scales` has the wrong length.
    pub fn dequantize_row(&self, codes: &[u8], scales: &[f32], weights: &mut [f32]) {
        check_codes(self.kind, codes, weights.len());
        let group = self.kind.group(weights.len());
        assert_eq!(scales.len(), self.kind.groups(weights.len()), "scales of {}", self.kind);
        let parts =
            weights.chunks_mut(group).zip(codes.chunks(self.kind.row_bytes(group).max(1))).zip(scales);
        for ((weights, codes), &scale) in parts {
            decode(self, codes, scale, weights);
        }
    }
}

impl From<BaseKind> for Grid {
    fn from(kind: BaseKind) -> Self {
        // Those of a positive half, as shares of the largest in 1/127.
        let half: &[i8] = match kind {
            BaseKind::Lut2 => &[38, 127],
            BaseKind::Lut3 | BaseKind::Lut3G16 | BaseKind::Lut3G32 => &[14, 45, 79, 127],
            BaseKind::Lut4 | BaseKind::Lut4G16 | BaseKind::Lut4G32 => &[6, 18, 31, 44, 58, 75, 96, 127],
            BaseKind::Lut5 | BaseKind::Lut5G16 | BaseKind::Lut5G32 => {
                &[3, 8, 13, 18, 24, 29, 35, 41, 47, 54, 61, 70, 79, 90, 105, 127]
            }
            BaseKind::Lut6 => &[
                1, 3, 6, 8, 10, 13, 15, 17, 20, 22, 24, 27, 30, 32, 35, 38, 40, 43, 46, 49, 53, 56, 60, 64,
                68, 73, 78, 84, 91, 99, 110, 127,
            ],
            _ => &[],
        };
        let mut levels = [0; 64];
        for (i, &level) in half.iter().enumerate() {
            levels[half.len() + i] = level;
            levels[half.len() - 1 - i] = -level;
        }
        Self { kind, levels }
    }
}

fn check_codes(kind: BaseKind, codes: &[u8], cols: usize) {
    assert_eq!(codes.len(), kind.row_bytes(cols), "bytes of codes for {cols} columns of {kind}");
}

vectorised! {
fn unpack(grid: &Grid, codes: &[u8], multiples: &mut [i8]) {
    if grid.kind == BaseKind::Int8 {
        return multiples.copy_from_slice(bytemuck::cast_slice(codes));
    }
    let mut table = [0i8; 64];
    if grid.kind.is_codebook() {
        table = grid.levels;
    } else {
        table[..8].copy_from_slice(&[0, 1, 2, 3, 4, 5, 6, 7]);
        table[8..16].copy_from_slice(&[-8, -7, -6, -5, -4, -3, -2, -1]);
    }
    let (multipliers, codes) = bits::parts(grid.kind, multiples.len(), codes);
    for (number, out) in multiples.chunks_mut(8).enumerate() {
        let raw = bits::eight(grid.kind, codes, number);
        out.iter_mut().zip(raw).for_each(|(out, raw)| *out = table[usize::from(raw & 63)]);
        if let Some(block) = grid.kind.block() {
            let multiplier = MULTIPLIERS[bits::multiplier(multipliers, 8 * number / block)];
            out.iter_mut().for_each(|out| *out = product(*out, multiplier));
        }
    }
}
}

vectorised! {
/// One group.
fn decode(grid: &Grid, codes: &[u8], scale: f32, weights: &mut [f32]) {
    match grid.kind {
        BaseKind::Int8 => {
            weights.iter_mut().zip(codes).for_each(|(weight, &code)| *weight = f32::from(code as i8) * scale);
        }
        kind if kind.is_codebook() => {
            let values = grid.levels.map(|level| f32::from(level) * scale);
            let (multipliers, codes) = bits::parts(kind, weights.len(), codes);
            for (number, out) in weights.chunks_mut(8).enumerate() {
                let raw = bits::eight(kind, codes, number);
                match kind.block() {
                    None => out.iter_mut().zip(raw).for_each(|(out, raw)| *out = values[usize::from(raw & 63)]),
                    Some(block) => {
                        let multiplier = MULTIPLIERS[bits::multiplier(multipliers, 8 * number / block)];
                        let multiple = |raw: u8| product(grid.levels[usize::from(raw & 63)], multiplier);
                        out.iter_mut().zip(raw).for_each(|(out, raw)| *out = f32::from(multiple(raw)) * scale);
                    }
                }
            }
        }
        _ => {
            let (pairs, odd) = weights.as_chunks_mut::<2>();
            for (pair, &byte) in pairs.iter_mut().zip(codes) {
                *pair = [f32::from((byte << 4) as i8 >> 4) * scale, f32::from(byte as i8 >> 4) * scale];
            }
            if let ([odd], Some(&byte)) = (odd, codes.last()) {
                *odd = f32::from((byte << 4) as i8 >> 4) * scale;
            }
        }
    }
}
}
