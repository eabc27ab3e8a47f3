//! How far the outputs of a layer are from those of the original layer, by what is known about its inputs.

use rayon::prelude::*;
use residua_memory::{AlignedVec, Budget};

use crate::layer_reader::{LayerReader, LayerRows};
use crate::product::quadratic;
use crate::progress::check_stop;
use crate::rows::Rows;
use crate::split::Calibration;
use crate::{Progress, SplitError};

/// Rows of H that are multiplied together.
const PIECE: usize = 64;

/// `tr(W·H·Wᵀ)` of the original weights W and `tr(E·H·Eᵀ)` of their error E, where H are the second moments of the
/// inputs, or their diagonal: the sums of the outputs' mean squares.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OutputErrors {
    pub(crate) weights: f64,
    pub(crate) error: f64,
}

impl OutputErrors {
    fn add(self, other: Self) -> Self {
        Self { weights: self.weights + other.weights, error: self.error + other.error }
    }
}

/// Measures a layer. Reads it once, or several times if the budget does not hold all second moments.
pub(crate) fn output_errors(
    layer: &LayerReader<'_>,
    original: &Rows<'_>,
    calibration: &Calibration<'_>,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<OutputErrors, SplitError> {
    let cols = layer.cols();
    let threads = rayon::current_num_threads() as u64;
    // A row of the checkpoint, weights and error in f64, and the products of a piece for each thread.
    let row = (layer.row_bytes() + 16 * cols) as u64 + 8 * PIECE as u64 * threads;
    let scratch = 8 * cols as u64 * threads;
    let Some(block) = calibration.block() else {
        layer.require(row + scratch + 4 * cols as u64, budget)?;
        let _held = budget.reserve(scratch + 4 * cols as u64, "mean squares of the inputs")?;
        let squares = calibration.mean_squares()?;
        let mut sums = OutputErrors::default();
        each_block(layer, original, row, budget, progress, |weights, errors| {
            let per_row = weights.par_chunks_exact(cols).zip(errors.par_chunks_exact(cols)).map(|(w, e)| {
                let sum = |x: &[f64]| x.iter().zip(&*squares).map(|(x, h)| x * x * f64::from(*h)).sum();
                OutputErrors { weights: sum(w), error: sum(e) }
            });
            // In the order of rows, so that the sums do not depend on blocks and threads.
            sums = per_row.collect::<Vec<_>>().into_iter().fold(sums, OutputErrors::add);
        })?;
        return Ok(sums);
    };
    let pieces = pieces(cols, block);
    // A piece as it is read, and as it is used.
    let piece = (12 * PIECE * block) as u64;
    layer.require(row + scratch + piece, budget)?;
    let _scratch = budget.reserve(scratch, "a row for each thread")?;
    let spare = budget.available().saturating_sub(row + piece);
    let held = ((spare / 2 / piece) as usize + 1).min(pieces.len());
    let _held = budget.reserve(held as u64 * piece, "second moments of the inputs")?;
    let mut total = OutputErrors::default();
    for pieces in pieces.chunks(held) {
        let moments = pieces.iter().map(|piece| calibration.rows(piece.start, piece.rows));
        let moments = moments.collect::<Result<Vec<_>, _>>()?;
        let mut sums = vec![OutputErrors::default(); pieces.len()];
        each_block(layer, original, row, budget, progress, |weights, errors| {
            sums.par_iter_mut().zip(pieces).zip(&moments).for_each(|((sums, piece), moments)| {
                let Piece { start, rows, first, size } = *piece;
                let trace = |x| quadratic(x, cols, first..first + size, moments, start..start + rows);
                *sums = sums.add(OutputErrors { weights: trace(weights), error: trace(errors) });
            });
        })?;
        total = sums.into_iter().fold(total, OutputErrors::add);
    }
    Ok(total)
}

/// Some rows of the second moments: those of features from `start` on, with the features of their block.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    rows: usize,
    first: usize,
    size: usize,
}

fn pieces(cols: usize, block: usize) -> Vec<Piece> {
    let blocks = (0..cols).step_by(block).map(|first| (first, block.min(cols - first)));
    blocks
        .flat_map(|(first, size)| {
            let starts = (first..first + size).step_by(PIECE);
            starts.map(move |start| Piece { start, rows: PIECE.min(first + size - start), first, size })
        })
        .collect()
}

/// Hands over all weights and their errors, `[rows, cols]`, some rows at a time. `other_row` are bytes for each row.
fn each_block(
    layer: &LayerReader<'_>,
    original: &Rows<'_>,
    other_row: u64,
    budget: &Budget,
    progress: &dyn Progress,
    mut take: impl FnMut(&[f64], &[f64]),
) -> Result<(), SplitError> {
    let (cols, row_bytes) = (layer.cols(), layer.row_bytes());
    let mut first = 0;
    while first < layer.rows() {
        check_stop(progress)?;
        let range = layer.next_rows(first, other_row, budget)?;
        let rows = layer.read(range.clone(), true, budget)?;
        let _held = budget.reserve(range.len() as u64 * other_row, "rows of the checkpoint")?;
        let mut raw = AlignedVec::<u8>::zeroed(range.len() * row_bytes);
        original.read(range.start, &mut raw)?;
        let mut weights = vec![0.0; range.len() * cols];
        let mut errors = vec![0.0; range.len() * cols];
        raw.par_chunks_exact(row_bytes)
            .zip(weights.par_chunks_exact_mut(cols).zip(errors.par_chunks_exact_mut(cols)))
            .enumerate()
            .for_each_init(
                || (vec![0.0; cols], vec![0.0; cols]),
                |(wide, rebuilt), (row, (raw, (weights, errors)))| {
                    original.float.widen(raw, wide);
                    rebuild(&rows, row, rebuilt);
                    for (col, (w, r)) in wide.iter().zip(rebuilt).enumerate() {
                        weights[col] = f64::from(*w);
                        errors[col] = f64::from(*w) - f64::from(*r);
                    }
                },
            );
        take(&weights, &errors);
        first = range.end;
    }
    Ok(())
}

fn rebuild(rows: &LayerRows, row: usize, out: &mut [f32]) {
    rows.base(row, out);
    rows.add_residual(row, 1.0, out);
}
