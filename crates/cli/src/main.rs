//! The residua command line.

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

use crate::failure::Kind;

fn main() -> ExitCode {
    // First, so that an early signal finds the handler.
    interrupt::tidy_up_on_signals();
    limits::become_errors();
    let command = match usage::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind() != Kind::BrokenPipe {
                output::complain(&escape::line(&format!("error: {failure}")));
            }
            failure.exit_code()
        }
    }
}
