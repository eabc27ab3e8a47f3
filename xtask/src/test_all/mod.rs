//! `cargo xtask test-all`: runs the whole matrix and prints one table at the end.

mod apt;
mod c_programs;
mod campaign;
mod log;
mod oracle;
mod packages;
mod python;
mod report;
mod rows;
mod vulkan;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::Result;
use crate::project::Project;
use log::Log;
use report::{Counts, Line, Outcome};
use rows::Row;

const HELP: &str = "\
Run the whole test matrix; one row per check, crate and feature set.

Usage: cargo xtask test-all [--all] [--only ROW[,ROW…]] [--list]

  --all        also rows that install gigabytes
  --only ROWS  rows to run; `test` selects every row whose name begins with `test-`
  --list       print the rows and stop

Every row runs, even if others fail. The output of a row is in target/test-all/<row>.log. The last
line counts tests; a check without tests (fmt, clippy, …) counts as one. With CI=true in the
environment a row fails if it is skipped because something installable is missing, except `deny`.";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let mut only: Option<String> = None;
    let (mut list, mut heavy) = (false, in_ci());
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("only") => only = Some(parser.value()?.string()?),
            Long("list") => list = true,
            Long("all") => heavy = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }

    let project = Project::read()?;
    // Whoever names a row wants it.
    heavy |=
        only.as_deref().is_some_and(|only| only.split(',').any(|row| python::HEAVY.contains(&row.trim())));
    let rows = select(rows::all(&project, heavy)?, only.as_deref())?;
    if list {
        for row in &rows {
            println!("{:<24} {}", row.name, row.what);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let lines = run(&project, rows)?;
    print!("{}", report::table(&lines));
    let failed = lines.iter().any(|line| matches!(line.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn select(rows: Vec<Row>, only: Option<&str>) -> Result<Vec<Row>> {
    let Some(only) = only else { return Ok(rows) };
    let wanted: Vec<&str> = only.split(',').map(str::trim).collect();
    let matches = |row: &Row, word: &str| {
        row.name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if let Some(unknown) = wanted.iter().find(|word| !rows.iter().any(|row| matches(row, word))) {
        return Err(format!("no row is called {unknown:?}; `cargo xtask test-all --list` names them").into());
    }
    Ok(rows.into_iter().filter(|row| wanted.iter().any(|word| matches(row, word))).collect())
}

fn run(project: &Project, rows: Vec<Row>) -> Result<Vec<Line>> {
    let folder = project.target.join("test-all");
    std::fs::create_dir_all(&folder)?;
    let strict = in_ci();
    let total = rows.len();
    let mut lines = Vec::new();
    for (index, row) in rows.into_iter().enumerate() {
        eprint!("[{:>2}/{total}] {:<24} ", index + 1, row.name);
        std::io::stderr().flush()?;
        let path = folder.join(format!("{}.log", row.name));
        let mut log = Log::create(&path, &project.root)?;
        let start = Instant::now();
        let outcome = (row.job)(&mut log).unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        let outcome = outcome.judged(strict && row.name != "deny");
        let text = log.text()?;
        let line = Line {
            counts: Counts::of_row(&text, &outcome),
            name: row.name,
            outcome,
            seconds: start.elapsed().as_secs_f64(),
        };
        eprintln!("{} ({:.1} s)", line.outcome, line.seconds);
        if matches!(line.outcome, Outcome::Failed(_)) {
            eprintln!("{}\n  (whole log: {})", log::tail(&text), path.display());
        }
        lines.push(line);
    }
    Ok(lines)
}

/// CI must not turn green because a tool was missing.
fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Removes a build that no other row uses: all builds together would fill a small disk.
fn discard_in_ci(build: &Path) {
    if in_ci() {
        // What stays costs only space.
        let _ = std::fs::remove_dir_all(build);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        ["fmt", "test-memory", "test-format", "testing"]
            .map(|name| Row { name: name.into(), what: String::new(), job: Box::new(|_| Ok(Outcome::Ran)) })
            .into()
    }

    #[test]
    fn rows_are_chosen_by_name_or_family() {
        let names =
            |only| -> Vec<String> { select(rows(), only).unwrap().into_iter().map(|row| row.name).collect() };
        assert_eq!(names(None).len(), 4);
        assert_eq!(names(Some("test")), ["test-memory", "test-format"]);
        assert_eq!(names(Some("test-format, fmt")), ["fmt", "test-format"]);
    }

    #[test]
    fn an_unknown_row_is_an_error() {
        assert!(select(rows(), Some("fmt,tset")).err().unwrap().to_string().contains("tset"));
    }
}
