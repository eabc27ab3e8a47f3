//! Where a command writes.

use std::path::Path;

use residua::format::file::check_output;
use residua::memory::Budget;

use crate::failure::Result;
use crate::notes;

/// Memory for headers that are read for their notes, before the command has a budget.
const NOTES: u64 = 2 << 20;

/// Checks, before any computation, that the folder of `output` exists and that `output` is not an input. Prints a note
/// with the files behind a folder or an index.
pub(crate) fn check<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path, IntoIter: Clone>,
) -> Result {
    let inputs = inputs.into_iter();
    inputs.clone().for_each(|path| notes::tell_path(path, &Budget::new(NOTES)));
    Ok(check_output(output, inputs)?)
}
