//! Which arrays belong to which tensors, and the blocks of their second moments.

use residua_memory::Budget;

use super::activations::{ActivationsAt, LayerInputs};
use super::{ROWS, Statistic};
use crate::progress::check_stop;
use crate::split::{UNIT, moments_bytes};
use crate::{Progress, SplitError};

/// Inputs that mean squares need at least: fewer say little about a feature's size.
const FEWEST: u64 = 16;

/// Tensors with the same inputs.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) names: Vec<&'a str>,
    arrays: Vec<&'a ActivationsAt>,
    /// Rows of all arrays.
    pub(super) rows: u64,
    /// Features of a row.
    pub(super) width: usize,
    /// Features of a block of second moments; `None` for mean squares.
    pub(super) block: Option<usize>,
}

/// The groups, in the order of their first tensors. Opens every array once.
pub(super) fn groups<'a>(
    layers: &'a [LayerInputs],
    statistic: Statistic,
    budget: &Budget,
) -> Result<Vec<Group<'a>>, SplitError> {
    let mut tensors: Vec<(&str, Vec<&ActivationsAt>)> = Vec::new();
    for LayerInputs { tensor, activations } in layers {
        match tensors.iter_mut().find(|(name, _)| name == tensor) {
            None => tensors.push((tensor, vec![activations])),
            Some((_, arrays)) if arrays.contains(&activations) => {
                let path = activations.path().display();
                let problem = format!("{tensor} has {path} twice: its rows would count twice");
                return Err(SplitError::Usage(problem));
            }
            Some((_, arrays)) => arrays.push(activations),
        }
    }
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (name, arrays) in tensors {
        match groups.iter_mut().find(|group| group.arrays == arrays) {
            Some(group) => group.names.push(name),
            None => groups.push(Group::new(name, arrays, statistic, budget)?),
        }
    }
    Ok(groups)
}

impl<'a> Group<'a> {
    fn new(
        name: &'a str,
        arrays: Vec<&'a ActivationsAt>,
        statistic: Statistic,
        budget: &Budget,
    ) -> Result<Self, SplitError> {
        let mut new = Self { names: vec![name], arrays, rows: 0, width: 0, block: None };
        for (number, at) in new.arrays.iter().enumerate() {
            let array = at.open(budget)?;
            if number > 0 && array.width != new.width {
                let problem = format!("{} features here, {} in the file before", array.width, new.width);
                return Err(SplitError::tensor(at.path(), name, problem));
            }
            new.width = array.width;
            new.rows += array.rows as u64;
        }
        if let Statistic::SecondMoments { block } = statistic {
            new.block = Some(match block {
                None => largest_block(new.width, budget.available()),
                Some(block) if block >= new.width => new.width,
                Some(block) if block > 0 && block % UNIT == 0 => block,
                Some(block) => {
                    let problem = format!("blocks of {block} features: take a multiple of {UNIT}");
                    return Err(SplitError::Usage(problem));
                }
            });
        }
        new.check_rows()?;
        Ok(new)
    }

    fn check_rows(&self) -> Result<(), SplitError> {
        // With fewer rows than features a block has no inverse.
        let fewest = self.block.map_or(0, |block| block as u64).max(FEWEST);
        if self.rows >= fewest {
            return Ok(());
        }
        let problem = match self.block {
            None => format!("{} rows are too few: mean squares need {fewest}", self.rows),
            Some(block) => format!(
                "{} rows are too few: second moments in blocks of {block} features need {fewest}; \
                 give more rows, take smaller blocks or mean squares",
                self.rows
            ),
        };
        Err(self.problem(problem))
    }

    /// The error about the inputs of these tensors.
    pub(super) fn problem(&self, problem: String) -> SplitError {
        let path = self.arrays.first().map_or_else(Default::default, |array| array.path().to_owned());
        SplitError::Tensor { file: path, tensor: self.names[0].to_owned(), problem }
    }

    /// Diagonal blocks.
    pub(super) fn blocks(&self) -> usize {
        self.block.map_or(1, |block| self.width.div_ceil(block))
    }

    /// Hands over all rows, some at a time.
    pub(super) fn for_each(
        &self,
        budget: &Budget,
        progress: &dyn Progress,
        mut add: impl FnMut(&[f64]),
    ) -> Result<(), SplitError> {
        let mut buffer = vec![0.0; ROWS * self.width];
        for array in &self.arrays {
            let array = array.open(budget)?;
            for first in (0..array.rows).step_by(ROWS) {
                check_stop(progress)?;
                let rows = first..array.rows.min(first + ROWS);
                let out = &mut buffer[..rows.len() * self.width];
                array.read(rows, self.names[0], out)?;
                add(out);
                progress.advance(8 * out.len() as u64);
            }
        }
        Ok(())
    }
}

/// The largest blocks that this job and a split can hold. Blocks of one tensor have about the same size.
fn largest_block(width: usize, available: u64) -> usize {
    // A split has other buffers, too.
    let fits = |block: usize| moments_bytes(block, width) <= available - available / 4;
    if fits(width) {
        return width;
    }
    let sizes = (1..width.div_ceil(UNIT)).map(|units| units * UNIT);
    let largest = sizes.take_while(|&size| fits(size)).last().unwrap_or(UNIT);
    let blocks = width.div_ceil(largest);
    (width.div_ceil(blocks).next_multiple_of(UNIT)).min(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_large_as_the_budget_allows() {
        assert_eq!(largest_block(1000, 1 << 30), 1000);
        for (width, mebibytes) in [(4096, 512), (4096, 64), (11008, 512), (11008, 128), (300, 1)] {
            let available = mebibytes << 20;
            let block = largest_block(width, available);
            assert!(block == width || block.is_multiple_of(UNIT), "{width} {mebibytes} {block}");
            assert!(moments_bytes(block, width) <= available, "{width} {mebibytes} {block}");
            // One block fewer would not fit.
            let blocks = width.div_ceil(block);
            if blocks > 1 {
                let larger = width.div_ceil(blocks - 1).next_multiple_of(UNIT).min(width);
                assert!(moments_bytes(larger, width) > available - available / 4, "{width} {mebibytes}");
            }
        }
        assert_eq!(largest_block(300, 0), UNIT);
        assert_eq!(largest_block(100, 0), 100);
    }
}
