//! A sample of rows, and the costs that follow from it.

use rayon::prelude::*;

use super::fit::{Costs, Limits};
use super::residual::{Base, Scratch};
use super::score::comparable;
use crate::SplitError;
use crate::rows::Rows;

/// Scores in a sample. The number is fixed: the scales depend on it, and they must not depend on the budget.
const SAMPLE: usize = 1 << 15;
/// Limits to try, as multiples of the cut of the plain scales.
const COARSE: [f32; 8] = [2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.24, 0.17];
/// Limits to try, as multiples of the best so far.
const FINER: [f32; 4] = [0.84, 1.18, 0.93, 1.07];

/// Bytes of the sample.
pub(super) const BYTES: u64 = 4 * SAMPLE as u64;

/// The `i`-th row of a sample of `rows` rows. Steps of the golden ratio spread evenly, whatever their number, and match
/// no pattern in the rows.
pub(super) fn spread(i: usize, rows: usize) -> usize {
    const STEP: f64 = 0.618_033_988_749_894_9;
    ((i as f64 * STEP).fract() * rows as f64) as usize
}

/// Finds the costs for a residual with a `share` of the weights: those that leave the smallest error in a sample.
/// `costs` makes them from a limit and the expected cut. `None` if the plain scales are best.
pub(super) fn find_costs(
    rows: &Rows<'_>,
    share: f64,
    weights: &[f32],
    plain: &Costs,
    costs: impl Fn(Limits) -> Option<Costs>,
) -> Result<Option<Costs>, SplitError> {
    let mut sample = Sample::new(rows);
    let (plain_cut, error) = sample.measure(rows, share, weights, plain)?;
    // Limit, cut and error.
    let mut best = (0.0, plain_cut, error);
    let mut attempt = |best: &mut (f32, f32, f64), limit| {
        let Some(costs) = costs(Limits { limit, cut: plain_cut, plain_cut }) else { return Ok(()) };
        let (cut, error) = sample.measure(rows, share, weights, &costs)?;
        if error < best.2 {
            *best = (limit, cut, error);
        }
        Ok::<_, SplitError>(())
    };
    attempt(&mut best, f32::INFINITY)?;
    for coarse in COARSE {
        attempt(&mut best, plain_cut * coarse)?;
    }
    if best.0.is_finite() {
        for finer in FINER {
            let limit = best.0 * finer;
            attempt(&mut best, limit)?;
        }
    }
    let (limit, cut, _) = best;
    Ok(if limit > 0.0 { costs(Limits { limit, cut, plain_cut }) } else { None })
}

/// Scores of some rows.
struct Sample {
    scores: Vec<f32>,
    count: usize,
    /// Distance between the columns of a sample.
    stride: usize,
}

impl Sample {
    fn new(rows: &Rows<'_>) -> Self {
        let count = (SAMPLE / rows.cols).clamp(1, rows.rows);
        let stride = rows.cols.div_ceil(SAMPLE);
        Self { scores: vec![0.0; count * rows.cols.div_ceil(stride)], count, stride }
    }

    /// The cut for a share of the scores under these costs, and the squared error that is left.
    fn measure(
        &mut self,
        rows: &Rows<'_>,
        share: f64,
        weights: &[f32],
        costs: &Costs,
    ) -> Result<(f32, f64), SplitError> {
        let (kind, coder) = (costs.kind(), costs.coder());
        let (cols, stride, count) = (rows.cols, self.stride, self.count);
        let scores = self.scores.par_chunks_mut(cols.div_ceil(stride)).enumerate();
        scores.with_min_len(SAMPLE / cols / 4 + 1).try_for_each_init(
            || {
                (
                    Scratch::new(cols),
                    vec![0; rows.row_bytes()],
                    vec![0.0; kind.groups(cols)],
                    vec![0; kind.blocks(cols)],
                )
            },
            |(scratch, raw, scales, multipliers), (i, scores)| {
                let row = if count == rows.rows { i } else { spread(i, rows.rows) };
                rows.read(row, raw)?;
                let fitted = costs.fit(scratch.weights(rows.float, raw), scales, multipliers);
                let residual = fitted.and_then(|_| {
                    scratch.residual(rows.float, raw, Base::Quantized { coder, scales, multipliers })
                });
                let Ok((residual, _)) = residual else {
                    let changed = "changed while it was read";
                    return Err(SplitError::tensor(rows.file.file_of(rows.info), &rows.info.name, changed));
                };
                let columns = residual.iter().zip(weights).step_by(stride);
                scores.iter_mut().zip(columns).for_each(|(score, (&r, &w))| *score = comparable(r, w));
                Ok(())
            },
        )?;
        let kept = ((share * self.scores.len() as f64).round() as usize).clamp(1, self.scores.len());
        let (_, &mut cut, rest) = self.scores.select_nth_unstable_by(kept - 1, |a, b| b.total_cmp(a));
        Ok((cut, rest.iter().map(|&score| f64::from(score).powi(2)).sum()))
    }
}
