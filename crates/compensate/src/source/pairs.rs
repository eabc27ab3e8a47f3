//! Two sources, one after the other.

use super::{FeatureBlock, FeatureSource};
use crate::Result;
use crate::error::same_dimension;

/// The samples of one source and then those of another, without labels: what a compensator learns from.
pub struct ChainSource<'a> {
    sources: [&'a mut dyn FeatureSource; 2],
    current: usize,
    block: FeatureBlock,
}

impl<'a> ChainSource<'a> {
    /// `first`, then `second`.
    ///
    /// # Errors
    /// When their dimensions differ.
    pub fn new(first: &'a mut dyn FeatureSource, second: &'a mut dyn FeatureSource) -> Result<Self> {
        same_dimension("the second source", second.dim(), first.dim())?;
        let block = FeatureBlock::new(first.dim());
        Ok(Self { sources: [first, second], current: 0, block })
    }
}

impl std::fmt::Debug for ChainSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChainSource").field("current", &self.current).finish_non_exhaustive()
    }
}

impl FeatureSource for ChainSource<'_> {
    fn dim(&self) -> usize {
        self.sources[0].dim()
    }

    fn rows(&self) -> Option<u64> {
        self.sources[0].rows()?.checked_add(self.sources[1].rows()?)
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        while self.current < 2 {
            self.block.clear();
            let count = self.sources[self.current].read(most, &mut self.block)?;
            if count > 0 {
                block.push_pairs(&self.block)?;
                return Ok(count);
            }
            self.current += 1;
        }
        Ok(0)
    }

    fn rewind(&mut self) -> Result<()> {
        self.sources.iter_mut().try_for_each(|source| source.rewind())?;
        self.current = 0;
        Ok(())
    }
}
