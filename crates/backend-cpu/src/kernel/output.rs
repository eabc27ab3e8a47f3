//! The part of `y` that a kernel writes.

use crate::tile::Tile;

/// What a row's sum is multiplied by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor<'a> {
    pub(crate) alpha: f32,
    /// One scale per row of the chunk, or nothing where all are 1.
    pub(crate) scales: &'a [f32],
}

impl Factor<'_> {
    #[inline(always)]
    pub(crate) fn of(&self, row: usize) -> f32 {
        self.scales.get(row).map_or(self.alpha, |scale| self.alpha * scale)
    }
}

/// The rows of `y` that a chunk owns.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// `[rows of the chunk, batch]`.
    pub(crate) y: &'a mut [f32],
    pub(crate) batch: usize,
}

impl Rows<'_> {
    /// The number of rows.
    pub(crate) fn count(&self) -> usize {
        self.y.len() / self.batch
    }

    /// The columns of a tile.
    pub(crate) fn of(&mut self, tile: &Tile<'_>) -> Output<'_> {
        Output { y: self.y, batch: self.batch, at: tile.at, used: tile.used }
    }
}

/// The rows of `y` that a chunk owns, and the columns that a tile writes.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    /// `[rows of the chunk, batch]`.
    pub(crate) y: &'a mut [f32],
    pub(crate) batch: usize,
    /// First column of the tile.
    pub(crate) at: usize,
    /// Columns of the tile.
    pub(crate) used: usize,
}

impl Output<'_> {
    /// The tile's part of a row.
    #[inline(always)]
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.y[row * self.batch + self.at..][..self.used]
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.y.len() / self.batch
    }

    /// Adds `factor · sums` to a row; sums past the tile's columns are dropped.
    #[inline(always)]
    pub(crate) fn add(&mut self, row: usize, factor: f32, sums: &[f32]) {
        for (y, sum) in self.row(row).iter_mut().zip(sums) {
            *y += factor * sum;
        }
    }
}
