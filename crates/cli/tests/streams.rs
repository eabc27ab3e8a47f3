//! The documented exit codes for failed output, limits of the system and early signals.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::process::{Command, Stdio};

use common::{Bench, RESIDUA, text};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that nobody reads.
fn broken() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Exit code and stderr of a run with such streams.
fn run(bench: &Bench, line: &str, stdout: Stdio, stderr: Stdio) -> (Option<i32>, String) {
    let mut command = Command::new(RESIDUA);
    command.args(line.split(' ')).current_dir(&bench.folder).stdout(stdout).stderr(stderr);
    let output = command.spawn().unwrap().wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

/// Commands that print, help among them.
const TALKATIVE: [&str; 8] = [
    "inspect model.safetensors",
    "inspect model.safetensors --json",
    "split model.safetensors -o split.safetensors",
    "devices",
    "--help",
    "split --help",
    "--version",
    "completions bash",
];

/// Commands that fail, and how.
const FAILING: [(&str, i32); 3] = [
    ("inspect absent.safetensors", 5),
    ("inspect model.safetensors --memory-budget 1MiB", 4),
    ("inspect --no-such-option", 2),
];

#[test]
fn a_full_stdout_is_5_and_one_line() {
    let bench = Bench::new();
    for line in TALKATIVE {
        let (code, stderr) = run(&bench, line, full(), Stdio::piped());
        assert_eq!(code, Some(5), "{line}: {stderr}");
        assert!(stderr.starts_with("error: stdout: ") && stderr.lines().count() == 1, "{line}: {stderr}");
    }
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let bench = Bench::new();
    for line in TALKATIVE {
        let (code, stderr) = run(&bench, line, broken(), Stdio::piped());
        assert_eq!((code, &*stderr), (Some(0), ""), "{line}");
    }
}

#[test]
fn an_error_that_cannot_be_told_keeps_its_exit_code() {
    let bench = Bench::new();
    for (line, expected) in FAILING {
        for stream in [full, broken] {
            let (code, _) = run(&bench, line, Stdio::null(), stream());
            assert_eq!(code, Some(expected), "{line}");
        }
    }
    let (code, _) = run(&bench, "inspect model.safetensors", full(), full());
    assert_eq!(code, Some(5));
}

/// The system gives the numbers of closed streams to the next files. The program must not print to those files.
#[test]
fn closed_streams_are_no_failure() {
    let bench = Bench::new();
    let run = |line: &str| bench.shell(&format!("residua {line}")).status.code();
    for close in [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        assert_eq!(run(&format!("split model.safetensors -o split.safetensors {close}")), Some(0), "{close}");
        bench.ok(&["verify", "split.safetensors"]);
        assert_eq!(run(&format!("--help {close}")), Some(0), "{close}");
        for (line, expected) in FAILING {
            assert_eq!(run(&format!("{line} {close}")), Some(expected), "{line} {close}");
        }
    }
}

/// The system reports `ulimit -f` with a signal; it ends a program that does not handle it.
#[test]
fn a_file_over_the_limit_is_5_and_leaves_the_old_one() {
    let bench = Bench::new();
    fs::write(bench.path("split.safetensors"), "the old file").unwrap();
    let files = || fs::read_dir(bench.folder.path()).unwrap().count();
    let before = files();
    let output =
        bench.shell("ulimit -f 1; exec residua split model.safetensors -o split.safetensors --values f32");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("File too large"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1);
    assert_eq!(fs::read(bench.path("split.safetensors")).unwrap(), b"the old file");
    assert_eq!(files(), before);
}

/// From the earliest moment at which the program can choose its exit code, even before the rest of its setup.
#[test]
fn an_early_signal_is_130() {
    let bench = Bench::new();
    let arguments = ["bench", "--shape", "2048x4096", "--repetitions", "9999"];
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP].into_iter().cycle().take(12) {
        let mut child = Command::new(RESIDUA)
            .args(arguments)
            .current_dir(&bench.folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let caught = || {
            let status = fs::read_to_string(&status).unwrap();
            let mask =
                status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim().to_owned();
            u64::from_str_radix(&mask, 16).unwrap() & (1 << (signal - 1)) != 0
        };
        while !caught() {
            std::hint::spin_loop();
        }
        // SAFETY: kill takes any numbers; nobody has waited for the child, so it still has its number.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

#[test]
fn as_many_threads_as_there_are_or_up_to_a_limit() {
    let bench = Bench::new();
    for count in ["0", "1", "256"] {
        bench.ok(&["inspect", "model.safetensors", "--threads", count]);
    }
    for count in ["257000", "-1", "99999999999999999999", "many"] {
        let error = bench.fails(2, &["inspect", "model.safetensors", &format!("--threads={count}")]);
        assert!(error.contains("from 0 to "), "{error}");
    }
}
