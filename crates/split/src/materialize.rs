//! Base and residual in, dense checkpoint out.

use std::path::Path;

use residua_memory::Budget;

use crate::{MaterializeReport, Progress, SplitError};

/// Writes `base + alpha · residual` of every tensor of `file`, rounded to the original dtypes, as a dense
/// safetensors file; tensors that passed through are copied. `base` is the base checkpoint of a file that
/// does not hold its base itself; without it the path noted in the file is tried.
///
/// # Errors
/// When a file cannot be read or written, the base checkpoint is not the one the file was made from, a
/// result overflows its dtype, or the budget is too small.
pub fn materialize(
    _file: &Path,
    _base: Option<&Path>,
    _alpha: f32,
    _output: &Path,
    _budget: &Budget,
    _progress: &dyn Progress,
) -> Result<MaterializeReport, SplitError> {
    Err(SplitError::Usage("not in this build yet".into()))
}
