//! How much of everything is held at a time.

use residua_format::{BaseKind, ValueType};
use residua_memory::{Budget, BudgetError, Reservation};

use super::columns::ColumnSums;
use super::encode::Encoded;
use super::histogram::Histogram;
use super::residual::Scratch;
use super::select::Kept;
use super::waiting_plane::WaitingPlane;

/// Bytes for each thread that are read and worked on at a time: what a second-level cache holds.
const BLOCK: u64 = 1 << 20;
/// Elements of an emitted block beyond which more does not make it faster.
const MOST_EMITTED: u64 = 1 << 20;
/// Bins of the histogram beyond which a second scan is rare.
const MOST_BINS: u64 = 1 << 19;
const FEWEST_BINS: u64 = 1 << 10;
/// Scores that a guess is made from.
const MOST_SAMPLED: u64 = 1 << 18;
/// The output's own buffer, and what is left of it while it fills.
const OUTPUT: u64 = 512 << 10;
/// Spools: base scales, gaps, values, value scales.
const SPOOLS: u64 = 5;

/// The largest of everything among the tensors of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extremes {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Bytes of a row.
    pub(super) row_bytes: usize,
    /// Bytes of a tensor.
    pub(super) bytes: u64,
}

/// The buffers of a split, taken from the budget for as long as the job runs.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes of rows held at a time; with another checkpoint as base, of its rows too.
    pub(super) block: usize,
    /// Bytes of buffers for emitted rows.
    emit: u64,
    /// Bins of the histogram, a power of two.
    pub(super) bins: usize,
    /// Scores in a sample.
    pub(super) sample: usize,
    values: ValueType,
    base: Option<BaseKind>,
    _held: Reservation,
}

impl Room {
    /// Takes what a job on such tensors needs at least, and of the rest what makes it faster.
    ///
    /// # Errors
    /// When the budget is below the least, which the error tells.
    pub(super) fn take(
        budget: &Budget,
        largest: Extremes,
        base: Option<BaseKind>,
        values: ValueType,
    ) -> Result<Self, BudgetError> {
        let threads = rayon::current_num_threads();
        let buffers = if base.is_some() { 1 } else { 2 };
        let (cols, rows) = (largest.cols as u64, largest.rows as u64);
        let fixed = ColumnSums::bytes(largest.cols, threads)
            // h as it is read, and as it is used.
            + 8 * cols
            // A row of the sample, and of its base.
            + 2 * largest.row_bytes as u64
            + threads as u64 * Scratch::bytes(largest.cols)
            // Pointers and modes of all rows, three times: they grow, and are copied when done.
            + 3 * 9 * rows
            + OUTPUT
            + SPOOLS * WaitingPlane::BYTES;
        let emit = emit_row_bytes(largest.cols, base, values);
        let block = buffers * largest.row_bytes as u64;
        let least = fixed + emit + block + Histogram::bytes(FEWEST_BINS as usize);
        budget.require(least, "splitting the checkpoint's largest rows, one at a time,")?;

        let spare = budget.available() - least;
        let most_emitted = emit.saturating_mul(MOST_EMITTED / cols.max(1));
        let more_emit = (spare / 4).min(most_emitted);
        let bins = power_of_two_below((spare / 16 / 8).clamp(FEWEST_BINS, MOST_BINS));
        let more_bins = Histogram::bytes((bins - FEWEST_BINS) as usize);
        // A sample is sorted in a copy.
        let sample = (spare / 32 / 8).min(MOST_SAMPLED);
        // No more rows than the caches hold, however much there is to spare: every pass reads the tensor anew, from
        // memory that the system keeps files in, which is faster than to hold and fault in a copy.
        let more_block = (spare - more_emit - more_bins - 8 * sample).min(buffers * threads as u64 * BLOCK);
        let (emit, block) = (emit + more_emit, (block + more_block).min(buffers * largest.bytes));
        let held = fixed + emit + block + Histogram::bytes(bins as usize) + 8 * sample;
        let held = budget.reserve(held, "splitting")?;
        Ok(Self {
            block: (block / buffers) as usize,
            emit,
            bins: bins as usize,
            sample: sample as usize,
            values,
            base,
            _held: held,
        })
    }

    /// Rows of `cols` columns that are emitted together.
    pub(super) fn emitted_rows(&self, cols: usize) -> usize {
        ((self.emit / emit_row_bytes(cols, self.base, self.values)) as usize).max(1)
    }
}

/// Bytes that a row takes while it is emitted, at most: all of its entries kept.
fn emit_row_bytes(cols: usize, base: Option<BaseKind>, values: ValueType) -> u64 {
    let codes = base.map_or(0, |kind| kind.row_bytes(cols) + 4 * kind.groups(cols)) as u64;
    codes + Kept::row_bytes(cols) + Encoded::row_bytes(cols, values)
}

fn power_of_two_below(n: u64) -> u64 {
    1 << n.ilog2()
}
