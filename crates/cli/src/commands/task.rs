//! `residua task STATE --before X --after Y --labels L`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use residua::compensate::tasks::{SequenceLock, SequenceReader};
use residua::compensate::{CompensateError, FeatureSource, Pairs, Task, TaskSequence, Variant};
use residua::format::file::FileError;
use residua::memory::process;
use residua::split::{Progress, SplitError};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::advised;
use crate::compensation::arrays::{ArrayRef, Arrays, SYNTAX};
use crate::compensation::features::Features;
use crate::compensation::methods::{MethodArg, expect_distinct};
use crate::compensation::state::State;
use crate::destination;
use crate::escape;
use crate::failure::{Failure, Result};
use crate::output::{bytes, number_of, print, print_json};
use crate::progress::Bar;

/// Interval between checks whether another run on the state has ended.
const POLL: Duration = Duration::from_millis(20);

pub(crate) const EXAMPLE: &str = "\
Examples (after residua demo):
  residua task model.state.safetensors --after residua-demo/drift.safetensors:old_before --labels y_old --method linear
  residua task model.state.safetensors --before residua-demo/drift.safetensors:cur_before --after residua-demo/drift.safetensors:cur_after_full --labels y_cur
  residua stats extract model.state.safetensors --method linear -o linear.safetensors

If a task has samples of an old class, they merge with the old statistics of that class. A killed run leaves the
state of the last finished task: run its task again. The command refuses a task with the samples of a finished task,
because they would count twice; --again counts them. Of two runs on one state the second waits.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub(crate) struct Args {
    /// The state after the tasks so far; the first task creates the file, each further task replaces it
    state: PathBuf,
    /// Features [n, d] of the task's samples before the task; not for the first task
    #[arg(long, value_name = "FEATURES")]
    before: Option<ArrayRef>,
    /// Features of the same samples after the task
    #[arg(long, value_name = "FEATURES")]
    after: ArrayRef,
    /// Labels [n] of the samples; a bare name is a tensor in the file of the features after the task
    #[arg(long, value_name = "LABELS")]
    labels: ArrayRef,
    /// Features [n, d] of auxiliary inputs before and after the task: any unlabelled inputs of the same kind. A few
    /// hundred bring more than the choice of a method; repeat the option for several
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], action = clap::ArgAction::Append)]
    auxiliary: Vec<ArrayRef>,
    /// The samples to fit methods on: the task's own, auxiliary ones, or both [default: both]
    #[arg(long, value_enum)]
    pairs: Option<PairsArg>,
    /// A method to move old classes; only for the first task; repeat the option for several. The state has statistics
    /// for each method, and statistics without a method [default: linear]
    #[arg(long, value_enum, value_name = "METHOD")]
    method: Vec<MethodArg>,
    /// Accept a task with the samples of a finished task; they count twice
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    run: RunArgs,
}

/// The samples to fit methods on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PairsArg {
    /// The task's own samples
    Current,
    /// The samples of --auxiliary
    Auxiliary,
    /// Both, or only the task's own if there are no auxiliary ones
    Both,
}

impl From<PairsArg> for Pairs {
    fn from(pairs: PairsArg) -> Self {
        match pairs {
            PairsArg::Current => Self::Current,
            PairsArg::Auxiliary => Self::Auxiliary,
            PairsArg::Both => Self::Both,
        }
    }
}

#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    state: State,
    state_bytes: u64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

pub(crate) fn run(args: &Args) -> Result {
    if args.pairs == Some(PairsArg::Auxiliary) && args.auxiliary.is_empty() {
        return Err(Failure::usage("--pairs auxiliary: name them with --auxiliary BEFORE AFTER"));
    }
    expect_distinct(&args.method)?;
    let labelled = [&args.after, &args.labels].into_iter().chain(&args.before);
    destination::check(&args.state, labelled.chain(&args.auxiliary).map(ArrayRef::path))?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    let arrays = Arrays {
        // The first task has no features before it; nothing reads these.
        before: args.before.clone().unwrap_or_else(|| args.after.clone()),
        after: Some(args.after.clone()),
        labels: Some(args.labels.beside(&args.after)),
    };
    let mut source = Features::open(vec![arrays], "reading", &budget, &bar)?;
    let auxiliary = args.auxiliary.chunks_exact(2).map(|pair| Arrays {
        before: pair[0].clone(),
        after: Some(pair[1].clone()),
        labels: None,
    });
    let auxiliary: Vec<_> = auxiliary.collect();
    let mut auxiliary = match auxiliary.is_empty() {
        true => None,
        false => Some(Features::open(auxiliary, "reading", &budget, &bar)?),
    };
    let _lock = lock(&args.state, &bar)?;
    // A file that we cannot access is not a missing file.
    let there = args.state.try_exists().map_err(FileError::io(&args.state, "look for"))?;
    let (tasks, mut state) = if there {
        if !args.method.is_empty() {
            return Err(Failure::usage("--method is for the first task; the state has its methods"));
        }
        let saved = SequenceReader::open(&args.state, &budget).map_err(advised)?;
        (saved.tasks(), TaskSequence::new(saved.dim(), variants(&saved, &args.state)?))
    } else {
        let methods = if args.method.is_empty() { &[MethodArg::Linear][..] } else { &args.method };
        let variants = methods.iter().map(|method| method.variant());
        (0, TaskSequence::new(source.dim(), std::iter::once(Variant::SeqFt).chain(variants)))
    };
    if tasks == 0 && args.before.is_some() {
        let problem = format!(
            "{} holds no task yet, and nothing is before the first: leave --before out",
            args.state.display()
        );
        return Err(Failure::usage(problem));
    }
    if tasks > 0 && args.before.is_none() {
        let problem = format!("{} knows {}: name --before", args.state.display(), number_of(tasks, "task"));
        return Err(Failure::usage(problem));
    }
    source.expect_dim(state.dim(), &format!("{} holds statistics", args.state.display()))?;
    state.repeats = args.again;
    state.pairs = args.pairs.map_or_else(Pairs::default, Pairs::from);
    let mut task = Task::new(&mut source);
    if let Some(auxiliary) = &mut auxiliary {
        auxiliary.expect_dim(state.dim(), &format!("{} holds statistics", args.state.display()))?;
        task = task.with_auxiliary(auxiliary);
    }
    let saved = state.finish_task_in(&args.state, task, &budget).map_err(|error| match error {
        CompensateError::Repeated { .. } => {
            Failure::usage(format!("{}: {error}; --again takes them all the same", args.state.display()))
        }
        other => other.into(),
    })?;
    drop((source, auxiliary));
    drop(bar);
    let done = Done {
        state: State::new(&saved),
        state_bytes: std::fs::metadata(&args.state).map_or(0, |metadata| metadata.len()),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: process::peak_rss(),
        memory_budget_bytes: budget.limit(),
    };
    if args.run.json { print_json(&done) } else { print(text(&done, &args.state)) }
}

/// Waits until no other run works on the state.
fn lock(state: &Path, bar: &Bar) -> Result<SequenceLock> {
    loop {
        if let Some(lock) = SequenceLock::take(state)? {
            return Ok(lock);
        }
        if bar.stop() {
            return Err(SplitError::Interrupted.into());
        }
        std::thread::sleep(POLL);
    }
}

fn text(done: &Done, state: &Path) -> String {
    let peak = done.peak_memory_bytes.map_or_else(|| "?".into(), bytes);
    format!(
        "{}\n\ntook {:.1} s, memory peak {peak} of {}; wrote {}, {}",
        done.state.text(),
        done.seconds,
        bytes(done.memory_budget_bytes),
        escape::path(state),
        bytes(done.state_bytes)
    )
}

/// The variants of a state.
fn variants(saved: &SequenceReader, path: &Path) -> Result<Vec<Variant>> {
    let known = |name: &str| {
        let unknown = || FileError::malformed(path, format!("variant {name:?} is unknown"));
        Variant::ALL.into_iter().find(|variant| variant.name() == name).ok_or_else(unknown)
    };
    Ok(saved.names().map(known).collect::<Result<_, _>>()?)
}
