//! Counts of the scores inside a window.

use std::sync::{Mutex, PoisonError};

use super::score::comparable;
use super::sift::{Range, sift};

/// Scores that a thread gathers before it counts them.
const GATHERED: usize = 512;

/// Counts the scores above a window and in each bin of it. Threads share it.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// Bits of the lowest score in the window.
    low: u32,
    /// Bits of the lowest score above the window.
    high: u32,
    /// A bin holds `2^shift` neighbouring floats.
    shift: u32,
    /// Scores above the window, and in each bin.
    counts: Mutex<(u64, Vec<u64>)>,
}

/// The place of a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Above the window.
    Above,
    /// In the bin with these bit patterns. `above` scores are higher than the bin.
    Bin { low: u32, high: u32, above: u64 },
    /// Below the window.
    Below,
}

impl Histogram {
    /// Bytes of `bins` bins.
    pub(super) fn bytes(bins: usize) -> u64 {
        8 * bins as u64
    }

    /// Clears it and sets a window of bit patterns, `low..high`, with at most `most` bins, a power of two.
    pub(super) fn reset(&mut self, low: u32, high: u32, most: usize) {
        let width = (high - low) as usize;
        self.shift = width.div_ceil(most).next_power_of_two().ilog2();
        (self.low, self.high) = (low, high);
        let (above, bins) = self.counts.get_mut().unwrap_or_else(PoisonError::into_inner);
        *above = 0;
        bins.clear();
        bins.resize(width.div_ceil(1 << self.shift), 0);
    }

    /// The place of the `kept`-th highest score.
    pub(super) fn place(&self, kept: u64) -> Place {
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
    #[cfg(test)]
    pub(super) fn add(&self, residuals: &[f32], weights: &[f32]) {
        self.counter().add(residuals, weights);
    }

    /// A counter for one thread. Dropping it counts everything that it still holds.
    pub(super) fn counter(&self) -> Counter<'_> {
        Counter { histogram: self, above: 0, inside: Vec::with_capacity(GATHERED) }
    }
}

/// Counts rows into a shared histogram. It gathers many scores and adds them together: bins are far apart in memory,
/// and so their cache lines load at the same time. Atomic additions would load them one by one.
#[derive(Debug)]
pub(super) struct Counter<'a> {
    histogram: &'a Histogram,
    above: u64,
    inside: Vec<u32>,
}

impl Counter<'_> {
    /// Counts one row's scores.
    pub(super) fn add(&mut self, residuals: &[f32], weights: &[f32]) {
        let range = Range { low: self.histogram.low as i32, high: self.histogram.high as i32 };
        let above = sift::<true>(residuals, weights, range, |columns, residuals| {
            let scores =
                columns.iter().zip(residuals).map(|(&c, &r)| comparable(r, weights[c as usize]).to_bits());
            self.inside.extend(scores);
            if self.inside.len() >= GATHERED {
                self.flush();
            }
        });
        self.above += above;
    }

    fn flush(&mut self) {
        let mut counts = self.histogram.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (above, bins) = &mut *counts;
        *above += std::mem::take(&mut self.above);
        for bits in self.inside.drain(..) {
            bins[((bits - self.histogram.low) >> self.histogram.shift) as usize] += 1;
        }
    }
}

impl Drop for Counter<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
