//! Scores and the one that is k-th highest.
//!
//! The score `residual² · h` of a weight is compared through its square root, `|residual| · √h`, with √h
//! scaled by a power of two so that the largest lies in [0.5, 1): the order is the same, nothing overflows,
//! and nothing underflows that residual² would have lost. A score is thus a non-negative f32, and such floats
//! order as their bits do.

use std::sync::{Mutex, PoisonError};

use crate::vectorised::vectorised;

/// Bits of infinity: above those of every score.
const INFINITE: u32 = 0x7F80_0000;
/// Scores that are looked at together.
const CHUNK: usize = 32;
/// Scores inside the window that are counted together.
const GATHERED: usize = 512;

/// The weight of every column in a score.
#[derive(Debug, Default)]
pub(crate) struct ColumnWeights {
    weights: Vec<f32>,
    /// What √h was multiplied by: a power of two.
    scale: f64,
}

impl ColumnWeights {
    /// From h, every one finite and at least 0. If all are 0, all count as 1.
    pub(crate) fn set(&mut self, h: impl Iterator<Item = f64> + Clone) {
        let largest = h.clone().fold(0.0, f64::max).sqrt();
        self.weights.clear();
        if largest == 0.0 {
            self.scale = 1.0;
            self.weights.extend(h.map(|_| 1.0));
            return;
        }
        // The exponent of f64; √h of any f32 matrix is far from f64's subnormals.
        let exponent = ((largest.to_bits() >> 52) & 0x7FF) as i32 - 1022;
        self.scale = 2f64.powi(-exponent);
        self.weights.extend(h.map(|h| (h.sqrt() * self.scale) as f32));
    }

    pub(crate) fn get(&self) -> &[f32] {
        &self.weights
    }

    /// The comparable score that stands for a score `residual² · h`.
    pub(crate) fn comparable(&self, score: f32) -> f32 {
        ((f64::from(score)).sqrt() * self.scale) as f32
    }

    /// The score `residual² · h` that a comparable one stands for.
    pub(crate) fn score(&self, comparable: f32) -> f64 {
        (f64::from(comparable) / self.scale).powi(2)
    }
}

/// The comparable score of one weight.
#[inline(always)]
pub(crate) fn comparable(residual: f32, weight: f32) -> f32 {
    residual.abs() * weight
}

/// Counts scores: how many lie above a window, and how many at each place in it. Shared by threads.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Bits of the lowest score in the window.
    low: u32,
    /// Bits of the lowest score above the window.
    high: u32,
    /// A bin holds `2^shift` neighbouring floats.
    shift: u32,
    /// Scores above the window, and in each bin.
    counts: Mutex<(u64, Vec<u64>)>,
}

impl Histogram {
    /// Bytes of `bins` bins.
    pub(crate) fn bytes(bins: usize) -> u64 {
        8 * bins as u64
    }

    fn reset(&mut self, low: u32, high: u32, most: usize) {
        let width = (high - low) as usize;
        self.shift = width.div_ceil(most).next_power_of_two().ilog2();
        (self.low, self.high) = (low, high);
        let (above, bins) = self.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        *above = 0;
        bins.clear();
        bins.resize(width.div_ceil(1 << self.shift), 0);
    }

    /// Counts one row's scores.
    pub(crate) fn add(&self, residuals: &[f32], weights: &[f32]) {
        let mut counter = Counter { histogram: self, above: 0, inside: [0; GATHERED], length: 0 };
        count(&mut counter, residuals, weights);
        counter.flush();
    }
}

/// One row's way into a shared histogram. Bins are far apart in memory; many at a time are added while their
/// cache lines come in together, which atomic additions would not do.
struct Counter<'a> {
    histogram: &'a Histogram,
    above: u64,
    inside: [u32; GATHERED],
    length: usize,
}

impl Counter<'_> {
    /// Takes those that lie inside, without a branch: which they are cannot be predicted.
    #[inline(always)]
    fn push(&mut self, scores: &[i32], low: i32, high: i32) {
        if self.length > GATHERED - CHUNK {
            self.flush();
        }
        let mut length = self.length;
        for &bits in scores {
            self.inside[length] = bits as u32;
            length += usize::from((bits >= low) & (bits < high));
        }
        self.length = length;
    }

    #[inline(never)]
    fn flush(&mut self) {
        let mut counts = self.histogram.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (above, bins) = &mut *counts;
        *above += std::mem::take(&mut self.above);
        for bits in &self.inside[..self.length] {
            bins[((bits - self.histogram.low) >> self.histogram.shift) as usize] += 1;
        }
        self.length = 0;
    }
}

vectorised! {
    fn count(counter: &mut Counter<'_>, residuals: &[f32], weights: &[f32]) {
        // Signed integers, for which there are instructions; the sign is never set.
        let (low, high) = (counter.histogram.low as i32, counter.histogram.high as i32);
        let (r, r_rest) = residuals.as_chunks::<CHUNK>();
        let (w, w_rest) = weights.as_chunks::<CHUNK>();
        // One sum per lane.
        let mut above = [0i32; CHUNK];
        for (r, w) in r.iter().zip(w) {
            let mut scores = [0i32; CHUNK];
            let mut inside = 0;
            for i in 0..CHUNK {
                let score = comparable(r[i], w[i]).to_bits() as i32;
                scores[i] = score;
                above[i] += i32::from(score >= high);
                inside |= i32::from(score >= low) & i32::from(score < high);
            }
            if inside != 0 {
                counter.push(&scores, low, high);
            }
        }
        counter.above += above.iter().map(|&count| count as u64).sum::<u64>();
        let mut rest = [0; CHUNK];
        for (score, (&r, &w)) in rest.iter_mut().zip(r_rest.iter().zip(w_rest)) {
            *score = comparable(r, w).to_bits() as i32;
            counter.above += u64::from(*score >= high);
        }
        counter.push(&rest[..r_rest.len()], low, high);
    }
}

/// Which weights are kept: every one with a comparable score above `score`, and the first `ties` of those
/// that have exactly it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cut {
    pub(crate) score: f32,
    pub(crate) ties: u64,
}

/// A guess at where the cut lies, in bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guess {
    low: u32,
    high: u32,
}

impl Guess {
    /// Anywhere.
    pub(crate) const NONE: Self = Self { low: 0, high: INFINITE };

    /// Where the cut lies for a `share` of all scores, from the scores of some rows of `cols` each, as
    /// comparable bits. Wide enough to be wrong only on matrices that the rows do not stand for; a wrong
    /// guess costs time, never the right answer. `scratch` is as long as `scores`.
    pub(crate) fn from_rows(share: f64, scores: &[f32], cols: usize, scratch: &mut [f32]) -> Self {
        let (count, rows) = (scores.len(), scores.len() / cols.max(1));
        if rows < 8 {
            return Self::NONE;
        }
        scratch.copy_from_slice(scores);
        // The score below which a share of all lie.
        let mut highest = |share: f64| {
            let rank = (share * count as f64).round();
            if rank >= count as f64 {
                return 0.0;
            } else if rank < 1.0 {
                return f32::from_bits(INFINITE);
            }
            *scratch.select_nth_unstable_by(rank as usize, |a, b| b.total_cmp(a)).1
        };
        // Rows differ more than chance would have it, so the error follows from what each row alone says.
        let middle = highest(share);
        let (sum, squares) = scores.chunks_exact(cols).fold((0.0, 0.0), |(sum, squares), row| {
            let above = row.iter().filter(|&&s| s > middle).count() as f64 / cols as f64;
            (sum + above, squares + above * above)
        });
        let (rows, count) = (rows as f64, count as f64);
        let variance = (squares / rows - (sum / rows).powi(2)).max(0.0) / rows;
        let margin = 4.0 * (variance + share * (1.0 - share) / count).sqrt() + 8.0 / count;
        let (low, high) = (highest(share + margin).to_bits(), highest(share - margin).to_bits());
        Self { low, high: high.saturating_add(1).clamp(low + 1, INFINITE) }
    }
}

/// Finds the cut that keeps exactly the `kept` highest scores, at least 1 and at most all there are. `scan`
/// adds all scores to the histogram it is given, which has at most `bins` bins (a power of two); usually one
/// scan does.
pub(crate) fn find_cut<E>(
    kept: u64,
    guess: Guess,
    bins: usize,
    histogram: &mut Histogram,
    mut scan: impl FnMut(&Histogram) -> Result<(), E>,
) -> Result<Cut, E> {
    let Guess { mut low, mut high } = guess;
    loop {
        histogram.reset(low, high, bins);
        scan(histogram)?;
        let (above, bins) = histogram.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        if *above >= kept {
            (low, high) = (high, INFINITE);
            continue;
        }
        let bin = bins.iter().rposition(|count| {
            let found = *above + count >= kept;
            *above += if found { 0 } else { *count };
            found
        });
        let (above, Some(bin)) = (*above, bin) else {
            (low, high) = (0, low);
            continue;
        };
        low += (bin as u32) << histogram.shift;
        if histogram.shift == 0 {
            return Ok(Cut { score: f32::from_bits(low), ties: kept - above });
        }
        high = high.min(low + (1 << histogram.shift));
    }
}
