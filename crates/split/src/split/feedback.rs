//! Error feedback: what a column loses, later columns make up for.
//!
//! The method is GPTQ's (Frantar et al. 2022): columns by falling mean squares of their inputs, each column's error
//! taken off the columns after it along a row of the Cholesky factor of the inverse second moments. Entries of the
//! residual take part with the value that is stored, as in SpQR (Dettmers et al. 2023). Rows are independent of each
//! other, and so are diagonal blocks.

use half::{bf16, f16};
use residua_format::{Coder, ValueType, vectorised};
use residua_memory::AlignedVec;

use super::fit::Costs;
use super::select::Kept;

/// Columns whose errors are fed on together.
const WIDTH: usize = 128;
/// Columns that receive them together: their part of the factor fits in the second-level cache.
const TILE: usize = 512;

/// Factors for one tensor.
#[derive(Debug)]
pub(super) struct Feedback {
    cols: usize,
    /// Columns of a diagonal block.
    block: usize,
    /// For each block a row-major matrix: what an error of place *row* takes off place *col* of the order.
    factors: AlignedVec<f32>,
    /// The column at each place of the order. Blocks keep their columns.
    order: Vec<u32>,
    /// The place of each column; empty if the order is that of the columns.
    places: Vec<u32>,
}

/// How values of the residual and scales of the base are stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub(super) values: ValueType,
    /// Whether scales are f16.
    pub(super) half: bool,
}

impl Feedback {
    /// Maximum bytes of a row of `cols` columns while it is fed: its weights, errors, and what it takes to order them.
    pub(super) fn row_bytes(cols: usize) -> u64 {
        (4 * (cols + WIDTH) + 8 + 12 * cols) as u64
    }

    /// `order` has the column at each place.
    pub(super) fn new(cols: usize, block: usize, factors: AlignedVec<f32>, order: Vec<u32>) -> Self {
        let mut places = Vec::new();
        if !order.is_sorted() {
            places = vec![0; cols];
            (0..).zip(&order).for_each(|(place, &col)| places[col as usize] = place);
        }
        Self { cols, block, factors, order, places }
    }

    /// Replaces rows of weights with their base. The kept entries become the residuals that belong to it, scales of
    /// groups are fitted to the weights as they are when their first column comes up. Multipliers stay. i8 values take part unrounded:
    /// their scale is known only at the end of the row.
    ///
    /// # Errors
    /// Row and column of an error that is not finite, because others were added to its weight.
    pub(super) fn feed(
        &self,
        storage: Storage,
        costs: &Costs,
        weights: &mut [f32],
        scales: &mut [f32],
        multipliers: &[u8],
        kept: &mut Kept,
    ) -> Result<(), (usize, usize)> {
        let cols = self.cols;
        let (block, blocks) = (costs.kind().block().unwrap_or(cols), costs.kind().blocks(cols));
        let rows = weights.len() / cols;
        let (groups, group) = (costs.kind().groups(cols), costs.kind().group(cols));
        let mut next: Vec<usize> = (0..rows).map(|row| kept.row(row).start).collect();
        let mut errors = vec![0.0; rows * WIDTH];
        let (mut spare, mut overflow) = (Spare::default(), None);
        for first in (0..cols).step_by(self.block) {
            let factors = &self.factors[first * self.block..];
            let size = self.block.min(cols - first);
            let before = next.clone();
            for row in (0..rows).filter(|_| !self.places.is_empty()) {
                let columns = next[row]..kept.row(row).end;
                let weights = &mut weights[row * cols + first..][..size];
                self.reorder(first, weights, &mut kept.columns[columns], &mut spare);
            }
            for start in (0..size).step_by(WIDTH) {
                let end = size.min(start + WIDTH);
                for row in 0..rows {
                    let ends = kept.row(row).end;
                    let part = &mut weights[row * cols + first + start..row * cols + first + end];
                    for i in 0..end - start {
                        let col = first + start + i;
                        let scale = &mut scales[row * groups + col / group];
                        if group < cols && col % group == 0 {
                            let end = part.len().min(i + group);
                            let kept = &kept.columns[next[row]..ends];
                            refit(storage, costs, col, &part[i..end], kept, scale);
                        }
                        let weight = part[i];
                        let own = row * blocks + self.order[col] as usize / block;
                        let multiplier = multipliers.get(own).copied().unwrap_or(0);
                        let base = nearest(weight, *scale, multiplier, costs.coder());
                        let mut error = weight - base;
                        if next[row] < ends && kept.columns[next[row]] as usize == col {
                            kept.residuals[next[row]] = error;
                            error -= stored(error, storage.values);
                            next[row] += 1;
                        }
                        if !error.is_finite() {
                            overflow.get_or_insert((row, self.order[col] as usize));
                        }
                        part[i] = base;
                        errors[row * WIDTH + i] = error;
                        let factors = &factors[(start + i) * self.block + start..][i + 1..end - start];
                        take_off(&mut part[i + 1..], error, factors);
                    }
                }
                for tile in (end..size).step_by(TILE) {
                    let width = TILE.min(size - tile);
                    for row in 0..rows {
                        let part = &mut weights[row * cols + first + tile..][..width];
                        let errors = &errors[row * WIDTH..][..end - start];
                        take_off_all(part, errors, &factors[start * self.block + tile..], self.block);
                    }
                }
            }
            for row in (0..rows).filter(|_| !self.places.is_empty()) {
                let own = before[row]..next[row];
                let entries = (&mut kept.columns[own.clone()], &mut kept.residuals[own]);
                self.restore(first, &mut weights[row * cols + first..][..size], entries, &mut spare);
            }
        }
        overflow.map_or(Ok(()), Err)
    }
}

/// Buffers for one row.
#[derive(Debug, Default)]
struct Spare {
    weights: Vec<f32>,
    entries: Vec<(u32, f32)>,
}

impl Feedback {
    /// Puts a block of weights of one row into the order in which they are fed. `columns` are those of the row's kept
    /// entries from this block on; those of the block become places.
    fn reorder(&self, first: usize, weights: &mut [f32], columns: &mut [u32], spare: &mut Spare) {
        spare.weights.clear();
        let order = &self.order[first..first + weights.len()];
        spare.weights.extend(order.iter().map(|&col| weights[col as usize - first]));
        weights.copy_from_slice(&spare.weights);
        let own = columns.partition_point(|&col| (col as usize) < first + weights.len());
        columns[..own].iter_mut().for_each(|col| *col = self.places[*col as usize]);
        columns[..own].sort_unstable();
    }

    /// Puts the block back into the order of columns. `entries` are the places and residuals of its kept entries.
    fn restore(
        &self,
        first: usize,
        weights: &mut [f32],
        (places, residuals): (&mut [u32], &mut [f32]),
        spare: &mut Spare,
    ) {
        spare.weights.clear();
        spare.weights.extend_from_slice(weights);
        for (&col, &weight) in self.order[first..].iter().zip(&spare.weights) {
            weights[col as usize - first] = weight;
        }
        spare.entries.clear();
        let columns = places.iter().map(|&place| self.order[place as usize]);
        spare.entries.extend(columns.zip(residuals.iter().copied()));
        spare.entries.sort_unstable_by_key(|&(col, _)| col);
        for (&entry, (col, residual)) in spare.entries.iter().zip(places.iter_mut().zip(residuals)) {
            (*col, *residual) = entry;
        }
    }
}

/// Fits the scale of a group to weights that are not kept.
fn refit(storage: Storage, costs: &Costs, first: usize, weights: &[f32], kept: &[u32], scale: &mut f32) {
    let mut own = [0.0; WIDTH];
    let own = &mut own[..weights.len()];
    own.copy_from_slice(weights);
    for &col in kept.iter().take_while(|&&col| (col as usize) < first + weights.len()) {
        own[col as usize - first] = 0.0;
    }
    let Some(fitted) = costs.refit(first, own) else { return };
    if !storage.half {
        *scale = fitted;
    } else if f16::from_f32(fitted).is_normal() {
        *scale = f16::from_f32(fitted).to_f32();
    }
}

/// The value of the nearest code.
#[inline(always)]
fn nearest(weight: f32, scale: f32, multiplier: u8, coder: &Coder) -> f32 {
    if scale > 0.0 { coder.nearest(weight / scale, multiplier) * scale } else { 0.0 }
}

/// A residual as it comes out of the file.
fn stored(residual: f32, values: ValueType) -> f32 {
    match values {
        ValueType::F32 | ValueType::I8 => residual,
        ValueType::F16 => f16::from_f32(residual).to_f32(),
        ValueType::Bf16 => bf16::from_f32(residual).to_f32(),
    }
}

vectorised! {
    fn take_off(weights: &mut [f32], error: f32, factors: &[f32]) {
        for (weight, factor) in weights.iter_mut().zip(factors) {
            *weight -= error * factor;
        }
    }
}

vectorised! {
    /// Takes off the errors of several columns. Their factors lie `stride` apart.
    fn take_off_all(weights: &mut [f32], errors: &[f32], factors: &[f32], stride: usize) {
        let width = weights.len();
        let (fours, rest) = errors.as_chunks::<4>();
        for (number, &[e0, e1, e2, e3]) in fours.iter().enumerate() {
            let row = |i: usize| &factors[(4 * number + i) * stride..][..width];
            let (f0, f1, f2, f3) = (row(0), row(1), row(2), row(3));
            for i in 0..width {
                weights[i] = weights[i] - e0 * f0[i] - e1 * f1[i] - e2 * f2[i] - e3 * f3[i];
            }
        }
        for (number, error) in rest.iter().enumerate() {
            let factors = &factors[(4 * fours.len() + number) * stride..][..width];
            for (weight, factor) in weights.iter_mut().zip(factors) {
                *weight -= error * factor;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::cut::Cut;
    use residua_format::BaseKind;

    use super::super::moments::factor;
    use super::*;

    /// The reference of `tests/fixtures/make_feedback.py`.
    struct Reference(serde_json::Value);

    impl Reference {
        fn read() -> Self {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/feedback.json");
            Self(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        }

        fn numbers(&self, key: &str) -> Vec<f32> {
            self.0[key].as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as f32).collect()
        }

        fn cols(&self) -> usize {
            self.0["cols"].as_u64().unwrap() as usize
        }

        /// Factors from diagonal blocks of the second moments.
        fn feedback(&self, block: usize, ordered: bool) -> Feedback {
            let (cols, moments) = (self.cols(), self.numbers("moments"));
            let mut factors = AlignedVec::<f32>::zeroed(block * block * cols.div_ceil(block));
            let mut order = Vec::new();
            for (number, factors) in factors.chunks_mut(block * block).enumerate() {
                let first = number * block;
                let size = block.min(cols - first);
                for (row, col) in (0..size * size).map(|i| (i / size, i % size)) {
                    let (high, low) = (first + row.max(col), first + row.min(col));
                    factors[row * block + col] = moments[high * (high + 1) / 2 + low];
                }
                let own = factor(factors, block, size, ordered).unwrap();
                order.extend(own.iter().map(|&col| first as u32 + col));
            }
            Feedback::new(cols, block, factors, order)
        }

        /// The kept entries of some rows.
        fn kept(&self, rows: std::ops::Range<usize>) -> Kept {
            let mut kept = Kept::default();
            for row in rows {
                let mut residuals = vec![0.0; self.cols()];
                for col in self.0["kept"][row].as_array().unwrap() {
                    residuals[col.as_u64().unwrap() as usize] = 1.0;
                }
                kept.push_row(&residuals, &vec![1.0; residuals.len()], Cut { score: 0.5, ties: 0 });
            }
            kept
        }

        /// Base and residual of some rows after feedback.
        fn fed(&self, feedback: &Feedback, rows: std::ops::Range<usize>, values: ValueType) -> Vec<f32> {
            let cols = self.cols();
            let mut weights = self.numbers("weights")[rows.start * cols..rows.end * cols].to_vec();
            let mut scales = self.numbers("scales")[rows.clone()].to_vec();
            let mut kept = self.kept(rows.clone());
            let storage = Storage { values, half: false };
            let costs = Costs::none(BaseKind::Int4);
            feedback.feed(storage, &costs, &mut weights, &mut scales, &[], &mut kept).unwrap();
            for row in 0..rows.len() {
                for (&col, &residual) in kept.columns[kept.row(row)].iter().zip(kept.values(row).0) {
                    weights[row * cols + col as usize] += stored(residual, values);
                }
            }
            weights
        }
    }

    #[test]
    fn feedback_equals_the_dense_reference() {
        let reference = Reference::read();
        let cols = reference.cols();
        for (block, ordered, key) in [(cols, false, "whole"), (cols, true, "ordered"), (128, false, "blocks")]
        {
            let found = reference.fed(&reference.feedback(block, ordered), 0..6, ValueType::F32);
            for (at, (found, expected)) in found.iter().zip(reference.numbers(key)).enumerate() {
                assert!((found - expected).abs() < 1e-4, "{key} at {at}: {found} {expected}");
            }
        }
    }

    /// A base is finite even where its weight is not any more; the error tells.
    #[test]
    fn weights_that_overflow_are_found() {
        for kind in BaseKind::ALL.into_iter().filter(|kind| kind.groups(2) == 1) {
            let feedback = Feedback::new(2, 2, [1.0, 1.0, 0.0, 1.0][..].into(), vec![1, 0]);
            let mut kept = Kept::default();
            kept.push_row(&[0.0; 2], &[1.0; 2], Cut { score: 0.5, ties: 0 });
            let storage = Storage { values: ValueType::F32, half: false };
            let mut weights = [-f32::MAX, f32::MAX];
            let fed = feedback.feed(storage, &Costs::none(kind), &mut weights, &mut [1.0], &[], &mut kept);
            assert_eq!(fed, Err((0, 0)), "{kind}");
        }
    }

    /// A row does not depend on the rows beside it.
    #[test]
    fn rows_are_fed_alone_as_together() {
        let reference = Reference::read();
        let feedback = reference.feedback(reference.cols(), true);
        for values in ValueType::ALL {
            let together = reference.fed(&feedback, 0..6, values);
            let alone: Vec<f32> =
                (0..6).flat_map(|row| reference.fed(&feedback, row..row + 1, values)).collect();
            assert!(together == alone, "{values}");
        }
    }

    #[test]
    fn moments_without_a_factor_are_refused() {
        let refused = |matrix: [f32; 4]| factor(&mut matrix.clone(), 2, 2, true).unwrap_err();
        assert_eq!(refused([1.0, f32::NAN, 0.0, 1.0]), "[0, 1] is NaN");
        for bad in [[1.0, 2.0, 2.0, 1.0], [1.0, 0.0, -3.0, 1.0]] {
            assert!(refused(bad).contains("not positive definite; calibrate with more samples"));
        }
        factor(&mut [1.0, 0.0, 0.0, 0.0], 2, 2, true).unwrap();
        // Features that are always 0.
        let mut dead = [0.0; 4];
        factor(&mut dead, 2, 2, true).unwrap();
        assert_eq!(dead, [1.0, 0.0, 0.0, 1.0]);
    }
}
