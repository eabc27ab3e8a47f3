//! The fuzz targets, a workspace of their own that nothing else builds.

use std::process::Command;

use super::report::Outcome;
use super::rows::Row;
use crate::project::{Project, cargo};

pub(super) fn row(project: &Project) -> Row {
    let (root, target) = (project.root.clone(), project.target.clone());
    Row {
        name: "fuzz-build".into(),
        what: "the fuzz targets compile".into(),
        job: Box::new(move |log| {
            let folder = root.join("fuzz");
            // The versions of the repository, not the newest of the day.
            std::fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
            let manifest = folder.join("Cargo.toml");
            let command = |name: &str| {
                let mut command = Command::new(cargo());
                command.arg(name).arg("--manifest-path").arg(&manifest);
                command
            };
            if log.run(&mut command("fetch"))? != Some(0) {
                return Ok(Outcome::missing("no registry to fetch libfuzzer-sys from"));
            }
            // Without the default feature libfuzzer itself is not compiled. That would take longer than all the rest.
            log.succeed(command("check").arg("--no-default-features").arg("--target-dir").arg(&target))?;
            Ok(Outcome::Ran)
        }),
    }
}
