//! Features read a block at a time, for commands that classify them.

use residua::compensate::{Classifier, CompensateError, FeatureBlock, FeatureSource, Side};
use residua::memory::Budget;

use super::arrays::Arrays;
use super::pairs::Pairs;
use crate::failure::{Failure, Kind, Result};
use crate::progress::Bar;

/// Rows of a block.
const ROWS: usize = 1024;

/// A block of one file's features, and the file's arrays.
pub(crate) struct Block<'a> {
    pairs: &'a Pairs<'a>,
    features: &'a FeatureBlock,
    /// The number of the block's first row.
    first: u64,
}

/// Calls `work` with all rows of features, with their labels if there are any.
pub(crate) fn for_each_block(
    arrays: Arrays,
    dim: usize,
    statistics: &str,
    budget: &Budget,
    bar: &Bar,
    mut work: impl FnMut(&Block<'_>) -> Result,
) -> Result {
    let mut source = Pairs::open(vec![arrays], "classifying", bar)?;
    source.expect_dim(dim, statistics)?;
    // The block, and the buffers of one array that it is read through.
    let _held = budget.reserve((ROWS * (16 * dim + 8)) as u64, "a block of features")?;
    source.rewind()?;
    let (mut block, mut first) = (FeatureBlock::new(dim), 0);
    loop {
        block.clear();
        if source.read(ROWS, &mut block).map_err(|error| source.explain(error))? == 0 {
            break;
        }
        work(&Block { pairs: &source, features: &block, first })?;
        first += block.rows() as u64;
    }
    if first == 0 {
        return Err(source.explain(CompensateError::Empty("the array of features")));
    }
    Ok(())
}

impl Block<'_> {
    /// Labels that the classifier gives.
    pub(crate) fn predict(&self, classifier: &dyn Classifier, budget: &Budget) -> Result<Vec<u32>> {
        let features = self.features.side(Side::Before)?;
        classifier.predict(features, budget).map_err(|error| match error {
            CompensateError::NotFinite { what, row, column, value } => {
                self.pairs.explain(CompensateError::NotFinite { what, row: self.first + row, column, value })
            }
            other => other.into(),
        })
    }

    /// The true labels, each of which has to be one of `known`, rising.
    pub(crate) fn labels(&self, known: &[u32], statistics: &str) -> Result<&[u32]> {
        let labels = self.features.labels().map_err(|error| self.pairs.explain(error))?;
        match labels.iter().position(|label| known.binary_search(label).is_err()) {
            None => Ok(labels),
            Some(at) => {
                let problem = format!(
                    "row {}: label {} is none of the {} classes of {statistics}",
                    self.first + at as u64,
                    labels[at],
                    known.len()
                );
                Err(Failure::new(Kind::Input, problem).about(self.pairs.labels_name()))
            }
        }
    }
}
