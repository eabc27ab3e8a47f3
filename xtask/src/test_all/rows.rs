//! The rows of the matrix, in the order of the run: cheap and informative rows first.

use std::process::{Command, Stdio};

use super::log::Log;
use super::report::Outcome;
use super::{c_programs, campaign, oracle, packages, python, vulkan};
use crate::instrument::instrument;
use crate::project::{Package, Project, cargo, host};
use crate::{Result, floors, kernels};

/// The command line crate. Its tests check the memory budget of the real binary. Only a release build keeps the budget,
/// so the tests run only there.
const CLI: &str = "residua-cli";
const FACADE: &str = "residua";
/// Pytest runs its tests, in the rows `python` and those of `python::HEAVY`.
const PYTHON: &str = "residua-python";

pub(crate) type Job = Box<dyn FnOnce(&mut Log) -> Result<Outcome>>;

pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: String,
    pub(crate) job: Job,
}

fn row(
    name: impl Into<String>,
    what: impl Into<String>,
    job: impl FnOnce(&mut Log) -> Result<Outcome> + 'static,
) -> Row {
    Row { name: name.into(), what: what.into(), job: Box::new(job) }
}

/// `heavy`: rows that install gigabytes run, too.
pub(crate) fn all(project: &Project, heavy: bool) -> Result<Vec<Row>> {
    let mut rows = checks(project);
    rows.push(packages::row(project));
    rows.push(ptx(project));
    rows.push(wgsl(project));
    rows.push(vulkan::row());
    rows.push(features(project));
    rows.push(tests());
    rows.push(examples(project)?);
    rows.push(row("docs", "cargo doc without warnings", |log| {
        ran(
            log,
            Command::new(cargo())
                .args(["doc", "--workspace", "--no-deps", "--lib"])
                .env("RUSTDOCFLAGS", "-D warnings"),
        )
    }));
    rows.push(address_sanitizer(project)?);
    rows.push(c_programs::row(project));
    rows.push(row("release-cli", "the command line, release build: files, memory, interruption", |log| {
        ran(log, Command::new(cargo()).args(["test", "--release", "-p", CLI, "--tests", "--no-fail-fast"]))
    }));
    rows.push(row(
        "counts",
        "every command on many tensors, rows, shards and much metadata: budgets are kept, release build",
        |log| {
            if !cfg!(target_os = "linux") {
                return Ok(Outcome::not_here("peaks of memory are read as Linux has them"));
            }
            let args = ["test", "--release", "-p", CLI, "--test", "counts", "--", "--ignored", "--nocapture"];
            ran(log, Command::new(cargo()).args(args))
        },
    ));
    rows.push(campaign::kills(project));
    rows.push(campaign::named_kills(project));
    rows.push(row(
        "cli-wgpu",
        "the command line with the feature wgpu, debug: its devices and products",
        |log| {
            let args = ["test", "-p", CLI, "--features", "wgpu", "--test", "devices"];
            ran(log, Command::new(cargo()).args(args))
        },
    ));
    rows.push(campaign::fuzz(project));
    rows.push(row("demo", "cargo run --release", |log| {
        ran(log, Command::new(cargo()).args(["run", "--release"]))
    }));
    rows.push(oracle::row(project)?);
    rows.push(python::plain(project));
    rows.push(python::torch(project, heavy));
    rows.extend(["ray", "dask"].map(|engine| python::distributed(project, engine, heavy)));
    Ok(rows)
}

fn checks(project: &Project) -> Vec<Row> {
    let violations = floors::violations(project);
    vec![
        row("floors", "each crate imports only from lower floors", move |log| {
            for line in &violations {
                log.line(line)?;
            }
            Ok(match violations.len() {
                0 => Outcome::Ran,
                1 => Outcome::Failed("one dependency out of order".into()),
                n => Outcome::Failed(format!("{n} dependencies out of order")),
            })
        }),
        row("fmt", "cargo fmt --check", |log| {
            if !present("fmt") {
                return Ok(Outcome::missing("rustfmt is missing: rustup component add rustfmt"));
            }
            ran(log, Command::new(cargo()).args(["fmt", "--all", "--check", "--", "--color", "never"]))
        }),
        row("deny", "licences, bans and sources of all dependencies", |log| {
            if !present("deny") {
                return Ok(Outcome::missing("cargo-deny is missing: cargo install cargo-deny"));
            }
            ran(log, Command::new(cargo()).args(["deny", "check", "bans", "licenses", "sources"]))
        }),
        row(
            "clippy",
            "all targets, warnings are errors; nothing newer than the declared Rust version",
            |log| {
                if !present("clippy") {
                    return Ok(Outcome::missing("clippy is missing: rustup component add clippy"));
                }
                let args = ["clippy", "--workspace", "--all-targets", "--keep-going", "--", "-D", "warnings"];
                ran(log, Command::new(cargo()).args(args))
            },
        ),
    ]
}

/// Checks that the committed PTX equals the output of the kernels' sources, and that no kernel spills registers.
fn ptx(project: &Project) -> Row {
    let project = project.clone();
    row("ptx", "CUDA kernels compiled by NVRTC: no drift from the committed PTX, no spills", move |log| {
        let compilers = match kernels::cuda::compilers(&project) {
            Ok(compilers) => compilers,
            Err(error) => return Ok(Outcome::missing(format!("no NVRTC: {error}"))),
        };
        no_drift(log, &kernels::ptx_drift(&project, &compilers)?)
    })
}

/// Checks that the crate embeds copies of the kernels' sources.
fn wgsl(project: &Project) -> Row {
    let project = project.clone();
    row("wgsl", "WGSL kernels: no drift of the embedded copies", move |log| {
        no_drift(log, &kernels::wgsl_drift(&project)?)
    })
}

fn no_drift(log: &mut Log, differing: &[String]) -> Result<Outcome> {
    differing.iter().try_for_each(|file| log.line(file))?;
    Ok(match differing.len() {
        0 => Outcome::Ran,
        n => Outcome::Failed(format!("{n} files differ from their sources: cargo xtask kernels")),
    })
}

/// `cargo test` of every library with all features: one build of a crate serves all crates above it. It builds the
/// examples, too.
fn cargo_test() -> Command {
    let mut command = Command::new(cargo());
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    // Other rows test these two: in a release build, and in Python.
    command.args(["--exclude", CLI, "--exclude", PYTHON]);
    command
}

fn tests() -> Row {
    row("tests", "every library, debug, all features: unit and integration tests, documentation", |log| {
        ran(log, &mut cargo_test())
    })
}

/// Every example of the facade, run to its end.
fn examples(project: &Project) -> Result<Row> {
    let folder = project.root.join("crates/residua/examples");
    let mut names = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "rs") {
                names.extend(path.file_stem().and_then(|name| Some(name.to_str()?.to_owned())));
            }
        }
    }
    names.sort();
    let built = project.target.join("debug/examples");
    Ok(row("examples", format!("the examples of {FACADE}: {}", names.join(", ")), move |log| {
        if names.is_empty() {
            return Ok(Outcome::not_here("no examples"));
        }
        ran(log, cargo_test().arg("--no-run"))?;
        let fails = |name: &&String| ran(log, &mut Command::new(built.join(name))).is_err();
        let failed: Vec<&str> = names.iter().filter(fails).map(String::as_str).collect();
        Ok(if failed.is_empty() { Outcome::Ran } else { Outcome::Failed(failed.join(", ")) })
    }))
}

/// The facade with no features and with each alone: no library needs a feature that only another one enables. The rows
/// that build the command line, the C library and the wheel show the same for these.
fn features(project: &Project) -> Row {
    let facade = project.packages.iter().find(|package| package.name == FACADE);
    let names = facade.into_iter().flat_map(|package| package.features.keys());
    let mut sets = vec![String::new()];
    sets.extend(names.filter(|name| *name != "default").cloned());
    row("features", format!("{FACADE} compiles with no features and with each alone"), move |log| {
        let mut failed = Vec::new();
        for features in &sets {
            let mut command = Command::new(cargo());
            command.args(["check", "-p", FACADE, "--no-default-features", "--features", features]);
            if ran(log, &mut command).is_err() {
                failed.push(if features.is_empty() { "none" } else { features });
            }
        }
        Ok(if failed.is_empty() { Outcome::Ran } else { Outcome::Failed(failed.join(", ")) })
    })
}

/// Crates whose `unsafe` only calls functions for AVX2. Fuzzing runs their readers under AddressSanitizer.
const CALLS: [&str; 2] = ["residua-format", "residua-split"];

/// Tests of every crate with `unsafe` under AddressSanitizer, in a separate target folder.
fn address_sanitizer(project: &Project) -> Result<Row> {
    const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let mut names = Vec::new();
    for (_, package) in project.crates() {
        let elsewhere = package.name == CLI || CALLS.contains(&&*package.name);
        if !elsewhere && has_unsafe(package)? {
            names.push(package.name.clone());
        }
    }
    let target_dir = project.target.join("asan");
    Ok(row("asan", format!("AddressSanitizer over {}", names.join(", ")), move |log| {
        let host = host()?;
        if !TARGETS.contains(&host.as_str()) {
            return Ok(Outcome::not_here(format!("AddressSanitizer is not run on {host}")));
        }
        if names.is_empty() {
            return Ok(Outcome::not_here("no crate has unsafe code"));
        }
        let mut command = Command::new(cargo());
        command.args(["test", "--tests", "--no-fail-fast"]);
        for name in &names {
            command.args(["-p", name]);
        }
        instrument(&mut command, "dev", &names, &["-Zsanitizer=address"]);
        command
            .args(["--config", "profile.dev.package.\"*\".opt-level=1", "--target", &host, "--target-dir"])
            .arg(&target_dir)
            // Optimise a little, because building and running are slow.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            // Without the sanitizer, the same properties run on more cases.
            .env("PROPTEST_CASES", "48")
            .env("CARGO_INCREMENTAL", "0");
        ran(log, &mut command)?;
        super::discard_in_ci(&target_dir);
        Ok(Outcome::Ran)
    }))
}

fn has_unsafe(package: &Package) -> Result<bool> {
    for path in package.sources()? {
        if mentions_unsafe(&std::fs::read_to_string(path)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn mentions_unsafe(source: &str) -> bool {
    const WORDS: [&str; 4] = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .any(|line| WORDS.iter().any(|word| line.contains(word)))
}

fn ran(log: &mut Log, command: &mut Command) -> Result<Outcome> {
    if super::in_ci() {
        // It gains nothing for a build that runs once, and writes gigabytes.
        command.env("CARGO_INCREMENTAL", "0");
    }
    log.succeed(command)?;
    Ok(Outcome::Ran)
}

/// Whether cargo knows this subcommand.
fn present(subcommand: &str) -> bool {
    Command::new(cargo())
        .args([subcommand, "--version"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_is_found_in_code_and_not_in_comments() {
        assert!(mentions_unsafe("fn f() {\n    unsafe { g() }\n}"));
        assert!(mentions_unsafe("pub unsafe fn f() {}"));
        assert!(mentions_unsafe("unsafe impl Send for X {}"));
        assert!(!mentions_unsafe("// unsafe { }\n/// unsafe fn\nfn f() {}"));
        assert!(!mentions_unsafe("#![forbid(unsafe_code)]"));
    }

    #[test]
    fn no_row_appears_twice() {
        let mut names: Vec<String> =
            all(&Project::read().unwrap(), true).unwrap().into_iter().map(|row| row.name).collect();
        let rows = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rows);
    }
}
