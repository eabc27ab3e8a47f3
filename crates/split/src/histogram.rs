//! Counting scores inside a window.

use std::sync::{Mutex, PoisonError};

use crate::score::comparable;
use crate::vectorised::vectorised;

/// Scores that are looked at together.
const CHUNK: usize = 32;
/// Scores inside the window that are counted together.
const GATHERED: usize = 512;

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

/// Where a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Above the window.
    Above,
    /// In the bin of these bit patterns, with `above` scores higher than all of them.
    Bin { low: u32, high: u32, above: u64 },
    /// Below the window.
    Below,
}

impl Histogram {
    /// Bytes of `bins` bins.
    pub(crate) fn bytes(bins: usize) -> u64 {
        8 * bins as u64
    }

    /// Starts anew with a window of bit patterns, `low..high`, and at most `most` bins, a power of two.
    pub(crate) fn reset(&mut self, low: u32, high: u32, most: usize) {
        let width = (high - low) as usize;
        self.shift = width.div_ceil(most).next_power_of_two().ilog2();
        (self.low, self.high) = (low, high);
        let (above, bins) = self.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        *above = 0;
        bins.clear();
        bins.resize(width.div_ceil(1 << self.shift), 0);
    }

    /// Where the `kept`-th highest score is.
    pub(crate) fn place(&self, kept: u64) -> Place {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut above, bins) = (counts.0, &counts.1);
        if above >= kept {
            return Place::Above;
        }
        for (bin, count) in bins.iter().enumerate().rev() {
            if above + count >= kept {
                let low = self.low + ((bin as u32) << self.shift);
                return Place::Bin { low, high: self.high.min(low + (1 << self.shift)), above };
            }
            above += count;
        }
        Place::Below
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
