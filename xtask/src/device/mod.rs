//! `cargo xtask device`: all work that needs a GPU, in programs that run on another machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Deserialize;

use crate::Result;
use crate::project::{Project, cargo};

const HELP: &str = "\
Test and time the GPU backends: the conformance suite, a repeat-for-bits check, and tables against a copy on the device, cuSPARSE
and cuBLAS.

Usage: cargo xtask device [--backend cuda|wgpu] [--build-only] [options of the programs]

  --backend B   only this backend [default: both, one after the other]
  --build-only  only build target/device/residua-device-cuda and -wgpu. They run on a machine without Rust and without a
                registry: carry the folder there and start run.sh
  --device N, --no-conformance, --quick
                options of the programs; their results are device-*.json and device-*.md in target/device
  --emulate     test the CUDA program without a GPU";

/// A backend with a device program.
#[derive(Clone, Copy, PartialEq)]
enum Backend {
    Cuda,
    Wgpu,
}

impl Backend {
    const ALL: [Self; 2] = [Self::Cuda, Self::Wgpu];

    fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
        }
    }

    /// The file name of its program.
    fn program(self) -> String {
        format!("residua-device-{}{}", self.name(), std::env::consts::EXE_SUFFIX)
    }

    /// Whether its program takes an option of the command line.
    fn takes(self, option: &OsString) -> bool {
        self == Self::Cuda || option != "--emulate"
    }
}

/// The command line.
struct Asked {
    backends: Vec<Backend>,
    build_only: bool,
    rest: Vec<OsString>,
}

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let asked = parse(args)?;
    let project = Project::read()?;
    let folder = project.target.join("device");
    for &backend in &asked.backends {
        println!("{}", build(&project, &folder, backend)?.display());
    }
    let script = folder.join("run.sh");
    std::fs::write(&script, SCRIPT)?;
    executable_by_all(&script)?;
    if asked.build_only {
        return Ok(ExitCode::SUCCESS);
    }
    let mut passed = true;
    for &backend in &asked.backends {
        let options = asked.rest.iter().filter(|option| backend.takes(option));
        let mut program = Command::new(folder.join(backend.program()));
        passed &= program.arg("--out").arg(&folder).args(options).status()?.success();
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A script that runs the programs beside it. The machine needs nothing else.
const SCRIPT: &str = r#"#!/bin/sh
# Tests and times Residua's GPU backends on this machine. Options go to both programs (--help lists them).
# Results: device-cuda.json, device-cuda.md, device-wgpu.json, device-wgpu.md, beside this file.
here=$(cd "$(dirname "$0")" && pwd)
passed=0
for program in "$here"/residua-device-cuda "$here"/residua-device-wgpu; do
    [ -x "$program" ] || continue
    "$program" --out "$here" "$@" || passed=1
done
exit $passed
"#;

fn parse(args: Vec<OsString>) -> Result<Asked> {
    let mut asked = Asked { backends: Backend::ALL.to_vec(), build_only: false, rest: Vec::new() };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--build-only") => asked.build_only = true,
            Some("--backend") => {
                let wanted = args.next().unwrap_or_default();
                let backend = Backend::ALL.into_iter().find(|backend| wanted == backend.name());
                asked.backends = vec![backend.ok_or("--backend takes cuda or wgpu")?];
            }
            _ => asked.rest.push(arg),
        }
    }
    Ok(asked)
}

/// Cargo's message about a finished target.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds a program and copies it to `folder`.
fn build(project: &Project, folder: &Path, backend: Backend) -> Result<PathBuf> {
    let output = Command::new(cargo())
        .args([
            "build",
            "--release",
            "-p",
            &format!("residua-backend-{}", backend.name()),
            "--bench",
            "device",
        ])
        .arg("--message-format=json-render-diagnostics")
        .env("RESIDUA_COMMIT", commit(&project.root))
        .current_dir(&project.root)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the {} program does not build", backend.name()).into());
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout)).ok_or("cargo names no program")?;
    std::fs::create_dir_all(folder)?;
    let program = folder.join(backend.program());
    std::fs::copy(built, &program)?;
    Ok(program)
}

fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()).find_map(|artifact| {
        artifact.target.is_some_and(|target| target.name == "device").then_some(artifact.executable?)
    })
}

fn executable_by_all(file: &Path) -> Result {
    #[cfg(unix)]
    std::fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// The commit of the build, with a mark if files differ from it.
fn commit(root: &Path) -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(head) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_none_or(|files| !files.is_empty());
    if changed { format!("{head} with changes") } else { head }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"cudarc"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"device"},"executable":"/t/release/deps/device-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/t/release/deps/device-1".into()));
        assert_eq!(executable("{}"), None);
    }

    #[test]
    fn options_go_to_the_programs_that_have_them() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        let asked = parse(words("--quick --emulate --build-only")).unwrap();
        assert!(asked.backends == Backend::ALL && asked.build_only);
        assert_eq!(asked.rest, words("--quick --emulate"));
        assert!(Backend::Cuda.takes(&asked.rest[1]) && !Backend::Wgpu.takes(&asked.rest[1]));
        let asked = parse(words("--backend wgpu --device llvmpipe")).unwrap();
        assert!(asked.backends == [Backend::Wgpu]);
        assert_eq!(asked.rest, words("--device llvmpipe"));
        assert!(parse(words("--backend metal")).is_err());
    }
}
