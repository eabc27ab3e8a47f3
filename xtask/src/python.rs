//! `cargo xtask python`: builds the wheel of the Python package.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::Result;
use crate::project::{Project, cargo};
use crate::venv::Venv;

const HELP: &str = "\
Build the wheel of the Python package into target/wheels; one wheel serves CPython 3.11 and later.

Usage: cargo xtask python

Needs Python 3.11 or newer. Installs maturin into target/maturin-venv. Then:

  pip install target/wheels/residua-*.whl";

/// The tool that builds wheels.
const STEPS: &[&[&str]] = &[&["maturin>=1.9.4,<2"]];

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let mut parser = lexopt::Parser::from_args(args);
    if let Some(arg) = parser.next()? {
        return match arg {
            Long("help") | Short('h') => {
                println!("{HELP}");
                Ok(ExitCode::SUCCESS)
            }
            _ => Err(arg.unexpected().into()),
        };
    }
    let project = Project::read()?;
    if !build(&project)?.status()?.success() {
        return Err("the wheel does not build".into());
    }
    println!("{}", wheel(&project)?.display());
    Ok(ExitCode::SUCCESS)
}

fn folder(project: &Project) -> PathBuf {
    project.target.join("wheels")
}

/// The command that builds the wheel. Removes older ones.
pub(crate) fn build(project: &Project) -> Result<Command> {
    for old in wheels(&folder(project))? {
        fs::remove_file(old)?;
    }
    let venv = Venv::prepare(&project.target.join("maturin-venv"), STEPS)?;
    let mut command = Command::new(venv.python());
    command
        .args(["-m", "maturin", "build", "--release", "--locked", "--manifest-path"])
        .arg(project.root.join("crates/python/Cargo.toml"))
        .arg("--out")
        .arg(folder(project))
        .env("CARGO", cargo())
        .env("CARGO_TARGET_DIR", &project.target);
    Ok(command)
}

/// The wheel that was built.
pub(crate) fn wheel(project: &Project) -> Result<PathBuf> {
    let folder = folder(project);
    let wheel = wheels(&folder)?.pop();
    wheel.ok_or_else(|| format!("{} has no wheel", folder.display()).into())
}

fn wheels(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            found.push(path);
        }
    }
    Ok(found)
}
