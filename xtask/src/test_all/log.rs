//! One log file per row; every command of the row writes into it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// Lines of a failed row to show on the terminal.
const TAIL: usize = 40;

pub(crate) struct Log {
    path: PathBuf,
    file: File,
    root: PathBuf,
}

impl Log {
    pub(crate) fn create(path: &Path, root: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), file: File::create(path)?, root: root.to_owned() })
    }

    pub(crate) fn line(&mut self, line: &str) -> Result {
        writeln!(self.file, "{line}")?;
        Ok(())
    }

    /// Runs `command` from the top of the project with its output in the log; its exit code, if any.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<Option<i32>> {
        self.line(&format!("$ {command:?}"))?;
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command
            .current_dir(&self.root)
            .env("CARGO_TERM_COLOR", "never")
            .env("CARGO_TERM_PROGRESS_WHEN", "never")
            .stdin(Stdio::null())
            .stdout(self.file.try_clone()?)
            .stderr(self.file.try_clone()?)
            .status()
            .map_err(|error| format!("{program} does not start: {error}"))?;
        Ok(status.code())
    }

    /// Like [`Log::run`], but any exit code except 0 is an error.
    pub(crate) fn succeed(&mut self, command: &mut Command) -> Result {
        match self.run(command)? {
            Some(0) => Ok(()),
            Some(code) => Err(format!("exit code {code}").into()),
            None => Err("killed by a signal".into()),
        }
    }

    pub(crate) fn text(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.path)?).into_owned())
    }
}

/// The last lines of a log, indented.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(TAIL)..];
    shown.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}
