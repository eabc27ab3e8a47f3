//! What the commands about class statistics share.

pub(crate) mod arrays;
pub(crate) mod blocks;
pub(crate) mod classifiers;
pub(crate) mod methods;
pub(crate) mod pairs;
pub(crate) mod protocol;
pub(crate) mod timeline;

use residua::format::file::Checkpoint;

/// Whether a file holds class statistics.
pub(crate) fn holds_statistics(file: &Checkpoint) -> bool {
    file.metadata().contains_key("residua.statistics")
}
