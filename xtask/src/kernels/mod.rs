//! `cargo xtask kernels`: generates files from the sources of the kernels, or compares them with the committed ones.

pub(crate) mod cuda;
mod generated;
mod wgsl;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use crate::project::Project;
use generated::Generated;

const HELP: &str = "\
Copy the kernels to the crates that embed them: WGSL to crates/backend-wgpu/wgsl, CUDA to crates/backend-cuda/ptx. Validate
every variant of the WGSL kernels with naga. Compile the CUDA kernels to PTX, and report the resources that they need.

Usage: cargo xtask kernels [--check | --sources]

  --check    write nothing; fail if a committed file differs
  --sources  only copy the sources; needs no compiler. Tests run the copies

The task installs the compilers from PyPI into target/cuda-venv. It needs neither a GPU nor a CUDA toolkit.";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut check, mut sources) = (false, false);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("check") => check = true,
            Long("sources") => sources = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let project = Project::read()?;
    let mut cuda = cuda::copies(&project)?;
    // First, because validation reads the copies.
    let mut differing = generated::settle(&wgsl::copies(&project)?, check)?;
    let valid = sources || wgsl::validate()?;
    if !sources {
        cuda.extend(cuda::compile(&project, &cuda::compilers(&project)?, &cuda)?);
    }
    differing.extend(generated::settle(&cuda, check)?);
    for path in relative(&project, &differing) {
        println!("{} {path}", if check { "differs:" } else { "wrote" });
    }
    let failed = !valid || (check && !differing.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The files of the CUDA kernels that differ from their sources: the row `ptx` of `test-all`.
pub(crate) fn ptx_drift(project: &Project, compilers: &crate::venv::Venv) -> Result<Vec<String>> {
    let mut files = cuda::copies(project)?;
    files.extend(cuda::compile(project, compilers, &files)?);
    drift(project, &files)
}

/// The copies of the WGSL kernels that differ from their sources: the row `wgsl` of `test-all`.
pub(crate) fn wgsl_drift(project: &Project) -> Result<Vec<String>> {
    drift(project, &wgsl::copies(project)?)
}

fn drift(project: &Project, files: &[Generated]) -> Result<Vec<String>> {
    Ok(relative(project, &generated::settle(files, true)?))
}

fn relative(project: &Project, paths: &[PathBuf]) -> Vec<String> {
    let relative = |path: &PathBuf| path.strip_prefix(&project.root).unwrap_or(path).display().to_string();
    paths.iter().map(relative).collect()
}
