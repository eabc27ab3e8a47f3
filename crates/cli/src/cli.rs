//! The command line's grammar.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands::{
    bench, calibrate, classify, compensate, completions, convert, demo, devices, diff, evaluate, inspect,
    materialize, patch, report, split, stats, task, verify,
};
use crate::failure::{EXIT_CODES, Result};

/// Splits model weights into a small dense base and a sparse residual, stores the residual in 2–3 bytes per
/// non-zero, and applies it. Ships deltas between checkpoints. Keeps class statistics valid while a model is
/// tuned. All jobs run within a memory budget.
///
/// Without a command it runs the demo on bundled real weights and features.
#[derive(Debug, Parser)]
#[command(name = "residua", version, args_conflicts_with_subcommands = true, after_help = EXIT_CODES)]
#[command(after_long_help = format!("{}\n\n{EXIT_CODES}", demo::EXAMPLE))]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    demo: demo::Args,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on bundled real weights and features (the default)
    #[command(after_help = demo::EXAMPLE)]
    Demo(demo::Args),
    /// Measure the inputs of layers from stored activations, so that split loses less
    #[command(after_help = calibrate::EXAMPLE)]
    Calibrate(calibrate::Args),
    /// Split a checkpoint into base and sparse residual
    #[command(after_help = split::EXAMPLE)]
    Split(split::Args),
    /// Show what a file holds, tensor by tensor, and its size in other formats
    #[command(after_help = inspect::EXAMPLE)]
    Inspect(inspect::Args),
    /// Check that a split file is well-formed, and measure its distance from a checkpoint
    #[command(after_help = verify::EXAMPLE)]
    Verify(verify::Args),
    /// Turn a split file back into a dense checkpoint, at any alpha
    #[command(after_help = materialize::EXAMPLE)]
    Materialize(materialize::Args),
    /// Store what changed between two checkpoints
    #[command(after_help = diff::EXAMPLE)]
    Diff(diff::Args),
    /// Apply a delta: the old checkpoint becomes the new one, bit for bit
    #[command(after_help = patch::EXAMPLE)]
    Patch(patch::Args),
    /// Convert a matrix between .npz, .mtx, .npy and .safetensors
    #[command(after_help = convert::EXAMPLE)]
    Convert(convert::Args),
    /// Collect class statistics from features and labels
    #[command(after_help = stats::EXAMPLE)]
    Stats(stats::Args),
    /// Move class statistics along with a fine-tuned model
    #[command(after_help = compensate::EXAMPLE)]
    Compensate(compensate::Args),
    /// Add a task: move the old classes, add the new ones, save the state
    #[command(after_help = task::EXAMPLE)]
    Task(task::Args),
    /// Classify features with a classifier rebuilt from class statistics
    #[command(after_help = classify::EXAMPLE)]
    Classify(classify::Args),
    /// Compare stale, moved and true class statistics on the features of one file
    #[command(after_help = evaluate::EXAMPLE)]
    Evaluate(evaluate::Args),
    /// List what this machine can compute on
    #[command(after_help = devices::EXAMPLE)]
    Devices(devices::Args),
    /// Time sparse products on this machine
    #[command(after_help = bench::EXAMPLE)]
    Bench(bench::Args),
    /// Write a self-contained HTML page with plots about a file
    #[command(after_help = report::EXAMPLE)]
    Report(report::Args),
    /// Print a completion script for a shell
    #[command(after_help = completions::EXAMPLE)]
    Completions(completions::Args),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> Result {
        match self.command.unwrap_or(Command::Demo(self.demo)) {
            Command::Demo(args) => demo::run(&args),
            Command::Calibrate(args) => calibrate::run(&args),
            Command::Split(args) => split::run(&args),
            Command::Inspect(args) => inspect::run(&args),
            Command::Verify(args) => verify::run(&args),
            Command::Materialize(args) => materialize::run(&args),
            Command::Diff(args) => diff::run(&args),
            Command::Patch(args) => patch::run(&args),
            Command::Convert(args) => convert::run(&args),
            Command::Stats(args) => stats::run(&args),
            Command::Compensate(args) => compensate::run(&args),
            Command::Task(args) => task::run(&args),
            Command::Classify(args) => classify::run(&args),
            Command::Evaluate(args) => evaluate::run(&args),
            Command::Devices(args) => devices::run(&args),
            Command::Bench(args) => bench::run(&args),
            Command::Report(args) => report::run(&args),
            Command::Completions(args) => completions::run(&args, Self::command()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("\n  residua "), "{}: {help}", command.get_name());
        }
    }
}
