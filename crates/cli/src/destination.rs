//! Where a command writes.

use std::path::Path;

use residua::format::file::check_output;

use crate::failure::Result;
use crate::notes;

/// Checks, before any computation, that the folder of `output` exists and that `output` is not an input. Prints a note
/// with the files behind a folder or an index.
pub(crate) fn check<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path, IntoIter: Clone>,
) -> Result {
    let inputs = inputs.into_iter();
    inputs.clone().for_each(notes::tell_path);
    Ok(check_output(output, inputs)?)
}
