//! The levels of a codebook, and the errors that they leave, from a sample of rows.
//!
//! The method is Lloyd's (1982), with a scale per row or block: every weight takes the nearest level, every level the
//! weighted mean of its weights, every row or block the scale that fits its levels best. The weights with the largest
//! errors take no part, because the residual repairs them.
//!
//! Without calibration one level is 0. Columns of small weights often have large inputs. Levels on both sides of 0 would
//! make the errors of these weights as large as the weights. The error of all weights together hardly changes.

use residua_format::{BaseKind, Grid, MULTIPLIERS};

use super::residual::Scratch;
use super::sample::spread;
use crate::SplitError;
use crate::rows::Rows;

/// Weights in the sample for levels. The number is fixed: the levels depend on it, and they must not depend on the
/// budget.
const SAMPLE: usize = 1 << 15;
/// Weights in the sample for errors.
const FEW: usize = 1 << 13;
/// Rows of a sample, if the tensor has so many.
const ROWS: usize = 16;
/// Rounds for levels. Later ones change the error by less than 1 in 1,000.
const ROUNDS: usize = 16;
/// Rounds for errors, from the levels of another share on.
const MORE_ROUNDS: usize = 2;

/// Bytes of the sample for levels.
pub(super) const BYTES: u64 = (30 * SAMPLE) as u64;
/// Bytes of the sample for errors, without a row.
pub(super) const CURVE_BYTES: u64 = (30 * FEW) as u64;

/// The levels for a residual with a `share` of the weights. `factors` weigh the errors of each column. `zero` says
/// whether one level is 0.
pub(super) fn learn(
    rows: &Rows<'_>,
    kind: BaseKind,
    share: f64,
    (factors, zero): (&[f32], bool),
) -> Result<Grid, SplitError> {
    let normal = Grid::from(kind);
    let mut sample = Sample::read(rows, kind, (factors, zero), SAMPLE)?;
    if !sample.normalise() {
        return Ok(normal);
    }
    let mut levels = normal_levels(kind);
    let kept = sample.kept(share);
    for _ in 0..ROUNDS {
        sample.round(&mut levels, kept);
    }
    Ok(grid(kind, &levels).unwrap_or(normal))
}

/// The squared error that a base of each kind leaves with a residual of each share, as a share of the sum of squares;
/// for all shares of the first kind, then the second, and so on. `shares` rise.
pub(super) fn errors(
    rows: &Rows<'_>,
    kinds: &[BaseKind],
    shares: &[f64],
    (factors, zero): (&[f32], bool),
) -> Result<Vec<f64>, SplitError> {
    let mut errors = Vec::with_capacity(kinds.len() * shares.len());
    for &kind in kinds {
        let mut sample = Sample::read(rows, kind, (factors, zero), FEW)?;
        if !sample.normalise() {
            return Ok(vec![0.0; kinds.len() * shares.len()]);
        }
        let mut levels = normal_levels(kind);
        let first = sample.kept(shares[0]);
        (MORE_ROUNDS..ROUNDS).for_each(|_| sample.round(&mut levels, first));
        for &share in shares {
            let kept = sample.kept(share);
            (0..MORE_ROUNDS).for_each(|_| sample.round(&mut levels, kept));
            errors.push(sample.error(&levels, kept));
        }
    }
    Ok(errors)
}

/// The levels for a normal distribution of variance 1.
fn normal_levels(kind: BaseKind) -> Vec<f32> {
    // The largest of 4, 8, 16, 32 and 64.
    let largest = [1.51, 2.15, 2.73, 3.26, 3.74][kind.bits() - 2];
    Grid::from(kind).levels().iter().map(|&level| f32::from(level) * largest / 127.0).collect()
}

/// The levels as multiples of 1/127 of the largest.
fn grid(kind: BaseKind, levels: &[f32]) -> Option<Grid> {
    let largest = levels.iter().fold(0.0f32, |largest, level| largest.max(level.abs()));
    let mut multiples: Vec<i8> = levels.iter().map(|level| (level / largest * 127.0).round() as i8).collect();
    multiples.sort_unstable();
    Grid::codebook(kind, &multiples).ok().filter(|_| largest > 0.0 && largest.is_finite())
}

/// Weights of some rows.
struct Sample {
    /// In units of their row's root mean square.
    weights: Vec<f32>,
    /// The factors of their errors, squared.
    factors: Vec<f32>,
    /// Columns of a row.
    cols: usize,
    /// Columns that share a scale: a row or a block.
    width: usize,
    /// Whether scales become multipliers of a row's scale.
    blocks: bool,
    /// Whether one level is 0.
    zero: bool,
    /// The scales of each row, in the same unit.
    scales: Vec<f32>,
    /// The factor of each row's costs: the square of its root mean square, as a share of the largest.
    shares: Vec<f32>,
    /// The nearest level of each weight, and the cost of its error.
    nearest: Vec<u8>,
    costs: Vec<f32>,
    sorted: Vec<f32>,
}

impl Sample {
    /// About `size` weights: some columns of several rows, for a kind with blocks whole blocks.
    fn read(
        rows: &Rows<'_>,
        kind: BaseKind,
        (factors, zero): (&[f32], bool),
        size: usize,
    ) -> Result<Self, SplitError> {
        let stride = rows.cols.div_ceil(size / rows.rows.min(ROWS));
        let chosen = |row: &[f32]| -> Vec<f32> {
            row.chunks(kind.block().unwrap_or(1)).step_by(stride).flatten().copied().collect()
        };
        let factors = chosen(factors);
        let cols = factors.len();
        let count = (size / cols).clamp(1, rows.rows);
        let (mut scratch, mut raw) = (Scratch::new(0), vec![0; rows.row_bytes()]);
        let mut weights = Vec::with_capacity(count * cols);
        for i in 0..count {
            rows.read(if count == rows.rows { i } else { spread(i, rows.rows) }, &mut raw)?;
            weights.extend(chosen(scratch.weights(rows.float, &raw)));
        }
        let length = weights.len();
        // Factors as shares of the largest: their squares neither overflow nor vanish.
        let largest = factors.iter().fold(f32::MIN_POSITIVE, |largest, &factor| largest.max(factor));
        Ok(Self {
            weights,
            factors: factors.iter().map(|factor| (factor / largest).powi(2)).collect(),
            cols,
            width: kind.block().unwrap_or(cols),
            blocks: kind.block().is_some(),
            zero,
            scales: vec![1.0; count * cols.div_ceil(kind.block().unwrap_or(cols))],
            shares: vec![0.0; count],
            nearest: vec![0; length],
            costs: vec![0.0; length],
            sorted: vec![0.0; length],
        })
    }

    /// Divides every row by its root mean square, that of a block becomes its first scale. False if all weights are 0 or some are not finite.
    fn normalise(&mut self) -> bool {
        let mean = |row: &[f32]| {
            let squares = row.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>();
            (squares / row.len() as f64).sqrt()
        };
        let means: Vec<f64> = self.weights.chunks(self.cols).map(mean).collect();
        let largest = means.iter().copied().fold(0.0, f64::max);
        if !(largest > 0.0 && means.iter().all(|mean| mean.is_finite())) {
            return false;
        }
        let rows = self.weights.chunks_mut(self.cols).zip(&mut self.shares).zip(means);
        for ((row, share), mean) in rows {
            *share = (mean / largest).powi(2) as f32;
            row.iter_mut()
                .for_each(|weight| *weight = (f64::from(*weight) / mean.max(f64::MIN_POSITIVE)) as f32);
        }
        if self.blocks {
            let blocks = self.weights.chunks(self.cols).flat_map(|row| row.chunks(self.width));
            self.scales
                .iter_mut()
                .zip(blocks)
                .for_each(|(scale, block)| *scale = mean(block).max(1e-3) as f32);
        }
        true
    }

    /// Weights that the residual repairs.
    fn kept(&self, share: f64) -> usize {
        (share * self.weights.len() as f64).round() as usize
    }

    /// The error that is left, as a share of the sum of squares.
    fn error(&mut self, levels: &[f32], kept: usize) -> f64 {
        let scales = self.scales.clone();
        if self.blocks {
            self.round_scales();
        }
        let cut = self.assign(levels, kept);
        self.scales = scales;
        let (mut error, mut squares) = (0.0, 0.0);
        for (number, row) in self.weights.chunks(self.cols).enumerate() {
            for (col, &weight) in row.iter().enumerate() {
                let cost = self.costs[number * self.cols + col];
                error += if cost > cut { 0.0 } else { f64::from(cost) };
                squares += f64::from(weight * weight * self.factors[col] * self.shares[number]);
            }
        }
        error / squares.max(f64::MIN_POSITIVE)
    }

    /// Rounds the scales of blocks to multipliers of the largest in their row.
    fn round_scales(&mut self) {
        for row in self.scales.chunks_mut(self.cols.div_ceil(self.width)) {
            let unit = row.iter().copied().fold(0.0, f32::max) / 256.0;
            for scale in row {
                let distance = |multiplier: &f32| (multiplier * unit / *scale).ln().abs();
                let multipliers = MULTIPLIERS.iter().map(|&multiplier| f32::from(multiplier));
                let nearest = multipliers.min_by(|a, b| distance(a).total_cmp(&distance(b)));
                *scale = nearest.map_or(*scale, |multiplier| multiplier * unit);
            }
        }
    }

    /// One round for levels and scales. The `kept` weights with the largest errors take no part.
    fn round(&mut self, levels: &mut [f32], kept: usize) {
        let cut = self.assign(levels, kept);
        let mut sums = [(0.0f64, 0.0f64); 64];
        let mut scales = self.scales.iter_mut();
        for (number, row) in self.weights.chunks(self.cols).enumerate() {
            let share = f64::from(self.shares[number]);
            for ((block, row), scale) in row.chunks(self.width).enumerate().zip(&mut scales) {
                let (mut products, mut squares) = (0.0f64, 0.0f64);
                for (col, &weight) in (block * self.width..).zip(row) {
                    let at = number * self.cols + col;
                    if self.costs[at] > cut {
                        continue;
                    }
                    let (nearest, weight) = (usize::from(self.nearest[at]), f64::from(weight));
                    let (factor, level) = (f64::from(self.factors[col]), f64::from(levels[nearest]));
                    products += factor * weight * level;
                    squares += factor * level * level;
                    let (own, sum) = (f64::from(*scale), &mut sums[nearest]);
                    *sum = (sum.0 + share * factor * own * weight, sum.1 + share * factor * own * own);
                }
                if products > 0.0 && squares > 0.0 {
                    *scale = (products / squares) as f32;
                }
            }
        }
        for (level, (weights, factors)) in levels.iter_mut().zip(sums) {
            if factors > 0.0 {
                *level = (weights / factors) as f32;
            }
        }
        let least = levels.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs()));
        if let Some(least) = least.filter(|_| self.zero) {
            *least = 0.0;
        }
        levels.sort_unstable_by(f32::total_cmp);
    }

    /// Finds the nearest levels. Returns the largest cost of a weight that is not kept.
    fn assign(&mut self, levels: &[f32], kept: usize) -> f32 {
        let halves: Vec<f32> = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
        let mut scales = self.scales.iter();
        for (number, row) in self.weights.chunks(self.cols).enumerate() {
            let share = self.shares[number];
            for ((block, row), scale) in row.chunks(self.width).enumerate().zip(&mut scales) {
                for (col, &weight) in (block * self.width..).zip(row) {
                    let steps = weight / scale;
                    let nearest = halves.partition_point(|&half| half < steps);
                    let error = weight - levels[nearest] * scale;
                    let at = number * self.cols + col;
                    self.nearest[at] = nearest as u8;
                    self.costs[at] = error * error * self.factors[col] * share;
                }
            }
        }
        if kept == 0 {
            return f32::INFINITY;
        }
        self.sorted.copy_from_slice(&self.costs);
        let at = kept.min(self.sorted.len() - 1);
        *self.sorted.select_nth_unstable_by(at, |a, b| b.total_cmp(a)).1
    }
}
