//! How the budget is divided among the buffers of a split.

use residua_format::{BaseKind, Coder, ValueType};
use residua_memory::{Budget, BudgetError, Reservation};

use super::columns::ColumnSums;
use super::encode::Encoded;
use super::feedback::Feedback;
use super::fit::{Costs, Fitted};
use super::histogram::Histogram;
use super::levels;
use super::residual::Scratch;
use super::sample;
use super::select::Kept;
use super::waiting_plane::WaitingPlane;
use crate::rows::Rows;

/// Bytes per thread that are read at a time: what a second-level cache holds.
const BLOCK: u64 = 1 << 20;
/// Elements of an emitted block. Larger blocks are not faster.
const MOST_EMITTED: u64 = 1 << 20;
/// Bins of the histogram. With so many a second scan is rare.
const MOST_BINS: u64 = 1 << 19;
const FEWEST_BINS: u64 = 1 << 10;
/// Scores in the sample for a guess.
const MOST_SAMPLED: u64 = 1 << 18;
/// The buffer of the output, and slack.
const OUTPUT: u64 = 512 << 10;
/// Planes that wait: base scales, multipliers, gaps, values, value scales. One more for the copy buffer.
const WAITING_PLANES: u64 = 6;

/// The maximum of each size over the tensors of a job.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extremes {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Bytes of a row.
    pub(super) row_bytes: usize,
    /// Bytes of a tensor.
    pub(super) bytes: u64,
    /// Bytes for the second moments of a tensor.
    pub(super) feedback: u64,
}

/// The sizes of the buffers of a split, and their reservation for the duration of the job.
#[derive(Debug)]
pub(super) struct Room {
    /// Bytes of rows in memory; with another checkpoint as base, the same again for its rows.
    pub(super) block: usize,
    /// Bytes of these rows' scales and sums.
    scales: u64,
    /// Bytes of buffers for emitted rows.
    emit: u64,
    /// Bins of the histogram, a power of two.
    pub(super) bins: usize,
    /// Scores in a sample.
    pub(super) sample: usize,
    values: ValueType,
    /// Kinds of bases; none if the base is another checkpoint.
    pub(super) kinds: Vec<BaseKind>,
    /// Whether errors are fed back.
    feedback: bool,
    _held: Reservation,
}

impl Room {
    /// Reserves the minimum for tensors of these sizes, and of the rest what makes the job faster.
    ///
    /// # Errors
    /// When the budget is too small. The error states the minimum.
    pub(super) fn take(
        budget: &Budget,
        largest: Extremes,
        kinds: Vec<BaseKind>,
        values: ValueType,
    ) -> Result<Self, BudgetError> {
        let threads = rayon::current_num_threads();
        let quantized = !kinds.is_empty();
        let buffers = if quantized { 1 } else { 2 };
        let (cols, rows) = (largest.cols as u64, largest.rows as u64);
        let fixed = ColumnSums::bytes(largest.cols, threads)
            // Importance as it is read, and as it is used; a row of the sample that decides about modes.
            + 12 * cols
            + Scratch::bytes(largest.cols)
            + threads as u64 * Scratch::bytes(largest.cols)
            + if quantized {
                // Two costs at a time, and for each thread a row of the sample.
                2 * Costs::bytes(largest.cols)
                    + sample::BYTES
                    + if kinds.iter().any(|kind| kind.is_codebook()) { levels::BYTES } else { 0 }
                    + threads as u64 * (largest.row_bytes as u64 + row_scale_bytes(largest.cols, &kinds))
                    // Fitted and plain.
                    + 2 * kinds.iter().map(|&kind| Coder::bytes(kind)).max().unwrap_or(0) as u64
            } else {
                0
            }
            // Pointers and modes of all rows, three times: the vectors grow, and are copied at the end.
            + 3 * 9 * rows
            + OUTPUT
            + if quantized { largest.feedback } else { 0 }
            + WAITING_PLANES * WaitingPlane::BYTES;
        let feedback = quantized && largest.feedback > 0;
        let emit = emit_row_bytes(largest.cols, &kinds, values, feedback);
        let block = buffers * largest.row_bytes as u64;
        let scales = scale_row_bytes(largest.cols, &kinds);
        let minimum = fixed + emit + block + scales + Histogram::bytes(FEWEST_BINS as usize);
        budget.require(minimum, "splitting the checkpoint's largest rows one at a time")?;

        let spare = budget.available() - minimum;
        let most_emitted = emit.saturating_mul(MOST_EMITTED / cols.max(1));
        let more_emit = (spare / 4).min(most_emitted);
        let bins = power_of_two_below((spare / 16 / 8).clamp(FEWEST_BINS, MOST_BINS));
        let more_bins = Histogram::bytes((bins - FEWEST_BINS) as usize);
        // A sample is sorted in a copy.
        let sample = (spare / 32 / 8).min(MOST_SAMPLED);
        // No more rows than the caches hold, even if the budget allows more. Every pass reads the tensor again from
        // the system's file cache. That is faster than to fault in and keep a copy.
        let more_block = (spare - more_emit - more_bins - 8 * sample).min(buffers * threads as u64 * BLOCK);
        // Scales take much less than weights, except in rows of a few columns.
        let more_scales = if quantized { more_block / 5 } else { 0 };
        let more_block = more_block - more_scales;
        let (emit, block) = (emit + more_emit, (block + more_block).min(buffers * largest.bytes));
        let scales = scales + more_scales;
        let held = fixed + emit + block + scales + Histogram::bytes(bins as usize) + 8 * sample;
        let held = budget.reserve(held, "splitting")?;
        Ok(Self {
            block: (block / buffers) as usize,
            scales,
            emit,
            bins: bins as usize,
            sample: sample as usize,
            values,
            kinds,
            feedback,
            _held: held,
        })
    }

    /// Rows of a block.
    pub(super) fn block_rows(&self, rows: &Rows<'_>) -> usize {
        let scales = match scale_row_bytes(rows.cols, &self.kinds) {
            0 => usize::MAX,
            bytes => (self.scales / bytes) as usize,
        };
        (self.block / rows.row_bytes()).min(scales).clamp(1, rows.rows)
    }

    /// Rows of `cols` columns that are emitted together.
    pub(super) fn emitted_rows(&self, cols: usize) -> usize {
        ((self.emit / emit_row_bytes(cols, &self.kinds, self.values, self.feedback)) as usize).max(1)
    }
}

/// Maximum bytes of a row while it is emitted: all of its entries are kept.
fn emit_row_bytes(cols: usize, kinds: &[BaseKind], values: ValueType, feedback: bool) -> u64 {
    let codes = kinds.iter().map(|kind| kind.row_bytes(cols)).max().unwrap_or(0) as u64;
    let fed = if feedback { Feedback::row_bytes(cols) } else { 0 };
    codes + fed + Kept::row_bytes(cols) + Encoded::row_bytes(cols, values)
}

/// Bytes of a row's scales as read and as fed, and of two copies of the sums from fitting them.
fn scale_row_bytes(cols: usize, kinds: &[BaseKind]) -> u64 {
    match kinds {
        [] => 0,
        _ => 2 * (row_scale_bytes(cols, kinds) + size_of::<Fitted>() as u64),
    }
}

/// An upper bound of the bytes of a row's scales and multipliers. Fitting holds one more scale for each block.
fn row_scale_bytes(cols: usize, kinds: &[BaseKind]) -> u64 {
    let bytes = |kind: &BaseKind| 4 * kind.groups(cols) + 5 * kind.blocks(cols) + 1;
    kinds.iter().map(bytes).max().unwrap_or(0) as u64
}

fn power_of_two_below(n: u64) -> u64 {
    1 << n.ilog2()
}
