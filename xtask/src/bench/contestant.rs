//! A process that runs one timed repetition per request.
//!
//! Protocol, line by line. The process gets the data folder as its last argument. When it is ready for
//! requests it prints `{"ready": "name and version"}`. Each request is a line `CASE THREADS`, such as
//! `spmv 1`; each answer is one line of JSON:
//!
//! - `{"seconds": 0.31}`: the case was run once, with its input loaded and laid out beforehand. Also
//!   allowed: `"check"`, a number that must agree between contestants (`coo`: stored entries, `spmv` and
//!   `spmm`: sum of |y| over all matrices), `"peak_bytes"`, memory held beyond the input, `"note"`, a word
//!   on what was run;
//! - `{"skip": "why"}`: this contestant does not do the case, or not with that many threads;
//! - `{"error": "what"}`.
//!
//! End of input ends the process. Input of every case: `data.rs`.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;

use super::data::Data;
use crate::Result;
use crate::project::{Project, cargo};
use crate::venv::Venv;

/// Python packages of all contestants but torch.
pub(super) const PACKAGES: &[&str] = &["numpy", "scipy", "safetensors", "sparse_dot_mkl", "mkl"];

/// The row that all ratios refer to.
pub(super) const OURS: &str = "residua";

pub(super) struct Contestant {
    pub(super) name: String,
    version: String,
    process: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Reply {
    pub(super) ready: Option<String>,
    pub(super) seconds: Option<f64>,
    pub(super) check: Option<f64>,
    pub(super) peak_bytes: Option<u64>,
    pub(super) note: Option<String>,
    pub(super) skip: Option<String>,
    pub(super) error: Option<String>,
}

/// Starts all contestants; the second list names absent ones and the reasons.
pub(super) fn all(project: &Project, data: &Data, torch: bool) -> Result<(Vec<Contestant>, Vec<String>)> {
    let peers = project.root.join("xtask").join("peers");
    let mut commands = vec![(OURS, ours(project))];
    for library in ["sprs", "nalgebra-sparse", "faer"] {
        let command = rust_peers(project, &peers).map(|mut command| {
            command.arg(library);
            command
        });
        commands.push((library, command));
    }
    let mut steps = vec![PACKAGES];
    if torch {
        steps.push(&["torch"]);
    }
    eprintln!("Python packages: {}", steps.concat().join(" "));
    match Venv::prepare(&project.target.join("bench-venv"), &steps) {
        Ok(venv) => {
            for name in ["scipy", "mkl", "sparse_dot_mkl", "torch", "cmp"] {
                let mut command = Command::new(venv.python());
                command.arg(peers.join(format!("{name}_peer.py")));
                commands.push((name, Ok(command)));
            }
        }
        Err(error) => commands.push(("Python peers", Err(error))),
    }
    let (mut present, mut absent) = (Vec::new(), Vec::new());
    for (name, command) in commands {
        let started = command.and_then(|mut command| Contestant::start(name, command.arg(&data.folder)));
        match started {
            Ok(contestant) => present.push(contestant),
            Err(error) => absent.push(format!("{name}: {error}")),
        }
    }
    Ok((present, absent))
}

fn ours(project: &Project) -> Result<Command> {
    build(
        Command::new(cargo()).args(["build", "--release", "-p", "residua-cli"]).current_dir(&project.root),
    )?;
    let mut command = Command::new(project.target.join("release").join("residua"));
    command.args(["bench", "--serve"]);
    Ok(command)
}

/// The Rust libraries are in a separate package, so that the product never depends on them.
fn rust_peers(project: &Project, peers: &Path) -> Result<Command> {
    let target = project.target.join("bench-peers");
    build(
        Command::new(cargo())
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&target)
            .current_dir(peers.join("rust")),
    )?;
    Ok(Command::new(target.join("release").join("residua-bench-peers")))
}

pub(super) fn build(command: &mut Command) -> Result {
    match command.stdin(Stdio::null()).status()?.success() {
        true => Ok(()),
        false => Err(format!("{command:?} failed").into()),
    }
}

impl Contestant {
    fn start(name: &str, command: &mut Command) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| format!("does not start: {error}"))?;
        let requests = process.stdin.take();
        let replies = BufReader::new(process.stdout.take().ok_or("no pipe")?);
        let mut contestant =
            Self { name: name.to_owned(), version: String::new(), process, requests, replies };
        let reply = contestant.read().map_err(|_| "takes no requests")?;
        match (reply.ready, reply.error) {
            (Some(version), _) => contestant.version = version,
            (None, Some(error)) => return Err(error.into()),
            (None, None) => return Err("takes no requests".into()),
        }
        Ok(contestant)
    }

    /// One repetition. If the contestant answers that it failed, this is an error.
    pub(super) fn ask(&mut self, case: &str, threads: usize) -> Result<Reply> {
        let requests = self.requests.as_mut().ok_or("no pipe")?;
        writeln!(requests, "{case} {threads}")?;
        requests.flush()?;
        let reply = self.read()?;
        match reply {
            Reply { error: Some(error), .. } => Err(error.into()),
            Reply { seconds: None, skip: None, .. } => {
                Err("neither a time nor a reason in the answer".into())
            }
            reply => Ok(reply),
        }
    }

    fn read(&mut self) -> Result<Reply> {
        let mut line = String::new();
        if self.replies.read_line(&mut line)? == 0 {
            return Err("ended early".into());
        }
        Ok(serde_json::from_str(&line).map_err(|error| format!("{error} in the answer {line:?}"))?)
    }

    pub(super) fn about(&self) -> String {
        if self.version.starts_with(&self.name) {
            self.version.clone()
        } else {
            format!("{} ({})", self.name, self.version)
        }
    }
}

impl Drop for Contestant {
    fn drop(&mut self) {
        // Closing its input asks it to end. We wait, and ignore the result.
        self.requests = None;
        let _ = self.process.wait();
    }
}
