//! Arguments that several commands share.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use residua::memory::{Budget, ByteSize, process};
use residua::split::BaseLocation;

use crate::failure::{Failure, Result};
use crate::progress::Bar;

/// The limit of `--threads` on a machine with fewer cores. Thousands of threads take minutes to start, and each counts
/// against the memory budget.
const MOST_THREADS: usize = 256;

/// Memory of the process outside reservations: allocator, thread stacks, code that first use pages in.
const SLACK: u64 = 6 << 20;
/// The same, per worker thread.
const SLACK_PER_THREAD: u64 = 512 << 10;

/// How to run.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RunArgs {
    /// Print machine-readable JSON on stdout
    #[arg(long, help_heading = "Running")]
    pub(crate) json: bool,
    /// Worker threads, 0 for one per core
    #[arg(long, value_name = "N", help_heading = "Running", default_value = "0", value_parser = threads)]
    threads: usize,
    /// Show no progress bar
    #[arg(long, help_heading = "Running")]
    quiet: bool,
}

impl RunArgs {
    /// Starts the worker threads. Call it once, before you make the budget, so that their stacks count.
    pub(crate) fn start(&self) -> Result {
        rayon::ThreadPoolBuilder::new()
            .num_threads(self.threads)
            .build_global()
            .map_err(|error| Failure::new(crate::failure::Kind::Other, error))
    }

    /// A progress bar; it draws only at a terminal.
    pub(crate) fn progress(&self) -> Bar {
        Bar::new(self.quiet)
    }
}

/// Where the base is, if the file was split against a checkpoint.
#[derive(Debug, Clone, Args)]
pub(crate) struct BaseArgs {
    /// The base, if the file was split against a checkpoint [default: the path in the file, if it lies in the file's
    /// folder or below]
    #[arg(long, value_name = "CHECKPOINT")]
    pub(crate) base: Option<PathBuf>,
    /// Follow the path in the file wherever it leads
    #[arg(long, conflicts_with = "base")]
    follow_base: bool,
}

impl BaseArgs {
    pub(crate) fn location(&self) -> BaseLocation {
        match (&self.base, self.follow_base) {
            (Some(base), _) => BaseLocation::At(base.clone()),
            (None, true) => BaseLocation::Stored,
            (None, false) => BaseLocation::Near,
        }
    }

    /// The option that was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        match self.location() {
            BaseLocation::At(_) => Some("--base"),
            BaseLocation::Stored => Some("--follow-base"),
            BaseLocation::Near => None,
        }
    }
}

/// The budget of the command; 0 while there is none.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// Peak and budget, if the process held more than its budget. A debug build has no such promise to keep.
pub(crate) fn over_budget() -> Option<(u64, u64)> {
    let (peak, limit) = (process::peak_rss()?, LIMIT.load(Ordering::Relaxed));
    (limit > 0 && peak > limit && !cfg!(debug_assertions)).then_some((peak, limit))
}

/// How much memory to take.
#[derive(Debug, Clone, Args)]
pub(crate) struct BudgetArgs {
    /// Memory that the whole process may hold, such as 512MiB or 2GB
    #[arg(long, value_name = "SIZE", default_value = "1GiB", help_heading = "Running")]
    memory_budget: ByteSize,
}

impl BudgetArgs {
    /// The budget, minus the memory that the process already holds.
    pub(crate) fn budget(&self) -> Result<Budget> {
        LIMIT.store(self.memory_budget.0, Ordering::Relaxed);
        let slack = SLACK + SLACK_PER_THREAD * rayon::current_num_threads() as u64;
        Ok(Budget::for_process(self.memory_budget.0, slack)?)
    }
}

/// A number of threads; 0 means one per core.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let most = MOST_THREADS.max(cores);
    match usize::from_str(text) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(format!("write a number from 0 to {most}; 0 is one per core")),
    }
}

/// A share between 0 and 1.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match f64::from_str(text) {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("write a number from 0 to 1, such as 0.05 for 5 %".into()),
    }
}

/// A finite number above 0.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match f64::from_str(text) {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("write a number above 0".into()),
    }
}

/// A finite number.
pub(crate) fn finite(text: &str) -> Result<f32, String> {
    match f32::from_str(text) {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("write a finite number".into()),
    }
}

/// A value type by its name.
pub(crate) fn value_type(text: &str) -> Result<residua::format::ValueType, String> {
    use residua::format::ValueType;
    ValueType::ALL
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| format!("known value types: {}", ValueType::ALL.map(ValueType::name).join(", ")))
}
