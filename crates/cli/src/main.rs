//! The `residua` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    residua_cli::main()
}
