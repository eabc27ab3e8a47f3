//! Shared code of the commands for class statistics.

pub(crate) mod arrays;
pub(crate) mod classifiers;
pub(crate) mod correct;
pub(crate) mod errors;
pub(crate) mod features;
pub(crate) mod load;
pub(crate) mod methods;
pub(crate) mod protocol;
pub(crate) mod sequence;
pub(crate) mod state;
pub(crate) mod timeline;

use std::path::Path;

use residua::compensate::{CompensateError, Content};
use residua::format::file::Checkpoint;
use residua::memory::Budget;

use crate::failure::{Failure, Kind, Result};

/// The error, with advice if a file holds something else than the command needs.
pub(crate) fn advised(error: CompensateError) -> Failure {
    let CompensateError::Content { found, wanted, .. } = &error else { return error.into() };
    let advice = match (found, wanted) {
        (Content::Tasks, _) => {
            "take one method's statistics out of it with `residua stats extract`; classify takes it as it is"
        }
        (Content::Partial, _) => "merge all parts with `residua stats merge`",
        (Content::Compensator, _) => "compensate --fit takes it",
        (_, Content::Compensator) => "residua compensate --save-fit writes it",
        (Content::Statistics, _) => "compensate, classify and stats merge take it",
        (_, Content::Tasks) => "residua task writes it",
        _ => "residua stats, stats merge, stats extract and compensate write them",
    };
    Failure::new(Kind::Input, format!("{error}; {advice}"))
}

/// Refuses a file of class statistics if a command needs weights.
pub(crate) fn expect_weights(path: &Path, budget: &Budget) -> Result {
    // The command itself reports a file that it cannot open.
    let Ok(file) = Checkpoint::open_within(path, budget) else { return Ok(()) };
    let takers = match Content::of(&file) {
        Content::Statistics => "compensate, classify, stats merge, inspect and report",
        Content::Partial => "stats merge",
        Content::Compensator => "compensate --fit",
        Content::Tasks => "task, stats extract and inspect",
        _ => return Ok(()),
    };
    let problem = format!("holds {}, no weights; {takers} take it", Content::of(&file));
    Err(Failure::input(path, problem))
}
