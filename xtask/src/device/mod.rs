//! `cargo xtask device`: everything that needs a GPU, as one program that can be carried to it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde::Deserialize;

use crate::Result;
use crate::project::{Project, cargo};

const HELP: &str = "\
Try and time the CUDA backend: conformance, whether bits repeat, and tables beside cuSPARSE and cuBLAS.

Usage: cargo xtask device [--build-only] [options of the program]

  --build-only  only build target/device/residua-device, which runs on a machine with neither Rust nor a
                registry: carry it there and start it
  --device N, --out FOLDER, --no-conformance, --quick, --emulate
                go to the program; its results are device.json and device.md in target/device";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        println!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let project = Project::read()?;
    let program = build(&project)?;
    println!("{}", program.display());
    if args.iter().any(|arg| arg == "--build-only") {
        return Ok(ExitCode::SUCCESS);
    }
    let folder = project.target.join("device");
    let status = Command::new(&program).arg("--out").arg(folder).args(args).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What cargo says of a finished target.
#[derive(Deserialize)]
struct Artifact {
    executable: Option<PathBuf>,
    target: Option<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds the program and puts it where it is easy to find.
fn build(project: &Project) -> Result<PathBuf> {
    let output = Command::new(cargo())
        .args(["build", "--release", "-p", "residua-backend-cuda", "--bench", "device"])
        .arg("--message-format=json-render-diagnostics")
        .env("RESIDUA_COMMIT", commit(&project.root))
        .current_dir(&project.root)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the program does not build".into());
    }
    let built = executable(&String::from_utf8_lossy(&output.stdout)).ok_or("cargo names no program")?;
    let folder = project.target.join("device");
    std::fs::create_dir_all(&folder)?;
    let program = folder.join(format!("residua-device{}", std::env::consts::EXE_SUFFIX));
    std::fs::copy(built, &program)?;
    Ok(program)
}

fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok()).find_map(|artifact| {
        artifact.target.is_some_and(|target| target.name == "device").then_some(artifact.executable)?
    })
}

/// The commit that is built, marked where files differ from it.
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
}
