//! The `residua` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(residua_cli::run(std::env::args_os()))
}
