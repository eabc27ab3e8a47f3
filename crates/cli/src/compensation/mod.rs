//! What the commands about class statistics share.

pub(crate) mod arrays;
pub(crate) mod blocks;
pub(crate) mod classifiers;
pub(crate) mod methods;
pub(crate) mod pairs;
pub(crate) mod protocol;
pub(crate) mod timeline;

use residua::compensate::{ClassStatistics, Compensator};
use residua::format::file::Checkpoint;
use residua::memory::Budget;
use residua::split::Progress;

use crate::failure::Result;
use crate::progress::Bar;

/// Moves statistics a few classes at a time: the old ones go as the new ones come, so that hardly more than
/// one set is held.
pub(crate) fn apply(
    compensator: &dyn Compensator,
    mut stale: ClassStatistics,
    budget: &Budget,
    bar: &Bar,
) -> Result<ClassStatistics> {
    let labels: Vec<u32> = stale.iter().map(|(label, _)| label).collect();
    let mut moved = ClassStatistics::new(stale.dim());
    bar.begin_steps("moving", labels.len());
    for group in labels.chunks(2 * rayon::current_num_threads()) {
        let part = compensator.apply(&stale.select(|label| group.contains(&label)), budget)?;
        stale = stale.select(|label| !group.contains(&label));
        for (label, class) in part.iter() {
            moved.insert(label, class.clone())?;
        }
        bar.advance(group.len() as u64);
    }
    bar.end();
    Ok(moved)
}

/// Whether a file holds class statistics.
pub(crate) fn holds_statistics(file: &Checkpoint) -> bool {
    file.metadata().contains_key("residua.statistics")
}
