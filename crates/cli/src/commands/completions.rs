//! `residua completions SHELL`.

use clap::Command;
use clap_complete::Shell;

use crate::failure::Result;
use crate::output;

pub(crate) const EXAMPLE: &str = "\
Example:
  residua completions bash > residua.bash";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints a script for `grammar`, the whole command line.
pub(crate) fn run(args: &Args, mut grammar: Command) -> Result {
    // The generator panics when its writer fails; a `Vec` never fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut grammar, "residua", &mut script);
    output::print(String::from_utf8_lossy(&script))
}
