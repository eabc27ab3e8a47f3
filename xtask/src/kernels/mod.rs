//! `cargo xtask kernels`: generates files from the sources of the kernels, or compares them with the committed ones.

pub(crate) mod cuda;
mod generated;
mod wgsl;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::Result;
use crate::project::Project;

const HELP: &str = "\
Validate the WGSL kernels with naga, in every variant. Copy the CUDA kernels to crates/backend-cuda/ptx, compile them to
PTX there, and report the resources that they need.

Usage: cargo xtask kernels [--check | --sources]

  --check    write nothing; fail if a committed file differs
  --sources  only copy the CUDA sources, which the emulator runs; needs no compiler

The compilers come from PyPI into target/cuda-venv. Neither a GPU nor a CUDA toolkit is needed.";

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
    let valid = sources || wgsl::validate()?;
    let project = Project::read()?;
    let mut files = cuda::copies(&project)?;
    if !sources {
        files.extend(cuda::compile(&project, &cuda::compilers(&project)?, &files)?);
    }
    let differing = generated::settle(&files, check)?;
    for path in relative(&project, &differing) {
        println!("{} {path}", if check { "differs:" } else { "wrote" });
    }
    let failed = !valid || (check && !differing.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The committed files that differ from generated ones.
pub(crate) fn drift(project: &Project, compilers: &crate::venv::Venv) -> Result<Vec<String>> {
    let mut files = cuda::copies(project)?;
    files.extend(cuda::compile(project, compilers, &files)?);
    Ok(relative(project, &generated::settle(&files, true)?))
}

fn relative(project: &Project, paths: &[PathBuf]) -> Vec<String> {
    let relative = |path: &PathBuf| path.strip_prefix(&project.root).unwrap_or(path).display().to_string();
    paths.iter().map(relative).collect()
}
