//! Where a command writes.

use std::path::Path;

use residua::format::file::check_output;

use crate::failure::Result;
use crate::notes;

/// Checks, before anything is computed, that `output` has a place and is none of the inputs. Tells how an input that is a
/// folder or an index was understood.
pub(crate) fn check<'a>(
    output: &Path,
    inputs: impl IntoIterator<Item = &'a Path, IntoIter: Clone>,
) -> Result {
    let inputs = inputs.into_iter();
    inputs.clone().for_each(notes::tell_path);
    Ok(check_output(output, inputs)?)
}
