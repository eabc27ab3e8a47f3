//! Features from an iterator.

use super::{FeatureBlock, FeatureSource};
use crate::error::same_dimension;
use crate::{CompensateError, Result};

/// A source over any iterator of batches, such as a channel or a model that runs while its features are read. It can be
/// read once. Batches may have any size.
#[derive(Debug)]
pub struct IterSource<I> {
    dim: usize,
    batches: I,
    current: FeatureBlock,
    next: usize,
    started: bool,
}

impl<I: Iterator<Item = Result<FeatureBlock>>> IterSource<I> {
    /// A source of features of dimension `dim`.
    pub fn new(dim: usize, batches: I) -> Self {
        Self { dim, batches, current: FeatureBlock::new(dim), next: 0, started: false }
    }
}

impl<I: Iterator<Item = Result<FeatureBlock>>> FeatureSource for IterSource<I> {
    fn dim(&self) -> usize {
        self.dim
    }

    fn rows(&self) -> Option<u64> {
        None
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        self.started = true;
        while self.next == self.current.rows() {
            let Some(batch) = self.batches.next() else { return Ok(0) };
            self.current = batch?;
            same_dimension("a batch of features", self.current.dim(), self.dim)?;
            self.next = 0;
        }
        let count = most.min(self.current.rows() - self.next);
        block.push_from(&self.current, self.next, count)?;
        self.next += count;
        Ok(count)
    }

    fn rewind(&mut self) -> Result<()> {
        if self.started {
            Err(CompensateError::Missing("second pass (an iterator is read once)"))
        } else {
            Ok(())
        }
    }
}
