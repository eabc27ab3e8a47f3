//! What the commands about class statistics share.

pub(crate) mod arrays;
pub(crate) mod blocks;
pub(crate) mod classifiers;
pub(crate) mod methods;
pub(crate) mod pairs;
pub(crate) mod protocol;
pub(crate) mod state;
pub(crate) mod timeline;

use std::path::Path;

use residua::compensate::drift::DriftReader;
use residua::compensate::statistics::StatisticsReader;
use residua::format::file::Checkpoint;

use crate::failure::{Failure, Result};

/// Refuses a file about classes where weights are wanted.
pub(crate) fn expect_weights(path: &Path) -> Result {
    // A file that cannot be opened, the command will complain about.
    let problem = match Checkpoint::open(path) {
        Ok(file) if StatisticsReader::is_in(&file) => {
            "holds class statistics, no weights; compensate, classify, stats merge, inspect and report take it"
        }
        Ok(file) if DriftReader::is_in(&file) => {
            "holds the state of tasks, no weights; task, stats extract and inspect take it"
        }
        _ => return Ok(()),
    };
    Err(Failure::input(path, problem))
}
