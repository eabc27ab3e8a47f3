//! Statistics merged from files to a file.

use std::collections::BTreeSet;
use std::path::Path;

use residua_format::file::check_output;
use residua_memory::Budget;

use super::file::LABEL;
use super::{ClassGaussian, StatisticsBuilder, StatisticsReader, StatisticsWriter, Written, require_rewrite};
use crate::{CompensateError, Result, Tag};

/// Merges the statistics in `inputs` to the file `output`, class by class, as [`ClassStatistics::merge`] does. `each` sees
/// the label of every class that is done, and the number of all classes; its error stops the job. The output appears
/// complete or not at all.
///
/// [`ClassStatistics::merge`]: super::ClassStatistics::merge
///
/// # Errors
/// When there is no input, an input cannot be read or comes twice, dimensions differ, tags show that two inputs have the
/// same samples or are of different models, the output is an input or cannot be
/// written, or the budget has no room.
pub fn merge_files<P: AsRef<Path>>(
    inputs: &[P],
    output: impl AsRef<Path>,
    budget: &Budget,
    mut each: impl FnMut(u32, usize) -> Result<()>,
) -> Result<Written> {
    check_output(output.as_ref(), inputs.iter().map(AsRef::as_ref))?;
    expect_different(inputs)?;
    require_rewrite(inputs, 0, budget)?;
    let files =
        inputs.iter().map(|input| StatisticsReader::open(input, budget)).collect::<Result<Vec<_>>>()?;
    let Some(dim) = files.first().map(StatisticsReader::dim) else {
        return Err(CompensateError::Empty("the list of files to merge".into()));
    };
    if let Some((path, file)) = inputs.iter().zip(&files).find(|(_, file)| file.dim() != dim) {
        let what = format!("{}: a set of statistics to merge", path.as_ref().display());
        return Err(CompensateError::Dimension { what, found: file.dim(), expected: dim });
    }
    let mut tag = Tag::default();
    for (path, file) in inputs.iter().zip(&files) {
        tag = tag.merge(file.tag()).map_err(|error| match error {
            CompensateError::Space { problem } => {
                let path = path.as_ref().display();
                CompensateError::Space { problem: format!("{path} and the files before it: {problem}") }
            }
            other => other,
        })?;
    }
    let most = files.iter().map(StatisticsReader::len).sum::<usize>() as u64;
    let _held = budget.reserve(LABEL * most, "the labels of all files")?;
    let labels: BTreeSet<u32> = files.iter().flat_map(|file| file.counts().map(|(label, _)| label)).collect();
    let count = labels.len();
    let mut output = StatisticsWriter::create(output, dim, count, budget)?.with_tag(tag);
    for label in labels {
        let mut merged: Option<ClassGaussian> = None;
        for file in &files {
            let Some(next) = file.class(label, budget)? else { continue };
            merged = Some(match merged {
                None => next,
                Some(merged) => merged.merge(&next, budget)?,
            });
        }
        merged.iter().try_for_each(|class| output.add(label, class))?;
        each(label, count)?;
    }
    // Some systems do not replace a file that is open.
    drop(files);
    output.finish()
}

/// Merges partial statistics, files that [`StatisticsBuilder::save`] wrote. Parts of a known whole may come in any order; others
/// are merged in the order in which they are given. `each` sees the number of every file that is done; its error stops the
/// job.
///
/// # Errors
/// When there is no input, an input cannot be read, is damaged or comes twice, a part is missing between others, dimensions or
/// leaves differ, or the budget has no room.
pub fn merge_partials<P: AsRef<Path>>(
    inputs: &[P],
    budget: &Budget,
    mut each: impl FnMut(usize) -> Result<()>,
) -> Result<StatisticsBuilder> {
    expect_different(inputs)?;
    let mut sorted = Vec::with_capacity(inputs.len());
    for input in inputs {
        let (first, leaves) = StatisticsBuilder::peek(input, budget)?;
        sorted.push((leaves.total().map(|_| first), input.as_ref()));
    }
    // A stable sort: parts of an unknown whole stay as they are.
    sorted.sort_by_key(|&(first, _)| first);
    let mut merged: Option<StatisticsBuilder> = None;
    for (number, (_, path)) in sorted.into_iter().enumerate() {
        let next = StatisticsBuilder::load(path, budget)?;
        merged = Some(match merged {
            None => next,
            Some(mut merged) => {
                merged.merge(next).map_err(|error| error.in_file(path))?;
                merged
            }
        });
        each(number + 1)?;
    }
    merged.ok_or_else(|| CompensateError::Empty("the list of files to merge".into()))
}

fn expect_different<P: AsRef<Path>>(inputs: &[P]) -> Result<()> {
    let Some(path) = repeated(inputs) else { return Ok(()) };
    let problem = format!("{} is given twice: its samples would count twice", path.display());
    Err(CompensateError::Statistics { problem })
}

/// A file that comes twice, under any name.
fn repeated<P: AsRef<Path>>(inputs: &[P]) -> Option<&Path> {
    let mut seen = BTreeSet::new();
    // Opening a file that does not exist reports the error.
    let mut is_new = |path: &Path| path.canonicalize().map_or(true, |path| seen.insert(path));
    inputs.iter().map(AsRef::as_ref).find(|path| !is_new(path))
}
