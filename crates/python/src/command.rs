//! The `residua` command.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs the `residua` command and returns its exit code. `args` begins with the name of the program.
///
/// Call it once in a process: it handles signals, starts threads and counts memory as the process's own.
#[pyfunction]
#[pyo3(signature = (args, /))]
pub(crate) fn command(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| residua_cli::run(args))
}
