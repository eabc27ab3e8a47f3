//! Sources read one after the other.

use std::path::PathBuf;

use super::{FeatureBlock, FeatureSource, Fingerprint};
use crate::{CompensateError, Result};

/// The samples of several sources, one source after the other.
pub struct ChainSource<'a> {
    sources: Vec<Box<dyn FeatureSource + 'a>>,
    current: usize,
    /// Samples on their way, where labels are dropped.
    unlabelled: Option<FeatureBlock>,
}

impl<'a> ChainSource<'a> {
    /// These sources in this order: all with labels, or none.
    ///
    /// # Errors
    /// When there is no source or dimensions differ.
    pub fn new(sources: Vec<Box<dyn FeatureSource + 'a>>) -> Result<Self> {
        let Some(first) = sources.first() else {
            return Err(CompensateError::Empty("the list of sources".into()));
        };
        let expected = first.dim();
        if let Some(other) = sources.iter().find(|source| source.dim() != expected) {
            let what = format!("a feature of {}, beside {},", other.name(), first.name());
            return Err(CompensateError::Dimension { what, found: other.dim(), expected });
        }
        Ok(Self { sources, current: 0, unlabelled: None })
    }

    /// The same samples without labels, for sources of which some have labels and some have not.
    #[must_use]
    pub fn without_labels(mut self) -> Self {
        self.unlabelled = Some(FeatureBlock::new(self.dim()));
        self
    }
}

impl std::fmt::Debug for ChainSource<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("ChainSource").field("sources", &names).field("current", &self.current).finish()
    }
}

impl FeatureSource for ChainSource<'_> {
    fn dim(&self) -> usize {
        self.sources.first().map_or(0, |source| source.dim())
    }

    fn rows(&self) -> Option<u64> {
        self.sources.iter().try_fold(0u64, |sum, source| sum.checked_add(source.rows()?))
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        while let Some(source) = self.sources.get_mut(self.current) {
            let count = match &mut self.unlabelled {
                None => source.read(most, block)?,
                Some(passing) => {
                    passing.clear();
                    let count = source.read(most, passing)?;
                    block.push_unlabelled(passing)?;
                    count
                }
            };
            if count > 0 {
                return Ok(count);
            }
            self.current += 1;
        }
        Ok(0)
    }

    fn rewind(&mut self) -> Result<()> {
        self.current = 0;
        self.sources.iter_mut().try_for_each(|source| source.rewind())
    }

    fn is_double(&self) -> bool {
        self.sources.iter().any(|source| source.is_double())
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        for source in &mut self.sources {
            if !source.for_each_label(f)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn name(&self) -> String {
        self.sources.first().map_or_else(String::new, |source| source.name())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.sources.iter().flat_map(|source| source.files()).collect()
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.sources.iter().flat_map(|source| source.fingerprints()).collect()
    }
}
