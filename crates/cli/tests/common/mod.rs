//! Small checkpoints, and the real binary run on them.

#![allow(dead_code, clippy::unwrap_used, reason = "helpers of tests, each of which uses a part")]

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use residua::format::file::{Dtype, SafetensorsWriter};
use residua::memory::ByteSize;
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const RESIDUA: &str = env!("CARGO_BIN_EXE_residua");

/// Elements of `layer.weight`.
pub(crate) const SHAPE: [usize; 2] = [64, 256];
/// How many elements `new.safetensors` has changed.
pub(crate) const CHANGED: u64 = 100;

/// A folder with `model.safetensors`, and `old.safetensors` and `new.safetensors` that differ a little.
pub(crate) struct Bench {
    pub(crate) folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        let weights: Vec<f32> = (0..SHAPE[0] * SHAPE[1]).map(|i| noise(i as u64)).collect();
        write(&bench.path("model.safetensors"), &weights);
        write(&bench.path("old.safetensors"), &weights);
        let mut new = weights;
        (0..CHANGED as usize).for_each(|i| new[i * 97] += 1.0);
        write(&bench.path("new.safetensors"), &new);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs the binary in the folder.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        Command::new(RESIDUA).args(arguments).current_dir(&self.folder).output().unwrap()
    }

    /// Runs a command line in the folder with a shell that finds the binary.
    pub(crate) fn shell(&self, line: &str) -> Output {
        let folder = Path::new(RESIDUA).parent().unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        Command::new("sh").args(["-c", line]).current_dir(&self.folder).env("PATH", path).output().unwrap()
    }

    /// Runs the binary; it must succeed. Returns its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs the binary with `--json`; it must succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let stdout = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"))
    }

    /// Runs the binary; it must fail with this exit code and one line on stderr. Returns that line.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
        if code != 2 {
            assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        }
        stderr
    }
}

/// What the error of a budget says is enough.
pub(crate) fn stated(stderr: &str) -> u64 {
    let number = stderr.split("at least ").nth(1).and_then(|rest| rest.split(" is needed").next());
    let size: ByteSize = number.unwrap_or_else(|| panic!("{stderr}")).parse().unwrap();
    size.0
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Between −1 and 1, no pattern.
pub(crate) fn noise(i: u64) -> f32 {
    let hash = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    hash as f32 / (1 << 23) as f32 - 1.0
}

pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A checkpoint with a matrix and a vector.
pub(crate) fn write(path: &Path, weights: &[f32]) {
    let mut file = SafetensorsWriter::create(path, 256).unwrap();
    file.tensor("layer.weight", Dtype::F32, &SHAPE, &bytes(weights)).unwrap();
    file.tensor("layer.bias", Dtype::F32, &[SHAPE[0]], &bytes(&[0.5; SHAPE[0]])).unwrap();
    file.finish().unwrap();
}

/// A checkpoint with one f32 matrix of `mebibytes`, written row by row.
pub(crate) fn write_large(path: &Path, mebibytes: usize) {
    const COLS: usize = 8192;
    let rows = (mebibytes << 20) / (4 * COLS);
    let mut file = SafetensorsWriter::create(path, 256).unwrap();
    file.begin("layer.weight", Dtype::F32, &[rows, COLS]).unwrap();
    for row in 0..rows {
        let values: Vec<f32> = (0..COLS).map(|col| noise((row * COLS + col) as u64)).collect();
        file.write(&bytes(&values)).unwrap();
    }
    file.end().unwrap();
    file.finish().unwrap();
}

/// The demo's features, in the demo's folder; the examples of `--help` expect them there.
pub(crate) fn bundle_features(bench: &Bench) {
    std::fs::create_dir_all(bench.path("residua-demo")).unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/drift.safetensors");
    std::fs::copy(from, bench.path("residua-demo/drift.safetensors")).unwrap();
}

/// All features of the repository, of both ways to tune the model, as `drift.safetensors`.
pub(crate) fn whole_features(bench: &Bench) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/drift.safetensors");
    std::fs::copy(from, bench.path("drift.safetensors")).unwrap();
}

/// An array in numpy's format.
pub(crate) fn npy(path: &Path, descr: &str, shape: &[usize], data: &[u8]) {
    let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    std::fs::write(path, file).unwrap();
}

/// Features `[n, d]` as an npy file.
pub(crate) fn npy_features(path: &Path, d: usize, values: &[f32]) {
    npy(path, "<f4", &[values.len() / d, d], &bytes(values));
}

/// Labels `[n]` as an npy file.
pub(crate) fn npy_labels(path: &Path, labels: &[u32]) {
    let data: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    npy(path, "<u4", &[labels.len()], &data);
}

/// Runs the binary to its end; the most memory it held, in bytes.
///
/// The kernel also counts the memory of the process before it became the binary. So this test must stay small: one test
/// per process, files written in pieces.
#[cfg(target_os = "linux")]
pub(crate) fn peak(folder: &Path, arguments: &[&str]) -> u64 {
    let mut command = Command::new(RESIDUA);
    command.args(arguments).current_dir(folder).stdout(Stdio::null());
    let (status, peak) = wait(command);
    assert!(status.success(), "{arguments:?}");
    peak
}

/// A run within a budget: the exit code (`None` after a signal), the most memory it held in bytes, and stderr.
#[cfg(target_os = "linux")]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) peak: u64,
    pub(crate) stderr: String,
}

/// Runs the binary with a budget in bytes and 300 MiB of address space more: code, libraries, stacks of threads. So an
/// allocation that nobody asked the budget for ends it with a signal. See [`peak`] for what else is counted.
#[cfg(target_os = "linux")]
pub(crate) fn run_within(folder: &Path, arguments: &[&str], budget: u64) -> Run {
    let mut stderr = tempfile::tempfile().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -v {}; exec \"$@\"", (budget >> 10) + (300 << 10)), "sh", RESIDUA]);
    command.args(arguments).args(["--memory-budget", &format!("{budget}B")]);
    command.current_dir(folder).stdout(Stdio::null()).stderr(stderr.try_clone().unwrap());
    let (status, peak) = wait(command);
    let mut text = String::new();
    stderr.rewind().unwrap();
    stderr.read_to_string(&mut text).unwrap();
    Run { code: status.code(), peak, stderr: text }
}

/// Runs a command to its end; its status, and the most memory it held in bytes.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
#[cfg(target_os = "linux")]
fn wait(mut command: Command) -> (ExitStatus, u64) {
    let child = command.spawn().unwrap();
    let mut status = 0;
    // SAFETY: rusage is plain data for which all zeroes are valid; wait4 writes to the two places only.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::wait4(child.id() as i32, &mut status, 0, &mut usage), child.id() as i32);
        usage
    };
    (std::os::unix::process::ExitStatusExt::from_raw(status), usage.ru_maxrss as u64 * 1024)
}
