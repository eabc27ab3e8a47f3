//! The `residua` command as a function: its program and the Python package run the same.
//!
//! A library also makes the first build shorter: cargo compiles it while the code of its dependencies is still being
//! generated, but a program only after that.

mod args;
mod cli;
mod commands;
mod compensation;
mod dense_rows;
mod destination;
mod escape;
mod failure;
mod histogram;
mod interrupt;
mod limits;
mod matrix_file;
mod notes;
mod output;
mod progress;
mod report;
mod sizes;
mod summary;
mod usage;

use std::ffi::OsString;

use crate::failure::{Failure, Kind};

/// Runs the command line `args`, the name of the program first, and returns the exit code. Prints to this process's
/// stdout and stderr.
///
/// Call it once in a process: it handles signals, starts threads and counts memory as the process's own.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    // First, so that an early signal finds the handler.
    interrupt::tidy_up_on_signals();
    limits::become_errors();
    let command = match usage::parse(args) {
        Ok(command) => command,
        Err(code) => return code,
    };
    let done = command.run().and_then(|()| match args::over_budget() {
        None => Ok(()),
        Some((peak, limit)) => {
            let (peak, limit) = (output::bytes(peak), output::bytes(limit));
            let problem = format!("the command is done, but it held {peak} of a memory budget of {limit}");
            Err(Failure::new(Kind::Budget, problem))
        }
    });
    match done {
        Ok(()) => 0,
        Err(failure) => {
            if failure.kind() != Kind::BrokenPipe {
                output::complain(&escape::line(&format!("error: {failure}")));
            }
            failure.exit_code()
        }
    }
}
