//! The residua command line.

mod args;
mod cli;
mod commands;
mod compensation;
mod dense_rows;
mod destination;
mod failure;
mod histogram;
mod interrupt;
mod matrix_file;
mod notes;
mod output;
mod progress;
mod report;
mod sizes;
mod summary;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::Kind;

fn main() -> ExitCode {
    let command = cli::Cli::parse();
    interrupt::tidy_up_on_signals();
    match command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.kind() != Kind::BrokenPipe {
                eprintln!("error: {failure}");
            }
            failure.exit_code()
        }
    }
}
