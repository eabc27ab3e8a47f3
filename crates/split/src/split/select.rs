//! The entries that neighbouring rows keep. They are found in parallel and cut to the exact count in order.

use super::cut::Cut;
use super::score::comparable;
use super::sift::{Range, sift};
use crate::float::sum_of_squares;

/// Kept entries of some neighbouring rows.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) columns: Vec<u32>,
    pub(super) residuals: Vec<f32>,
    /// Where each row's entries end.
    pub(super) ends: Vec<usize>,
    /// Weights minus base, where `residuals` make up for other errors too; otherwise empty.
    pub(super) differences: Vec<f32>,
    /// Each row's sum of squared differences between weights and base, kept or not.
    pub(super) squares: Vec<f64>,
    /// The lowest comparable score that is kept.
    pub(super) lowest: Option<f32>,
    /// Entries with exactly the cut's score.
    ties: u64,
}

impl Kept {
    /// Maximum bytes of a row of `cols` columns. The vectors with one element per row grow and move.
    pub(super) fn row_bytes(cols: usize) -> u64 {
        12 * cols as u64 + 2 * 16
    }

    /// Empty, with room for `most` entries.
    pub(super) fn reset(&mut self, most: usize) {
        self.columns.clear();
        self.residuals.clear();
        self.ends.clear();
        self.differences.clear();
        self.squares.clear();
        self.ties = 0;
        // All at once, because a growing vector holds two copies while it moves.
        self.columns.reserve(most);
        self.residuals.reserve(most);
    }

    /// Appends the entries of a row whose score is at least the cut's.
    pub(super) fn push_row(&mut self, residuals: &[f32], weights: &[f32], cut: Cut) {
        sift::<false>(residuals, weights, Range::from(cut.score), |columns, residuals| {
            self.columns.extend_from_slice(columns);
            self.residuals.extend_from_slice(residuals);
            let scores = columns.iter().zip(residuals).map(|(&c, &r)| comparable(r, weights[c as usize]));
            self.ties += scores.filter(|&score| score == cut.score).count() as u64;
        });
        self.ends.push(self.columns.len());
        self.squares.push(sum_of_squares(residuals));
    }

    /// Residuals of a row, and the differences between its weights and base at the same places.
    pub(super) fn values(&self, row: usize) -> (&[f32], &[f32]) {
        let residuals = &self.residuals[self.row(row)];
        (residuals, self.differences.get(self.row(row)).unwrap_or(residuals))
    }

    /// The range of a row's entries.
    pub(super) fn row(&self, row: usize) -> std::ops::Range<usize> {
        row.checked_sub(1).map_or(0, |before| self.ends[before])..self.ends[row]
    }

    /// Keeps as many ties as are left, and drops the others. Also drops zero residuals, because they add nothing;
    /// there are some only if the cut is 0.
    pub(super) fn settle(&mut self, weights: &[f32], cut: Cut, ties_left: &mut u64) {
        self.drop_ties(weights, cut, ties_left);
        let scores =
            self.columns.iter().zip(&self.residuals).map(|(&c, &r)| comparable(r, weights[c as usize]));
        self.lowest = scores.reduce(f32::min);
    }

    fn drop_ties(&mut self, weights: &[f32], cut: Cut, ties_left: &mut u64) {
        if cut.score > 0.0 && self.ties <= *ties_left {
            *ties_left -= self.ties;
            return;
        }
        let (mut read, mut kept) = (0, 0);
        for end in &mut self.ends {
            for from in read..*end {
                let (column, residual) = (self.columns[from], self.residuals[from]);
                if comparable(residual, weights[column as usize]) == cut.score {
                    if *ties_left == 0 {
                        continue;
                    }
                    *ties_left -= 1;
                }
                if residual != 0.0 {
                    (self.columns[kept], self.residuals[kept]) = (column, residual);
                    kept += 1;
                }
            }
            (read, *end) = (*end, kept);
        }
        self.columns.truncate(kept);
        self.residuals.truncate(kept);
    }
}
