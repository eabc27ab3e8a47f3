//! Throw-away Python environments under the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// A virtual environment with the requested packages.
pub(crate) struct Venv {
    dir: PathBuf,
}

impl Venv {
    /// Makes the environment in `dir`, or reuses the one there if it has the same `steps`.
    ///
    /// Each step holds the arguments of one `pip install`.
    pub(crate) fn prepare(dir: &Path, steps: &[&[&str]]) -> Result<Self> {
        let venv = Self { dir: dir.to_owned() };
        let stamp = dir.join("installed.txt");
        let wanted: String = steps.iter().map(|step| step.join(" ") + "\n").collect();
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && venv.works() {
            return Ok(venv);
        }
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(dir))?;
        for step in steps {
            run(Command::new(venv.python())
                .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"])
                .args(*step))?;
        }
        fs::write(stamp, wanted)?;
        Ok(venv)
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.dir.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" })
    }

    /// A moved checkout or a removed system Python leaves an environment that does not start.
    fn works(&self) -> bool {
        Command::new(self.python())
            .args(["-c", "pass"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

fn run(command: &mut Command) -> Result {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
    Err(format!("{program}: {}", last.trim()).into())
}
