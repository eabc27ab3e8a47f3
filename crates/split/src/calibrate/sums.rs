//! Sums over the rows of activations.

use super::plan::Group;
use crate::SplitError;
use crate::product::add_gram;

/// Sums of squares of every feature.
pub(super) struct Squares(Vec<f64>);

impl Squares {
    pub(super) fn new(width: usize) -> Self {
        Self(vec![0.0; width])
    }

    pub(super) fn add(&mut self, rows: &[f64]) {
        for row in rows.chunks_exact(self.0.len()) {
            self.0.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * x);
        }
    }

    /// The mean squares.
    pub(super) fn finish(self, group: &Group<'_>) -> Result<Vec<f32>, SplitError> {
        let means: Vec<f32> = self.0.iter().map(|sum| (sum / group.rows as f64) as f32).collect();
        if let Some(feature) = means.iter().position(|mean| !mean.is_finite()) {
            return Err(group.problem(format!("feature {feature}: its mean square is too large for f32")));
        }
        if means.iter().all(|&mean| mean == 0.0) {
            return Err(group.problem("all features are 0".into()));
        }
        Ok(means)
    }
}

/// Sums of products, of some diagonal blocks.
pub(super) struct Moments {
    width: usize,
    block: usize,
    /// The first of the blocks.
    first: usize,
    /// The lower triangle of each block, `[block, block]`.
    sums: Vec<f64>,
}

impl Moments {
    /// Room for so many blocks.
    pub(super) fn new(width: usize, block: usize, blocks: usize) -> Self {
        Self { width, block, first: 0, sums: vec![0.0; blocks * block * block] }
    }

    /// Starts again, with the blocks from `first` on.
    pub(super) fn start(&mut self, first: usize) {
        self.first = first;
        self.sums.fill(0.0);
    }

    /// The first feature of every block and its number of features; the last block may have fewer than the others.
    fn parts(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (width, block) = (self.width, self.block);
        let blocks = self.first..self.first + self.sums.len() / (block * block);
        blocks
            .map(move |number| number * block)
            .take_while(move |&first| first < width)
            .map(move |first| (first, block.min(width - first)))
    }

    pub(super) fn add(&mut self, rows: &[f64]) {
        let parts = self.parts();
        for (sums, (first, size)) in self.sums.chunks_exact_mut(self.block * self.block).zip(parts) {
            // A block that is only partly used is dense until it is written.
            add_gram(&mut sums[..size * size], size, rows, self.width, first);
        }
    }

    /// An error if no split can use these moments.
    pub(super) fn check(&self, group: &Group<'_>) -> Result<(), SplitError> {
        for (sums, (first, size)) in self.sums.chunks_exact(self.block * self.block).zip(self.parts()) {
            let squares = || (0..size).map(|feature| sums[feature * size + feature]);
            // No product is larger than the larger of two squares.
            if let Some(feature) = squares().position(|sum| !((sum / group.rows as f64) as f32).is_finite()) {
                let problem = format!("feature {}: its mean square is too large for f32", first + feature);
                return Err(group.problem(problem));
            }
            if squares().all(|sum| sum == 0.0) {
                let last = first + size - 1;
                return Err(group.problem(format!("features {first} to {last} are 0 in every row")));
            }
        }
        Ok(())
    }

    /// Hands over the means, block by block and row by row, as bytes of f32.
    pub(super) fn write<E>(&self, rows: u64, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut line = vec![0f32; self.block];
        for (sums, (_, size)) in self.sums.chunks_exact(self.block * self.block).zip(self.parts()) {
            for row in 0..self.block {
                line.fill(0.0);
                if row < size {
                    for (col, mean) in line[..size].iter_mut().enumerate() {
                        let sum = sums[row.max(col) * size + row.min(col)];
                        *mean = (sum / rows as f64) as f32;
                    }
                }
                write(bytemuck::cast_slice(&line))?;
            }
        }
        Ok(())
    }
}
