//! `cargo xtask kill-test`: kills every command that writes at random moments, over and over.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::Result;
use crate::project::Project;
use crate::random::Random;
use crate::workbench::Workbench;

const HELP: &str = "\
Kill every command that writes at random moments and check what remains.

Usage: cargo xtask kill-test [--runs N] [--seed N] [--debug] [--folder DIR [--named]]

  --runs N      number of processes to kill [2000]
  --seed N      seed of the moments [the time]
  --debug       use the debug build of the command line
  --folder DIR  work in DIR; it may be on another file system [target/kill-test]
  --named       the file system of DIR has no files without names: a killed process may leave one
                .residua-….tmp behind

After each kill the output must be absent, the old one, or the complete new one. No other file may change or remain.
Then the same command must succeed. If this user may hide /proc, a fifth of the processes runs without it; there files
have names from the start.";

/// Rows of the inputs: a command takes some time, but not long.
const ROWS: usize = 1500;

/// The command, its output, and the output's content before every other run: any file, or this one.
const CASES: [(&str, &str, Option<&str>); 21] = [
    ("calibrate layer.weight=before.npy --second-moments -o out.safetensors", "out.safetensors", None),
    ("split model.safetensors -o out.safetensors", "out.safetensors", None),
    ("split shards -o out.safetensors --values f32 --density 0.5", "out.safetensors", None),
    ("split new.safetensors --base model.safetensors -o out.safetensors", "out.safetensors", None),
    ("materialize split.safetensors -o out.safetensors", "out.safetensors", None),
    ("materialize fine.safetensors --alpha 0.5 -o out.safetensors", "out.safetensors", None),
    ("diff model.safetensors new.safetensors -o out.safetensors", "out.safetensors", None),
    ("patch model.safetensors delta.safetensors -o out.safetensors", "out.safetensors", None),
    ("convert model.safetensors --tensor layer.weight out.npz", "out.npz", None),
    ("convert model.safetensors --tensor other.weight out.mtx", "out.mtx", None),
    ("convert model.safetensors --tensor layer.weight out.npy", "out.npy", None),
    ("convert matrix.npz out.safetensors", "out.safetensors", None),
    ("stats before.npy --labels labels.npy -o out.safetensors", "out.safetensors", None),
    ("stats merge stats.safetensors other-stats.safetensors -o out.safetensors", "out.safetensors", None),
    ("stats before.npy --labels labels.npy --partial 1/1 -o out.safetensors", "out.safetensors", None),
    ("stats extract state.safetensors --method linear -o out.safetensors", "out.safetensors", None),
    (
        "compensate stats.safetensors --method attention --before before.npy --after after.npy -o out.safetensors",
        "out.safetensors",
        None,
    ),
    ("task out.safetensors --after before.npy --labels labels.npy --method linear", "out.safetensors", None),
    (
        "task out.safetensors --before before.npy --after after.npy --labels other-labels.npy",
        "out.safetensors",
        Some("first.safetensors"),
    ),
    ("report split.safetensors -o out.html", "out.html", None),
    ("classify stats.safetensors after.npy --classifier lda -o out.npy", "out.npy", None),
];

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let project = Project::read()?;
    let (mut runs, mut debug, mut named) = (2000_usize, false, false);
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut folder = project.target.join("kill-test");
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("runs") => runs = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("debug") => debug = true,
            Long("folder") => folder = PathBuf::from(parser.value()?).join("residua-kill-test"),
            Long("named") => named = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let binary = Workbench::binary(&project, !debug)?;
    println!("seed {seed}");
    let summary = run(&binary, &folder, runs, seed, named)?;
    println!("{summary}");
    Ok(if summary.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The results of all runs.
#[derive(Default)]
pub(crate) struct Summary {
    killed: usize,
    /// Done before the signal came.
    faster: usize,
    /// Temporary files with a name; a killed process cannot remove them.
    named: usize,
    without_proc: Option<usize>,
    pub(crate) problems: Vec<String>,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{problem}")?;
        }
        write!(f, "{} killed, {} done before, ", self.killed, self.faster)?;
        match self.without_proc {
            Some(runs) => write!(f, "{runs} of them with named files ({} left), ", self.named)?,
            None => write!(f, "with named files: skipped (this user may not hide /proc), ")?,
        }
        write!(f, "{} problems", self.problems.len())
    }
}

/// Kills `runs` processes, and ends those that were done before.
pub(crate) fn run(binary: &Path, folder: &Path, runs: usize, seed: u64, named: bool) -> Result<Summary> {
    let mut summary = Summary::default();
    let bench = Workbench::create(binary, &folder.join("files"), ROWS)?;
    let spill = folder.join("tmp");
    fs::create_dir_all(&spill)?;
    let mut random = Random::new(seed);
    let hidden = can_hide_proc();
    summary.without_proc = hidden.then_some(0);
    for (index, (line, output, old)) in CASES.into_iter().enumerate() {
        // The share of this command in all requested runs.
        let share = runs * (index + 1) / CASES.len() - runs * index / CASES.len();
        let (others, plain) = if hidden { (share / 5, share - share / 5) } else { (0, share) };
        for (runs, without_proc) in [(plain, false), (others, true)] {
            if runs > 0 {
                let case = Case {
                    bench: &bench,
                    line,
                    output: bench.folder.join(output),
                    old: old.map(|old| bench.folder.join(old)),
                    spill: &spill,
                    without_proc,
                    named: named || without_proc,
                };
                case.run(runs, &mut random, &mut summary)?;
            }
        }
    }
    if summary.problems.is_empty() {
        fs::remove_dir_all(folder)?;
    }
    Ok(summary)
}

/// A command that is killed.
struct Case<'a> {
    bench: &'a Workbench,
    line: &'a str,
    output: PathBuf,
    old: Option<PathBuf>,
    /// The process spills here what does not fit in memory.
    spill: &'a Path,
    without_proc: bool,
    /// Unfinished files have names.
    named: bool,
}

impl Case<'_> {
    fn run(&self, runs: usize, random: &mut Random, summary: &mut Summary) -> Result {
        let old = match &self.old {
            Some(old) => fs::read(old)?,
            None => b"the old file".repeat(5000),
        };
        let mut took = Duration::ZERO;
        // The complete outputs. A task that needs an old file runs only with it.
        let mut complete = Vec::new();
        for _ in 0..2 {
            self.prepare(self.old.is_some().then_some(&*old))?;
            let start = Instant::now();
            if !self.spawn()?.wait()?.success() {
                return Err(format!("residua {} does not succeed", self.line).into());
            }
            took = start.elapsed();
            complete.push(fs::read(&self.output)?);
        }
        // Some pages hold times.
        let page = self.line.starts_with("report");
        let is_complete = |bytes: &[u8]| match page {
            true => bytes.ends_with(b"</html>\n") && bytes.starts_with(b"<!"),
            false => complete.iter().any(|complete| complete == bytes),
        };
        let before = self.files()?;
        for run in 0..runs {
            let must_be_there = self.old.is_some();
            let start = (must_be_there || (run % 2 == 0 && !self.line.starts_with("task"))).then_some(&*old);
            self.prepare(start)?;
            let mut child = self.spawn()?;
            // Half of them near the end, when files get their names.
            let share = if random.once_in(2) { 0.7 + 0.5 * random.share() } else { 1.1 * random.share() };
            std::thread::sleep(took.mul_f64(share));
            child.kill()?;
            if child.wait()?.success() {
                summary.faster += 1;
            } else {
                summary.killed += 1;
            }
            if self.without_proc {
                *summary.without_proc.get_or_insert(0) += 1;
            }
            let found = fs::read(&self.output).ok();
            let fine = match (&found, start) {
                (None, None) => true,
                (Some(found), Some(old)) if found == old => true,
                (Some(found), _) => is_complete(found),
                (None, Some(_)) => false,
            };
            if !fine {
                let what =
                    found.map_or("is gone".into(), |found| format!("has {} bytes of neither", found.len()));
                self.problem(summary, share, &format!("the output {what}"));
            }
            // A task keeps the state before it; every task replaces it.
            if let Ok(found) = fs::read(self.previous()) {
                if start.is_none_or(|old| found != old) {
                    self.problem(summary, share, "the previous state is not the one before the task");
                }
                fs::remove_file(self.previous())?;
            }
            let mut after = self.files()?;
            let left: Vec<_> = after
                .keys()
                .filter(|name| name.starts_with(".residua-") && name.ends_with(".tmp"))
                .cloned()
                .collect();
            let mut complete = true;
            for name in &left {
                let path = self.bench.folder.join(name);
                complete &= is_complete(&fs::read(&path)?);
                fs::remove_file(path)?;
                after.remove(name);
            }
            summary.named += left.len();
            // A complete file has a temporary name for the moment before it replaces an old one.
            let allowed = self.named || (start.is_some() && complete);
            if left.len() > usize::from(allowed) {
                self.problem(summary, share, &format!("left {}", left.join(", ")));
            }
            if after != before {
                let other = |(name, state): &(&String, &_)| before.get(*name) != Some(*state);
                let names: Vec<_> = after.iter().filter(other).map(|(name, _)| name.as_str()).collect();
                self.problem(summary, share, &format!("touched {}", names.join(", ")));
            }
            for entry in fs::read_dir(self.spill)? {
                let path = entry?.path();
                self.problem(summary, share, &format!("left {}", path.display()));
                fs::remove_file(path)?;
            }
        }
        // The next run succeeds, whatever the killed run left behind.
        if self.old.is_some() || self.line.starts_with("task") {
            self.prepare(self.old.is_some().then_some(&*old))?;
        }
        let output = self.command()?.output()?;
        if !output.status.success() || !is_complete(&fs::read(&self.output)?) {
            let stderr = String::from_utf8_lossy(&output.stderr);
            self.problem(summary, 1.0, &format!("the run after it fails: {stderr}"));
        }
        self.prepare(None)
    }

    /// Where a task keeps the state before it.
    fn previous(&self) -> PathBuf {
        PathBuf::from(format!("{}.previous", self.output.display()))
    }

    /// Sets the output as it is before a run.
    fn prepare(&self, old: Option<&[u8]>) -> Result {
        if self.previous().exists() {
            fs::remove_file(self.previous())?;
        }
        match old {
            Some(old) => fs::write(&self.output, old)?,
            None if self.output.exists() => fs::remove_file(&self.output)?,
            None => {}
        }
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = match self.without_proc {
            false => self.bench.command(self.line),
            true => {
                let mut command = hiding_proc();
                command.arg(&self.bench.binary).args(self.line.split(' ')).current_dir(&self.bench.folder);
                command
            }
        };
        command.env("TMPDIR", self.spill);
        Ok(command)
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = self.command()?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// All files but the output and the state before it, with length and time of the last change.
    fn files(&self) -> Result<BTreeMap<String, (u64, SystemTime)>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.bench.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if ![&self.output, &self.previous()].contains(&&entry.path()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let changed = if metadata.is_dir() { SystemTime::UNIX_EPOCH } else { metadata.modified()? };
                files.insert(name, (metadata.len(), changed));
            }
        }
        Ok(files)
    }

    fn problem(&self, summary: &mut Summary, share: f64, what: &str) {
        let proc = if self.without_proc { ", without /proc" } else { "" };
        summary.problems.push(format!("residua {} killed at {share:.2}{proc}: {what}", self.line));
    }
}

/// Runs the following arguments with an empty /proc, in the same process.
fn hiding_proc() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", "mount -t tmpfs tmpfs /proc && exec \"$@\"", "sh"]);
    command
}

fn can_hide_proc() -> bool {
    let mut command = hiding_proc();
    command.args(["test", "!", "-e", "/proc/self"]).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
