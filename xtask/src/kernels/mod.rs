//! `cargo xtask kernels`: what is generated from the kernels' sources, and whether it is what is committed.

pub(crate) mod cuda;
mod generated;
mod wgsl;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::Result;
use crate::project::Project;
use generated::Generated;

const HELP: &str = "\
Copy the WGSL kernels to crates/backend-wgpu/wgsl and validate every variant with naga. Compile the CUDA kernels to PTX,
report what they need, and write both to crates/backend-cuda/ptx.

Usage: cargo xtask kernels [--check]

  --check  write nothing; fail when a committed file differs

The compilers come from PyPI into target/cuda-venv; neither a GPU nor a CUDA toolkit is needed.";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let mut check = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("check") => check = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let project = Project::read()?;
    // First, because validation reads the copies.
    let mut differing = generated::settle(&wgsl::copies(&project)?, check)?;
    let valid = wgsl::validate()?;
    let files = cuda::generate(&project, &cuda::compilers(&project)?)?;
    differing.extend(generated::settle(&files, check)?);
    for path in &differing {
        let path = path.strip_prefix(&project.root).unwrap_or(path).display();
        println!("{} {path}", if check { "differs:" } else { "wrote" });
    }
    let failed = !valid || (check && !differing.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The answer of `test-all`'s row `ptx`: files that differ, or why nothing could be compared.
pub(crate) fn ptx_drift(project: &Project, compilers: &crate::venv::Venv) -> Result<Vec<String>> {
    drift(project, &cuda::generate(project, compilers)?)
}

/// The answer of `test-all`'s row `wgsl`: copies that differ from their sources.
pub(crate) fn wgsl_drift(project: &Project) -> Result<Vec<String>> {
    drift(project, &wgsl::copies(project)?)
}

fn drift(project: &Project, files: &[Generated]) -> Result<Vec<String>> {
    let differing = generated::settle(files, true)?;
    Ok(differing
        .iter()
        .map(|path| path.strip_prefix(&project.root).unwrap_or(path).display().to_string())
        .collect())
}
