//! C and C++ programs against the installed C library: compiled with warnings as errors, run, and run again under
//! valgrind and AddressSanitizer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::log::Log;
use super::report::Outcome;
use super::rows::Row;
use crate::Result;
use crate::install_capi::{self, STATIC_LIBRARIES};
use crate::project::Project;

const PROGRAMS: [&str; 3] = ["example", "hostile", "checkpoint"];
/// The folder of the files that the programs open: their one argument.
const FIXTURES: &str = "fixtures";

/// A way to build and run a program.
struct Way {
    name: &'static str,
    compiler: &'static [&'static str],
    /// Linked with the archive, not the shared library.
    archive: bool,
    runner: &'static [&'static str],
}

const WAYS: [Way; 6] = [
    Way { name: "c11", compiler: &["gcc", "-std=c11", "-Wpedantic", "-x", "c"], archive: false, runner: &[] },
    Way { name: "c99", compiler: &["gcc", "-std=c99", "-Wpedantic", "-x", "c"], archive: false, runner: &[] },
    Way { name: "c++", compiler: &["g++", "-x", "c++"], archive: false, runner: &[] },
    Way { name: "static", compiler: &["gcc", "-x", "c"], archive: true, runner: &[] },
    Way {
        name: "asan",
        compiler: &["gcc", "-fsanitize=address,undefined", "-fno-sanitize-recover", "-x", "c"],
        archive: false,
        runner: &[],
    },
    Way {
        name: "valgrind",
        compiler: &["gcc", "-x", "c"],
        archive: false,
        // Threads may still hold memory when a program ends without waiting for them; that is no definite leak.
        runner: &[
            "valgrind",
            "--quiet",
            "--error-exitcode=9",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
        ],
    },
];

pub(crate) fn row(project: &Project) -> Row {
    let (root, target) = (project.root.clone(), project.target.clone());
    let (folder, sources) = (target.join("c-programs"), root.join("crates/capi/tests/c"));
    Row {
        name: "c-programs".into(),
        what: "C and C++ programs against the C library, also under valgrind and AddressSanitizer".into(),
        job: Box::new(move |log| {
            for (tool, package) in [("gcc", "gcc"), ("g++", "g++"), ("pkg-config", "pkg-config")] {
                if !starts(tool) {
                    return Ok(Outcome::missing(format!("{tool} is missing: apt-get install {package}")));
                }
            }
            log.succeed(&mut install_capi::build(None, true))?;
            install_capi::copy(&root, &target, true, &folder)?;
            let (mut passed, mut skipped, mut failed) = (0, 0, Vec::new());
            for way in &WAYS {
                if way.runner.first().is_some_and(|runner| !starts(runner)) {
                    log.line(&format!("{}: skipped, not installed", way.name))?;
                    skipped += PROGRAMS.len();
                    continue;
                }
                for program in PROGRAMS {
                    match way.run(log, &folder, &sources.join(program).with_extension("c"))? {
                        Some(0) => passed += 1,
                        _ => failed.push(format!("{program} as {}", way.name)),
                    }
                }
            }
            let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
            let count = failed.len();
            log.line(&format!("test result: {verdict}. {passed} passed; {count} failed; {skipped} ignored"))?;
            Ok(if failed.is_empty() { Outcome::Ran } else { Outcome::Failed(failed.join(", ")) })
        }),
    }
}

impl Way {
    /// Builds and runs a program. Returns its exit code, or the compiler's.
    fn run(&self, log: &mut Log, folder: &Path, source: &Path) -> Result<Option<i32>> {
        let lib = folder.join("lib");
        let program = source.file_stem().unwrap_or_default().to_string_lossy();
        let binary: PathBuf = folder.join(format!("{program}-{}", self.name));
        let mut command = Command::new(self.compiler[0]);
        command.args(["-Wall", "-Wextra", "-Werror", "-O1", "-g"]).args(&self.compiler[1..]).arg(source);
        command.args(["-x", "none", "-o"]).arg(&binary).args(pkg_config(&lib, "--cflags")?);
        if self.archive {
            command.arg(lib.join("libresidua.a")).args(STATIC_LIBRARIES.split(' '));
        } else {
            command.args(pkg_config(&lib, "--libs")?).arg("-lm");
        }
        match log.run(&mut command)? {
            Some(0) => {}
            other => return Ok(other),
        }
        let mut command = match self.runner.first() {
            Some(runner) => Command::new(runner),
            None => Command::new(&binary),
        };
        if let Some((_, options)) = self.runner.split_first() {
            command.args(options).arg(&binary);
        }
        log.run(command.arg(source.with_file_name(FIXTURES)).env("LD_LIBRARY_PATH", &lib))
    }
}

/// The output of pkg-config for the installed library.
fn pkg_config(lib: &Path, what: &str) -> Result<Vec<String>> {
    let output = Command::new("pkg-config")
        .args([what, "residua"])
        .env("PKG_CONFIG_PATH", lib.join("pkgconfig"))
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("pkg-config: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

fn starts(tool: &str) -> bool {
    let mut command = Command::new(tool);
    let command = command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
