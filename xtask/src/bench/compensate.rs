//! The compensators against the first implementation in torch: whole processes take turns, round by round.
//!
//! Both read the workloads that residua's example writes, and print one line of JSON: seconds of wall clock and
//! processor, and the peak memory above the memory held after loading the input.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use residua_memory::ByteSize;
use serde::Deserialize;

use super::contestant::{PACKAGES, build};
use super::data::Size;
use super::machine;
use crate::Result;
use crate::project::{Project, cargo};
use crate::venv::Venv;

pub(super) const NAME: &str = "compensate";
const BUDGET: &str = "512MiB";

/// The work of both sides, and the part of it that counts.
struct Race {
    title: &'static str,
    workload: &'static str,
    /// Methods of ours, by the names of the example.
    ours: &'static [(&'static str, &'static str)],
    theirs: &'static str,
    /// Only fitting, or building, counts: the later steps of both sides differ.
    fit_only: bool,
    /// Torch takes minutes.
    rounds: usize,
}

const RACES: &[Race] = &[
    Race {
        title: "attention, fitted and all classes moved",
        workload: "M",
        ours: &[("exact", "attention")],
        theirs: "attention",
        fit_only: false,
        rounds: 1,
    },
    Race {
        title: "linear, fitted and all classes moved",
        workload: "L",
        ours: &[("exact, noise 0", "linear-plain"), ("exact", "linear"), ("compat", "linear-compat")],
        theirs: "linear",
        fit_only: false,
        rounds: 5,
    },
    Race {
        title: "weak-nonlinear, fitted",
        workload: "M",
        ours: &[("exact: closed form", "weak-nonlinear"), ("compat: 4,000 steps", "weak-nonlinear-compat")],
        theirs: "weak-nonlinear",
        fit_only: true,
        rounds: 1,
    },
    Race {
        title: "quadratic classifier (RGDA), built",
        workload: "L",
        ours: &[("", "rgda")],
        theirs: "rgda",
        fit_only: true,
        rounds: 3,
    },
];

/// The report of a process about its run.
#[derive(Debug, Clone, Deserialize)]
struct Run {
    program: String,
    seconds: f64,
    fit_seconds: Option<f64>,
    cpu_seconds: f64,
    fit_cpu_seconds: Option<f64>,
    peak_above_inputs: u64,
}

/// The best of several runs: least seconds, most memory.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Best {
    wall: f64,
    cpu: f64,
    memory: u64,
}

impl Best {
    const NONE: Self = Self { wall: f64::INFINITY, cpu: f64::INFINITY, memory: 0 };

    fn add(&mut self, run: &Run, fit_only: bool) {
        let (wall, cpu) = if fit_only {
            (run.fit_seconds.unwrap_or(run.seconds), run.fit_cpu_seconds.unwrap_or(run.cpu_seconds))
        } else {
            (run.seconds, run.cpu_seconds)
        };
        self.wall = self.wall.min(wall);
        self.cpu = self.cpu.min(cpu);
        self.memory = self.memory.max(run.peak_above_inputs);
    }
}

/// Runs the races; a section of the page. `python` is an interpreter that has torch, `rounds` replaces the
/// default number of each race.
pub(super) fn run(
    project: &Project,
    size: Size,
    rounds: Option<usize>,
    python: Option<PathBuf>,
) -> Result<String> {
    let python = match python {
        Some(python) => python,
        None => {
            let steps = [PACKAGES, &["torch"]];
            Venv::prepare(&project.target.join("bench-venv"), &steps)?.python()
        }
    };
    build(
        Command::new(cargo())
            .args(["build", "--release", "-p", "residua-compensate", "--example", "workload"])
            .current_dir(&project.root),
    )?;
    let ours = project.target.join("release").join("examples").join("workload");
    let folder = project.target.join("bench-data").join(NAME);
    let mut rows = String::new();
    let mut versions = Vec::new();
    for race in RACES {
        let workload = if size == Size::Quick { "S" } else { race.workload };
        if !folder.join(format!("{workload}.safetensors")).exists() {
            eprintln!("writing workload {workload}");
            build(Command::new(&ours).args(["make", workload]).arg(&folder))?;
        }
        let rounds = rounds.unwrap_or(race.rounds);
        let mut best = vec![Best::NONE; race.ours.len()];
        let mut torch = Best::NONE;
        for round in 0..rounds {
            eprintln!("{}, workload {workload}: round {} of {rounds}", race.title, round + 1);
            for ((_, method), best) in race.ours.iter().zip(&mut best) {
                let mut command = Command::new(&ours);
                command.args(["run", method, workload]).arg(&folder);
                command.args(["--threads", "1", "--budget", BUDGET]);
                best.add(&measured(&mut command)?, race.fit_only);
            }
            let mut command = Command::new(&python);
            command.arg(project.root.join("xtask").join("peers").join("compensate_torch.py"));
            command.args([race.theirs, workload]).arg(&folder).arg("1");
            let run = measured(&mut command)?;
            torch.add(&run, race.fit_only);
            versions = vec![run.program];
        }
        for ((mode, _), ours) in race.ours.iter().zip(&best) {
            let mode = if mode.is_empty() { String::new() } else { format!(" ({mode})") };
            // Writing into a String cannot fail.
            let _ = writeln!(rows, "| {}{mode} | {workload} | {rounds} {}", race.title, row(*ours, torch));
        }
    }
    Ok(section(project, &rows, &versions.concat()))
}

fn row(ours: Best, torch: Best) -> String {
    format!(
        "| {:.2} / {:.2} | {:.2} / {:.2} | **{:.2}×** / {:.2}× | {} | {} | {:.1}× |",
        ours.wall,
        ours.cpu,
        torch.wall,
        torch.cpu,
        torch.wall / ours.wall,
        torch.cpu / ours.cpu,
        ByteSize(ours.memory),
        ByteSize(torch.memory),
        torch.memory as f64 / ours.memory.max(1) as f64,
    )
}

fn section(project: &Project, rows: &str, torch: &str) -> String {
    let fact = |wanted: &str| {
        let facts = machine::describe(project);
        facts.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value).unwrap_or_default()
    };
    format!(
        "## Compensation against torch\n\n\
         `cargo xtask bench --only compensate` at commit {}, {};\n\
         {}; {torch}; one thread each. The fixed workloads of\n\
         `crates/compensate/examples/workload/`, d = 768; M: 10,000 pairs, 100 classes; L: 50,000 pairs, 200 classes;\n\
         120 samples per class (S, of `--quick`: 2,048, 20 and 50). `xtask/peers/compensate_torch.py` is a straightforward reference implementation. Processes take turns.\n\
         Seconds are the minimum of the rounds, wall clock / processor. Memory is the maximum above the memory held after loading\n\
         the input. Torch loads all features as input; Residua reads them from the file in blocks. Residua ran within {BUDGET}.\n\
         Its exact modes and the reference do not compute the same thing; errors against truth are in [compensation.md](compensation.md).\n\n\
         | what | workload | rounds | residua, s | torch, s | times faster | residua, memory | torch, memory | times less |\n\
         |---|---|---|---|---|---|---|---|---|\n\
         {rows}",
        fact("Commit"),
        fact("Date"),
        fact("CPU"),
    )
}

/// Runs a process to its end and reads its report.
fn measured(command: &mut Command) -> Result<Run> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .env("OMP_NUM_THREADS", "1")
        .output()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed").into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| format!("{error} in the answer {line:?}"))?)
}

/// The page with `section` in place of the section with that heading, or at its end.
pub(super) fn replaced(page: &str, section: &str) -> String {
    let heading = section.lines().next().unwrap_or_default();
    let start = page.find(&format!("\n{heading}\n")).map_or(page.len(), |at| at + 1);
    let rest = &page[start..];
    let end = rest.find("\n## ").map_or(page.len(), |at| start + at);
    let before = page[..start].trim_end();
    let after = page[end..].trim_start_matches('\n');
    let gap = if after.is_empty() { "" } else { "\n" };
    format!("{before}\n\n{section}{gap}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seconds: f64, fit: f64, memory: u64) -> Run {
        Run {
            program: "p".into(),
            seconds,
            fit_seconds: Some(fit),
            cpu_seconds: seconds,
            fit_cpu_seconds: Some(fit),
            peak_above_inputs: memory,
        }
    }

    #[test]
    fn the_least_seconds_and_the_most_memory_count() {
        let (mut whole, mut fit) = (Best::NONE, Best::NONE);
        for run in [run(4.0, 1.0, 10), run(3.0, 2.0, 30)] {
            whole.add(&run, false);
            fit.add(&run, true);
        }
        assert_eq!(whole, Best { wall: 3.0, cpu: 3.0, memory: 30 });
        assert_eq!(fit, Best { wall: 1.0, cpu: 1.0, memory: 30 });
        let other = Best { wall: 6.0, cpu: 9.0, memory: 60 };
        assert!(row(whole, other).contains("| **2.00×** / 3.00× |"));
    }

    #[test]
    fn a_section_takes_the_place_of_the_old_one() {
        let new = "## B\n\nnew\n";
        assert_eq!(replaced("# P\n\n## A\n\na\n", new), "# P\n\n## A\n\na\n\n## B\n\nnew\n");
        let page = "# P\n\n## B\n\nold\nold\n\n## C\n\nc\n";
        assert_eq!(replaced(page, new), "# P\n\n## B\n\nnew\n\n## C\n\nc\n");
        assert_eq!(replaced(&replaced(page, new), new), replaced(page, new));
    }
}
