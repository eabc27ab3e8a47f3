//! Packages for a registry: complete, small enough, and sufficient to build.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::log::Log;
use super::report::Outcome;
use super::rows::Row;
use crate::Result;
use crate::project::{Package, Project, cargo};

/// The limit of crates.io: 10 MiB.
const LARGEST: u64 = 10 << 20;

/// Files that every package has; they equal those at the top of the repository.
const LICENCES: [&str; 2] = ["LICENSE-MIT", "LICENSE-APACHE"];

pub(super) fn row(project: &Project) -> Row {
    let project = project.clone();
    Row {
        name: "package".into(),
        what:
            "every crate for a registry packed; all of them built from the packages alone, with every feature"
                .into(),
        job: Box::new(move |log| {
            pack(log, &project)?;
            let folder = project.target.join("packages");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
            fs::create_dir_all(&folder)?;
            let problems = unpack(log, &project, &folder)?;
            problems.iter().try_for_each(|line| log.line(line))?;
            if let Some(first) = problems.first() {
                return Ok(Outcome::Failed(format!("{} problems: {first}", problems.len())));
            }
            workspace(&project, &folder)?;
            let manifest = folder.join("Cargo.toml");
            let mut command = Command::new(cargo());
            command.args(["check", "--workspace", "--all-features", "--manifest-path"]).arg(manifest);
            log.succeed(command.arg("--target-dir").arg(&project.target))?;
            Ok(Outcome::Ran)
        }),
    }
}

/// Writes every `.crate` file. [`row`] builds all of them at once, instead of cargo's verification.
fn pack(log: &mut Log, project: &Project) -> Result {
    let mut command = Command::new(cargo());
    command.args(["package", "--no-verify", "--allow-dirty"]);
    for (_, package) in project.published() {
        command.args(["-p", &package.name]);
    }
    log.succeed(&mut command)
}

/// Unpacks into `folder`. Returns the problems of the packages.
fn unpack(log: &mut Log, project: &Project, folder: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for (_, package) in project.published() {
        let file = project.target.join("package").join(format!("{}.crate", full_name(package)));
        let bytes = fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?.len();
        log.line(&format!("{}: {bytes} bytes", package.name))?;
        if bytes > LARGEST {
            problems.push(format!("{} has {bytes} bytes, and {LARGEST} are allowed", package.name));
        }
        log.succeed(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(folder))?;
        let unpacked = folder.join(full_name(package));
        if !unpacked.join("README.md").exists() {
            problems.push(format!("{} has no README.md", package.name));
        }
        for licence in LICENCES {
            // Compare lines, because a clone may have other line ends.
            let lines = |path: PathBuf| fs::read_to_string(path).map(|text| text.replace('\r', "")).ok();
            let found = lines(unpacked.join(licence));
            if found.is_none() || found != lines(project.root.join(licence)) {
                problems.push(format!("{} has not the {licence} of the repository", package.name));
            }
        }
    }
    Ok(problems)
}

fn full_name(package: &Package) -> String {
    format!("{}-{}", package.name, package.version)
}

/// A workspace of only the unpacked crates. It has the versions and profiles of the repository, to reuse the external
/// crates that other rows built.
fn workspace(project: &Project, folder: &Path) -> Result {
    let crates = project.published();
    let mut manifest =
        String::from("[workspace]\nresolver = \"3\"\nmembers = [\"residua*\"]\n\n[patch.crates-io]\n");
    for (_, package) in &crates {
        writeln!(manifest, "{} = {{ path = \"{}\" }}", package.name, full_name(package))?;
    }
    let own = fs::read_to_string(project.root.join("Cargo.toml"))?;
    // The profiles are the end of the file.
    manifest += own.find("\n[profile.").map_or("", |at| &own[at..]);
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::copy(project.root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    Ok(())
}
