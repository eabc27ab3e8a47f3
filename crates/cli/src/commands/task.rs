//! `residua task STATE --before X --after Y --labels L`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use residua::compensate::compensator::Warning;
use residua::compensate::tasks::{SequenceLock, SequenceReader, previous_path, undo};
use residua::compensate::{CompensateError, FeatureSource, Pairs, Task, TaskSequence, Variant};
use residua::format::file::FileError;
use residua::memory::{Budget, process};
use residua::split::{Progress, SplitError};
use serde::Serialize;

use crate::args::{BudgetArgs, RunArgs};
use crate::compensation::advised;
use crate::compensation::arrays::{ArrayRef, Arrays, SYNTAX};
use crate::compensation::errors::warn;
use crate::compensation::features::Features;
use crate::compensation::methods::{VariantArg, expect_distinct};
use crate::compensation::state::{self, State};
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
because they would count twice; --again counts them. Of two runs on one state the second waits.

The state before the task stays beside the new one, as STATE.previous; --undo puts it back. --dry-run does all the work
and all the checks, and leaves the state as it is.";

#[derive(Debug, clap::Args)]
#[command(after_long_help = format!("{EXAMPLE}\n\n{SYNTAX}"))]
pub(crate) struct Args {
    /// The state after the tasks so far; the first task creates the file, each further task replaces it
    state: PathBuf,
    /// Features [n, d] of the task's samples before the task; not for the first task
    #[arg(long, value_name = "FEATURES")]
    before: Option<ArrayRef>,
    /// Features of the same samples after the task
    #[arg(long, value_name = "FEATURES", required_unless_present = "undo")]
    after: Option<ArrayRef>,
    /// Labels [n] of the samples; a bare name is a tensor in the file of the features after the task
    #[arg(long, value_name = "LABELS", required_unless_present = "undo")]
    labels: Option<ArrayRef>,
    /// Features [n, d] of auxiliary inputs before and after the task: any unlabelled inputs of the same kind. A few
    /// hundred bring more than the choice of a method; repeat the option for several
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], action = clap::ArgAction::Append)]
    auxiliary: Vec<ArrayRef>,
    /// The samples to fit methods on: the task's own, auxiliary ones, or both [default: both]
    #[arg(long, value_enum)]
    pairs: Option<PairsArg>,
    /// A method to move old classes; repeat the option for several. The state has statistics for each method, and
    /// statistics without a method. A method that is added after some tasks goes on from the statistics of the first
    /// one [default: those of the state, or linear for the first task]
    #[arg(long, value_enum, value_name = "METHOD")]
    method: Vec<VariantArg>,
    /// A name for the task, which inspect and classify show
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The name of the model after the task; a name that the state has known for an earlier model is refused
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Keep old classes as they are where the map is no help on pairs that are left out
    #[arg(long)]
    keep_if_worse: bool,
    /// Do all the work and report, but leave the state as it is
    #[arg(long)]
    dry_run: bool,
    /// Take the latest task back: put the state before it in the place of the state
    #[arg(long, conflicts_with_all = ["before", "after", "labels", "auxiliary", "pairs", "method", "again", "name", "model", "keep_if_worse", "dry_run"])]
    undo: bool,
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
    /// Whether the state is as it was before the command.
    dry_run: bool,
    /// What may be wrong, and what helps.
    warnings: Vec<Found>,
    state_bytes: u64,
    seconds: f64,
    peak_memory_bytes: Option<u64>,
    memory_budget_bytes: u64,
}

/// A warning about a variant.
#[derive(Serialize)]
struct Found {
    variant: String,
    #[serde(flatten)]
    warning: Warning,
}

pub(crate) fn run(args: &Args) -> Result {
    let (Some(after), Some(labels)) = (&args.after, &args.labels) else { return take_back(args) };
    if args.pairs == Some(PairsArg::Auxiliary) && args.auxiliary.is_empty() {
        return Err(Failure::usage("--pairs auxiliary: name them with --auxiliary BEFORE AFTER"));
    }
    expect_distinct(&args.method)?;
    let labelled = [after, labels].into_iter().chain(&args.before);
    destination::check(&args.state, labelled.chain(&args.auxiliary).map(ArrayRef::path))?;
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    let arrays = Arrays {
        // The first task has no features before it; nothing reads these.
        before: args.before.clone().unwrap_or_else(|| after.clone()),
        after: Some(after.clone()),
        labels: Some(labels.beside(after)),
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
        let saved = SequenceReader::open(&args.state, &budget).map_err(advised)?;
        let mut variants = state::known(saved.names())
            .map_err(|name| FileError::malformed(&args.state, format!("variant {name:?} is unknown")))?;
        add(&mut variants, &args.method);
        (saved.tasks(), TaskSequence::new(saved.dim(), variants))
    } else {
        let mut variants = vec![Variant::SeqFt];
        add(&mut variants, if args.method.is_empty() { &[VariantArg::Linear] } else { &args.method });
        (0, TaskSequence::new(source.dim(), variants))
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
    (state.repeats, state.keep_previous, state.keep_if_worse) = (args.again, true, args.keep_if_worse);
    state.pairs = args.pairs.map_or_else(Pairs::default, Pairs::from);
    let mut task = Task::new(&mut source);
    (task.name, task.model) = (args.name.clone(), args.model.clone());
    if let Some(auxiliary) = &mut auxiliary {
        auxiliary.expect_dim(state.dim(), &format!("{} holds statistics", args.state.display()))?;
        task = task.with_auxiliary(auxiliary);
    }
    let prepared = state.prepare_task_in(&args.state, task, &budget).map_err(|error| match error {
        CompensateError::Repeated { .. } => {
            Failure::usage(format!("{}: {error}; --again takes them all the same", args.state.display()))
        }
        CompensateError::Space { .. } => Failure::from(error).about(args.state.display()),
        other => other.into(),
    })?;
    let state = State::new(prepared.overview());
    let found =
        |(variant, warning): &(String, Warning)| Found { variant: variant.clone(), warning: warning.clone() };
    let warnings = prepared.warnings().iter().map(found).collect();
    if args.dry_run {
        drop(prepared);
    } else {
        prepared.commit(&budget)?;
    }
    drop((source, auxiliary));
    drop(bar);
    report(args, state, warnings, start, &budget)
}

/// Takes back the latest task.
fn take_back(args: &Args) -> Result {
    args.run.start()?;
    let budget = args.budget.budget()?;
    let start = Instant::now();
    let bar = args.run.progress();
    let _lock = lock(&args.state, &bar)?;
    let saved = undo(&args.state, &budget).map_err(advised)?;
    drop(bar);
    report(args, State::new(saved.overview()), Vec::new(), start, &budget)
}

/// Adds variants that are not there yet.
fn add(variants: &mut Vec<Variant>, methods: &[VariantArg]) {
    for variant in methods.iter().map(|method| method.variant()) {
        if !variants.contains(&variant) {
            variants.push(variant);
        }
    }
}

fn report(args: &Args, state: State, warnings: Vec<Found>, start: Instant, budget: &Budget) -> Result {
    let done = Done {
        state,
        dry_run: args.dry_run,
        warnings,
        state_bytes: std::fs::metadata(&args.state).map_or(0, |metadata| metadata.len()),
        seconds: start.elapsed().as_secs_f64(),
        peak_memory_bytes: process::peak_rss(),
        memory_budget_bytes: budget.limit(),
    };
    if args.run.json {
        return print_json(&done);
    }
    print(text(&done, args))?;
    done.warnings.iter().for_each(|found| warn(Some(&found.variant), &found.warning));
    Ok(())
}

/// Waits until no other run works on the state.
fn lock(state: &std::path::Path, bar: &Bar) -> Result<SequenceLock> {
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

fn text(done: &Done, args: &Args) -> String {
    let peak = done.peak_memory_bytes.map_or_else(|| "?".into(), bytes);
    let path = escape::path(&args.state);
    let wrote = match () {
        () if args.dry_run => format!("would write {path}: --dry-run leaves it as it is"),
        () if args.undo => format!("the latest task is taken back: {path} is what it was before it"),
        () => {
            let previous = previous_path(&args.state);
            let kept = if previous.exists() { "; --undo takes the task back" } else { "" };
            format!("wrote {path}, {}{kept}", bytes(done.state_bytes))
        }
    };
    let (state, seconds, budget) = (done.state.text(), done.seconds, bytes(done.memory_budget_bytes));
    format!("{state}\n\ntook {seconds:.1} s, memory peak {peak} of {budget}; {wrote}")
}
