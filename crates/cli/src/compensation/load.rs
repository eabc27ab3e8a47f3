//! Class statistics to classify with: a file of them, or one variant of the state of tasks.

use std::path::Path;

use residua::compensate::statistics::Extent;
use residua::compensate::tasks::{SequenceReader, TaskRecord};
use residua::compensate::{ClassStatistics, Variant};
use residua::format::file::Checkpoint;
use residua::memory::Budget;

use super::advised;
use super::methods::VariantArg;
use crate::failure::{Failure, Result};

/// Class statistics, and what a state remembers of the tasks that they come from.
pub(crate) struct Loaded {
    pub(crate) statistics: ClassStatistics,
    pub(crate) records: Vec<TaskRecord>,
    /// The variant of a state.
    pub(crate) variant: Option<&'static str>,
}

/// Loads statistics for work that then takes `work` bytes. Of a state it takes the variant of `method`, or else that of
/// its first method. A budget that is too small for both is refused at once.
pub(crate) fn load(
    path: &Path,
    method: Option<VariantArg>,
    work: impl Fn(&Extent) -> u64,
    budget: &Budget,
) -> Result<Loaded> {
    // What cannot be opened is reported below.
    let state = Checkpoint::open_within(path, budget).ok().filter(SequenceReader::is_in);
    let Some(state) = state.map(|file| SequenceReader::of(file, budget)).transpose()? else {
        if method.is_some() {
            return Err(Failure::usage("--method is for a state of tasks"));
        }
        let statistics = ClassStatistics::load_for(path, work, budget).map_err(advised)?;
        return Ok(Loaded { statistics, records: Vec::new(), variant: None });
    };
    let first = super::state::known(state.names()).unwrap_or_default();
    let first = first.iter().copied().find(|variant| *variant != Variant::SeqFt).unwrap_or(Variant::SeqFt);
    let name = method.map_or(first, VariantArg::variant).name();
    let Some(stored) = state.statistics(name, budget)? else {
        return Err(Failure::usage(no_variant(path, name, &state)));
    };
    let extent = stored.extent();
    budget.require(extent.bytes.saturating_add(work(&extent)), "class statistics")?;
    let records = state.overview().records().to_vec();
    Ok(Loaded { statistics: stored.load(budget)?, records, variant: Some(name) })
}

/// Why a state has no statistics of a variant.
pub(crate) fn no_variant(path: &Path, name: &str, state: &SequenceReader) -> String {
    let methods: Vec<_> = state.names().filter_map(VariantArg::name_of).collect();
    format!("{} has no variant {name}; --method takes {}", path.display(), methods.join(", "))
}
