//! Python scripts that check the real binary against other libraries.
//!
//! A script gets the path of the release binary as its only argument. Exit code 0 is a pass, 77 a
//! skip, anything else a failure.

use std::path::PathBuf;
use std::process::Command;

use super::log::Log;
use super::report::Outcome;
use super::rows::Row;
use crate::Result;
use crate::project::{Project, cargo};
use crate::venv::Venv;

const PACKAGES: &[&str] = &["numpy", "scipy", "safetensors"];

pub(crate) fn row(project: &Project) -> Result<Row> {
    let scripts = scripts(project)?;
    let environment = project.target.join("oracle-venv");
    let binary = project.target.join("release").join(format!("residua{}", std::env::consts::EXE_SUFFIX));
    Ok(Row {
        name: "oracles".into(),
        what: "files and products checked by scipy, numpy and safetensors in Python".into(),
        job: Box::new(move |log| {
            if scripts.is_empty() {
                return Ok(Outcome::not_here("no crates/*/tests/oracle/*.py"));
            }
            let venv = match Venv::prepare(&environment, &[PACKAGES]) {
                Ok(venv) => venv,
                Err(error) => return Ok(Outcome::missing(format!("no Python with scipy: {error}"))),
            };
            log.succeed(Command::new(cargo()).args(["build", "--release", "-p", "residua-cli"]))?;
            let run = |log: &mut Log, script: &PathBuf| {
                log.run(Command::new(venv.python()).arg(script).arg(&binary))
            };
            judge(log, &scripts, run)
        }),
    })
}

fn scripts(project: &Project) -> Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for (_, package) in project.crates() {
        let folder = package.dir().join("tests").join("oracle");
        if !folder.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "py") {
                scripts.push(path);
            }
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// Runs each script and writes the summary line of Rust tests, so that both are counted the same way.
fn judge(
    log: &mut Log,
    scripts: &[PathBuf],
    mut run: impl FnMut(&mut Log, &PathBuf) -> Result<Option<i32>>,
) -> Result<Outcome> {
    let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
    for script in scripts {
        match run(log, script)? {
            Some(0) => passed += 1,
            Some(77) => skipped += 1,
            _ => failed.push(script.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
        }
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    log.line(&format!(
        "test result: {verdict}. {passed} passed; {} failed; {skipped} ignored",
        failed.len()
    ))?;
    Ok(match failed.as_slice() {
        [] if passed == 0 => Outcome::not_here("every script skipped itself"),
        [] => Outcome::Ran,
        names => Outcome::Failed(names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_all::report::Counts;

    fn judged(codes: &[Option<i32>]) -> (Outcome, Counts) {
        let folder = tempfile::tempdir().unwrap();
        let mut log = Log::create(&folder.path().join("log"), folder.path()).unwrap();
        let scripts: Vec<PathBuf> = (0..codes.len()).map(|index| format!("{index}.py").into()).collect();
        let mut codes = codes.iter();
        let outcome = judge(&mut log, &scripts, |_, _| Ok(*codes.next().unwrap())).unwrap();
        let counts = Counts::of_row(&log.text().unwrap(), &outcome);
        (outcome, counts)
    }

    #[test]
    fn exit_codes_are_told_apart() {
        let (outcome, counts) = judged(&[Some(0), Some(77), Some(0)]);
        assert_eq!((outcome, counts), (Outcome::Ran, Counts { passed: 2, failed: 0, skipped: 1 }));
        let (outcome, counts) = judged(&[Some(0), Some(1), None]);
        assert_eq!(outcome, Outcome::Failed("1, 2".into()));
        assert_eq!(counts, Counts { passed: 1, failed: 2, skipped: 0 });
    }

    #[test]
    fn skipping_everything_is_not_passing() {
        assert!(matches!(judged(&[Some(77)]).0, Outcome::Skipped { .. }));
    }
}
