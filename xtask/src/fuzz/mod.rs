//! `cargo xtask fuzz`: the readers on mutated files, the command line on random arguments.

mod cli;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime};

use crate::Result;
use crate::instrument::instrument;
use crate::project::{Project, cargo, host};
use crate::workbench::Workbench;

const HELP: &str = "\
Fuzz every reader, the C interface and the command line.

Usage: cargo xtask fuzz [--seconds N] [--seed N] [TARGET…]

  --seconds N  time per target; 0 only replays the known inputs [60]
  --seed N     seed of the command line's arguments [the time]
  TARGET…      files of fuzz/fuzz_targets, or `cli` for the command line [all]

Targets run under AddressSanitizer, one after the other. They start from sound files that they write themselves, the
fixtures of the readers, fuzz/regressions, and the inputs that earlier runs kept in target/fuzz/corpus. An input that makes
a target fail is in target/fuzz/artifacts; fix the error and keep the input in fuzz/regressions/TARGET.";

/// Instrumentation for libFuzzer and AddressSanitizer, the same as in cargo-fuzz.
const FLAGS: [&str; 8] = [
    "--cfg",
    "fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Zsanitizer=address",
];

/// The package of the targets.
const PACKAGE: &str = "residua-fuzz";

/// The command line; it is not a libFuzzer target.
const CLI: &str = "cli";

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let project = Project::read()?;
    let mut seconds = 60_u64;
    let mut seed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let mut wanted = Vec::new();
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            Value(target) => wanted.push(target.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    let known = targets(&project)?;
    if let Some(unknown) = wanted.iter().find(|name| *name != CLI && !known.contains(name)) {
        return Err(format!("no target is called {unknown:?}; there are {}, {CLI}", known.join(", ")).into());
    }
    let chosen = |name: &String| wanted.is_empty() || wanted.contains(name);
    let targets: Vec<String> = known.into_iter().filter(chosen).collect();
    let fuzz = Fuzz::new(&project);
    let mut failed = false;
    if !targets.is_empty() {
        fuzz.build()?;
        for target in &targets {
            let done = fuzz.run(target, seconds)?;
            println!("{:<12} {}", target, done.text());
            failed |= done.problem.is_some();
        }
    }
    if chosen(&CLI.to_owned()) {
        println!("{CLI:<12} seed {seed}");
        let binary = Workbench::binary(&project, false)?;
        let done = fuzz.cli(&binary, seconds.max(1), seed)?;
        println!("{CLI:<12} {}", done.text());
        failed |= done.problem.is_some();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Names of the libFuzzer targets, sorted.
pub(crate) fn targets(project: &Project) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(project.root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == "rs") {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The result of a target.
pub(crate) struct Done {
    executions: u64,
    pub(crate) problem: Option<String>,
}

impl Done {
    pub(crate) fn text(&self) -> String {
        match &self.problem {
            None => format!("{} executions", self.executions),
            Some(problem) => format!("{} executions, FAILED: {problem}", self.executions),
        }
    }
}

/// The folders.
pub(crate) struct Fuzz {
    root: PathBuf,
    /// Builds, corpora and artifacts.
    folder: PathBuf,
    host: String,
    /// The packages to instrument.
    packages: Vec<String>,
}

impl Fuzz {
    pub(crate) fn new(project: &Project) -> Self {
        let host = host().unwrap_or_default();
        let mut packages = vec![PACKAGE.to_owned()];
        packages.extend(project.crates().iter().map(|(_, package)| package.name.clone()));
        Self { root: project.root.clone(), folder: project.target.join("fuzz"), host, packages }
    }

    pub(crate) fn build_folder(&self) -> PathBuf {
        self.folder.join("build")
    }

    /// The command that fetches the dependencies of the targets, in the versions of the repository instead of the
    /// newest.
    pub(crate) fn fetch_command(&self) -> Result<Command> {
        let folder = self.root.join("fuzz");
        fs::copy(self.root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
        let mut command = Command::new(cargo());
        command.args(["fetch", "--manifest-path"]).arg(folder.join("Cargo.toml"));
        Ok(command)
    }

    /// The command that builds all targets.
    pub(crate) fn build_command(&self) -> Command {
        let mut command = Command::new(cargo());
        command
            .args(["build", "--release", "--bins", "--manifest-path"])
            .arg(self.root.join("fuzz/Cargo.toml"))
            .arg("--target-dir")
            .arg(self.build_folder())
            .args(["--target", &self.host])
            .env("CARGO_INCREMENTAL", "0");
        instrument(&mut command, "release", &self.packages, &FLAGS);
        command
    }

    fn build(&self) -> Result {
        for mut command in [self.fetch_command()?, self.build_command()] {
            if !command.current_dir(&self.root).status()?.success() {
                return Err("the targets do not build".into());
            }
        }
        Ok(())
    }

    /// Runs a target on the known inputs, then for some seconds on new ones.
    pub(crate) fn run(&self, target: &str, seconds: u64) -> Result<Done> {
        let folder = |kind: &str| -> Result<PathBuf> {
            let path = self.folder.join(kind).join(target);
            fs::create_dir_all(&path)?;
            Ok(path)
        };
        let (corpus, seeds, artifacts) = (folder("corpus")?, folder("seeds")?, folder("artifacts")?);
        let log = self.folder.join(format!("{target}.log"));
        // Inputs and outputs go through files: in memory that is many times faster.
        let memory = Path::new("/dev/shm");
        let spill = match memory.is_dir() {
            true => memory.join(format!("residua-fuzz-{target}-{}", std::process::id())),
            false => folder("tmp")?,
        };
        fs::create_dir_all(&spill)?;
        let output = fs::File::create(&log)?;
        let mut command = Command::new(self.build_folder().join(&self.host).join("release").join(target));
        command.arg(&corpus).arg(&seeds);
        for other in [format!("fuzz/regressions/{target}"), fixtures(target).into()] {
            let path = self.root.join(&other);
            if !other.is_empty() && path.is_dir() {
                command.arg(path);
            }
        }
        match seconds {
            0 => command.arg("-runs=0"),
            _ => command.arg(format!("-max_total_time={seconds}")),
        };
        let status = command
            .args(["-timeout=20", "-rss_limit_mb=3000", "-max_len=65536", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .env("RESIDUA_FUZZ_SEEDS", &seeds)
            // Threads cost such small inputs more time than the work itself.
            .env("RAYON_NUM_THREADS", "1")
            .env("TMPDIR", &spill)
            .current_dir(&self.root)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .map_err(|error| format!("{target} does not start: {error}"))?;
        fs::remove_dir_all(spill)?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let problem = (!status.success()).then(|| {
            let line = text.lines().find(|line| {
                ["panicked at", "ERROR: ", "Test unit written"].iter().any(|word| line.contains(word))
            });
            format!("{} (log: {})", line.unwrap_or("no message"), log.display())
        });
        Ok(Done { executions: executions(&text), problem })
    }

    /// Runs the command line for some seconds.
    pub(crate) fn cli(&self, binary: &Path, seconds: u64, seed: u64) -> Result<Done> {
        let folder = self.folder.join("cli/files");
        let (runs, findings) = cli::run(binary, &folder, Duration::from_secs(seconds), seed)?;
        let problems: Vec<_> =
            findings.iter().map(|finding| format!("\n  {}\n    {}", finding.line, finding.problem)).collect();
        Ok(Done { executions: runs, problem: (!problems.is_empty()).then(|| problems.concat()) })
    }
}

/// The folder of committed files for the target.
fn fixtures(target: &str) -> &'static str {
    match target {
        "npz" | "npy" | "mtx" => "crates/format/tests/fixtures",
        "features" => "crates/compensate/tests/fixtures",
        _ => "",
    }
}

/// The work that libFuzzer reports: the last line of either kind.
fn executions(log: &str) -> u64 {
    let stat = |line: &str| line.strip_prefix("stat::number_of_executed_units:")?.trim().parse().ok();
    let step = |line: &str| line.strip_prefix('#')?.split_whitespace().next()?.parse().ok();
    log.lines().rev().find_map(|line| stat(line).or_else(|| step(line))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_are_read_from_the_end_of_a_log() {
        assert_eq!(executions("#2\tINITED cov: 3\n#4096\tpulse cov: 5\n==1==ERROR: x\n"), 4096);
        assert_eq!(executions("#4096\tpulse\nstat::number_of_executed_units: 5000\nstat::slow: 1\n"), 5000);
        assert_eq!(executions(""), 0);
    }

    #[test]
    fn every_target_is_declared() {
        let project = Project::read().unwrap();
        let manifest = fs::read_to_string(project.root.join("fuzz/Cargo.toml")).unwrap();
        let targets = targets(&project).unwrap();
        assert!(targets.len() > 5, "{targets:?}");
        for target in targets {
            assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
        }
    }
}
