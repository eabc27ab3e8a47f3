//! One large split by the real binary: speed, peak memory, size of the result.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use residua_memory::ByteSize;
use serde::Deserialize;

use crate::Result;
use crate::make_checkpoint;
use crate::project::Project;

const BUDGET: &str = "512MiB";
const DENSITY: f64 = 0.05;

/// The output of `peers/peak.py` about a finished process.
#[derive(Deserialize)]
struct Usage {
    code: i32,
    seconds: f64,
    peak_bytes: u64,
}

/// Makes a checkpoint of `size` and splits it; a section of the page.
pub(super) fn run(project: &Project, size: &str) -> Result<String> {
    let folder = project.target.join("bench-data").join(format!("scale-{size}"));
    let parameters = make_checkpoint::make_if_missing(&folder, size)?;
    let mut text = format!(
        "## A checkpoint of {size} shapes within {BUDGET}\n\n{parameters} parameters, bf16, density {} %, \
         every matrix split: `residua split --include '*' --memory-budget {BUDGET}`.\n\n\
         | residual values | peak memory of the process | Mparam/s | residual, bytes per parameter | file, bytes per parameter |\n\
         |---|---|---|---|---|\n",
        DENSITY * 100.0
    );
    for values in ["bf16", "i8"] {
        eprintln!("splitting {size} with {values} values");
        let out = folder.with_extension(format!("{values}.safetensors"));
        let usage = measured(
            project,
            &[
                "split".as_ref(),
                folder.as_ref(),
                "-o".as_ref(),
                out.as_ref(),
                "--include".as_ref(),
                "*".as_ref(),
                "--density".as_ref(),
                DENSITY.to_string().as_ref(),
                "--values".as_ref(),
                values.as_ref(),
                "--memory-budget".as_ref(),
                BUDGET.as_ref(),
            ],
        )?;
        if usage.code != 0 {
            return Err(format!("residua split ended with exit code {}", usage.code).into());
        }
        let bytes = fs::metadata(&out)?.len();
        let residual = residual_bytes(project, &out)?;
        fs::remove_file(&out)?;
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "| {values} | {} | {:.0} | {:.4} | {:.4} |",
            ByteSize(usage.peak_bytes),
            parameters as f64 / usage.seconds / 1e6,
            residual as f64 / parameters as f64,
            bytes as f64 / parameters as f64,
        );
    }
    text += "\nThe file also holds the 4-bit base (0.5 bytes per parameter) and all tensors that are not split.\n\n";
    Ok(text)
}

/// The output of `residua inspect`.
#[derive(Deserialize)]
struct Inspected {
    residual_bytes: u64,
}

fn residual_bytes(project: &Project, file: &Path) -> Result<u64> {
    let residua = project.target.join("release").join("residua");
    let output = Command::new(residua).arg("inspect").arg(file).arg("--json").output()?;
    Ok(serde_json::from_slice::<Inspected>(&output.stdout)?.residual_bytes)
}

fn measured(project: &Project, args: &[&Path]) -> Result<Usage> {
    let output = Command::new(project.target.join("bench-venv").join("bin").join("python"))
        .arg(project.root.join("xtask").join("peers").join("peak.py"))
        .arg(project.target.join("release").join("residua"))
        .args(args)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}
