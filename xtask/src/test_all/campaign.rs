//! Short forms of the campaigns that run for hours elsewhere: kills, and fuzzing.

use std::process::{Command, Stdio};

use super::apt;
use super::report::Outcome;
use super::rows::Row;
use crate::mounted::{BINDFS, Mounted};
use crate::project::Project;
use crate::workbench::Workbench;
use crate::{fuzz, kill_test};

/// Number of processes to kill.
const KILLS: usize = 520;
/// The same on a file system without unnamed files.
const NAMED_KILLS: usize = 114;
/// Seconds of new inputs per target.
const SECONDS: u64 = 2;
/// The same for the command line.
const CLI_SECONDS: u64 = 15;
/// The same inputs every time: a row that fails must fail again.
const SEED: u64 = 13;

/// Every command that writes, killed at random moments.
pub(super) fn kills(project: &Project) -> Row {
    let project = project.clone();
    Row {
        name: "kill-test".into(),
        what: format!(
            "{KILLS} kills of every command that writes: nothing half-written, nothing left behind"
        ),
        job: Box::new(move |log| {
            if !cfg!(target_os = "linux") {
                return Ok(Outcome::not_here("looks at files as Linux has them"));
            }
            let binary = Workbench::binary(&project, true)?;
            let summary = kill_test::run(&binary, &project.target.join("kill-test"), KILLS, SEED, false)?;
            log.line(&summary.to_string())?;
            Ok(match summary.problems.len() {
                0 => Outcome::Ran,
                n => Outcome::Failed(format!("{n} problems")),
            })
        }),
    }
}

/// The same where every unfinished file has a name.
pub(super) fn named_kills(project: &Project) -> Row {
    let project = project.clone();
    Row {
        name: "kill-test-named".into(),
        what: format!("{NAMED_KILLS} kills on a file system without unnamed files: nothing half-written"),
        job: Box::new(move |log| {
            if !cfg!(target_os = "linux") {
                return Ok(Outcome::not_here("mounts a file system as Linux does"));
            }
            let folder = project.target.join("kill-test-named");
            let mut tried = Mounted::new(&folder)?;
            if tried.is_err() && Mounted::is_installable() {
                apt::install(&[BINDFS], log)?;
                tried = Mounted::new(&folder)?;
            }
            let mounted = match tried {
                Ok(mounted) => mounted,
                Err(why) if Mounted::is_installable() => {
                    return Ok(Outcome::missing(format!("{why}: apt-get install {BINDFS}")));
                }
                Err(why) => {
                    return Ok(Outcome::not_here(format!("no such file system can be mounted: {why}")));
                }
            };
            log.line(&format!("on {}", mounted.kind))?;
            let binary = Workbench::binary(&project, true)?;
            let summary = kill_test::run(&binary, &mounted.folder.join("run"), NAMED_KILLS, SEED, true)?;
            log.line(&summary.to_string())?;
            Ok(match summary.problems.len() {
                0 => Outcome::Ran,
                n => Outcome::Failed(format!("{n} problems")),
            })
        }),
    }
}

/// The fuzz targets built, shown what is known and a little that is new; the command line too.
pub(super) fn fuzz(project: &Project) -> Row {
    let project = project.clone();
    Row {
        name: "fuzz-corpus".into(),
        what: "fuzz targets: built, known inputs replayed, some seconds of new ones; random command lines"
            .into(),
        job: Box::new(move |log| {
            if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
                return Ok(Outcome::not_here("the targets need AddressSanitizer"));
            }
            let compiler =
                Command::new("g++").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            if !compiler.is_ok_and(|status| status.success()) {
                return Ok(Outcome::missing("g++ is missing: apt-get install g++"));
            }
            let fuzz = fuzz::Fuzz::new(&project);
            if log.run(&mut fuzz.fetch_command()?)? != Some(0) {
                return Ok(Outcome::missing("no registry to fetch libfuzzer-sys from"));
            }
            log.succeed(&mut fuzz.build_command())?;
            let mut failed = Vec::new();
            for target in fuzz::targets(&project)? {
                let done = fuzz.run(&target, SECONDS)?;
                log.line(&format!("{target}: {}", done.text()))?;
                if done.problem.is_some() {
                    failed.push(target);
                }
            }
            let done = fuzz.cli(&Workbench::binary(&project, false)?, CLI_SECONDS, SEED)?;
            log.line(&format!("cli: {}", done.text()))?;
            if done.problem.is_some() {
                failed.push("cli".into());
            }
            super::discard_in_ci(&fuzz.build_folder());
            Ok(if failed.is_empty() { Outcome::Ran } else { Outcome::Failed(failed.join(", ")) })
        }),
    }
}
