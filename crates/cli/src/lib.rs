//! The `residua` command line.
//!
//! It is a library for the sake of the first build: cargo compiles a library while the code of its dependencies is still
//! being generated, but a program only after that.

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

use std::process::ExitCode;

use crate::failure::{Failure, Kind};

/// Runs the command that the process's arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // First, so that an early signal finds the handler.
    interrupt::tidy_up_on_signals();
    limits::become_errors();
    let command = match usage::parse() {
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
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind() != Kind::BrokenPipe {
                output::complain(&escape::line(&format!("error: {failure}")));
            }
            failure.exit_code()
        }
    }
}
