//! Developer tasks, run as `cargo xtask <task>`.

mod bench;
mod demo_data;
mod device;
mod floors;
mod fuzz;
mod install_capi;
mod instrument;
mod kernels;
mod kill_test;
mod make_checkpoint;
mod mounted;
mod project;
mod python;
mod quality;
mod random;
mod test_all;
mod venv;
mod workbench;

use std::ffi::OsString;
use std::process::{Command, ExitCode};

/// Any failure of a task; the tasks only print it.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const HELP: &str = "\
Developer tasks.

Usage: cargo xtask <task> [options]

  test-all         run the whole test matrix and print one table
  make-checkpoint  write a random sharded checkpoint with the shapes of a real model
  bench            time Residua and its peers in turn, write docs/benchmarks.md
  quality          measure bits against quality beside other quantisers, write docs/quality.md
  install-capi     build the C library and install it with its header
  python           build the wheel of the Python package
  device           test and time the GPU backends, or build the programs that do
  fuzz             run every reader on mutated files and the command line on random arguments
  kill-test        kill every command that writes at random moments, check what remains
  kernels          validate and copy the WGSL kernels, compile the CUDA ones to PTX
  demo-data        cut the data of the demo from assets

`cargo xtask <task> --help` shows the options.";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let task = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    let outcome = match task.to_str() {
        Some("test-all") => test_all::main(args),
        Some("make-checkpoint") => optimised("make-checkpoint", args, make_checkpoint::main),
        Some("quality") => quality::main(args),
        Some("install-capi") => install_capi::main(args),
        Some("bench") => optimised("bench", args, bench::main),
        Some("python") => python::main(args),
        Some("device") => device::main(args),
        Some("fuzz") => fuzz::main(args),
        Some("kill-test") => kill_test::main(args),
        Some("kernels") => kernels::main(args),
        Some("demo-data") => demo_data::main(args),
        Some("--help" | "-h" | "help") => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `task` here when this binary is optimised, else through a release build of it.
///
/// `cargo xtask` builds without optimisation to start fast. Without optimisation, generating gigabytes takes an hour.
fn optimised(
    name: &str,
    args: Vec<OsString>,
    task: fn(Vec<OsString>) -> Result<ExitCode>,
) -> Result<ExitCode> {
    if !cfg!(debug_assertions) {
        return task(args);
    }
    let status = Command::new(project::cargo())
        .args(["run", "--quiet", "--release", "--package", "xtask", "--", name])
        .args(args)
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
