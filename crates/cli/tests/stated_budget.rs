//! A budget that is too small for the tables of many tensors is refused once: the number in the error is enough for the
//! whole command, and not much more. There is only one test, so that this process stays small.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::{run_within, stated};
use residua::format::file::{Dtype, SafetensorsWriter};

/// Headers of several times 128 KiB, which is part of the slack of a process.
const TENSORS: usize = 6000;

/// A checkpoint of many small tensors; `value` is the first byte of each.
fn write(path: &Path, value: u8) {
    let mut file = SafetensorsWriter::create(path, 200 * TENSORS as u64).unwrap();
    let mut bytes = [0; 4000];
    bytes[0] = value;
    for i in 0..TENSORS {
        file.tensor(
            &format!("model.layers.{i}.attention.of.many.heads.output_projection.weight"),
            Dtype::F32,
            &[1000],
            &bytes,
        )
        .unwrap();
    }
    file.finish().unwrap();
}

#[test]
fn many_tensors_are_refused_once() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(&folder.join("old.safetensors"), 0);
    write(&folder.join("new.safetensors"), 1);
    let commands = [
        "diff old.safetensors new.safetensors -o delta.safetensors",
        "patch old.safetensors delta.safetensors -o patched.safetensors",
        "inspect delta.safetensors",
        "inspect delta.safetensors --json",
        "inspect old.safetensors",
    ];
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let process = stated(&run_within(folder, &words, 1 << 20).stderr);
        // Where the first file is opened, and where it is open.
        let mut stated_before = None;
        for more in [0, 1 << 20, 2 << 20] {
            let refused = run_within(folder, &words, process + more);
            if refused.code == Some(0) {
                continue;
            }
            assert_eq!(refused.code, Some(4), "{command}: {}", refused.stderr);
            let enough = stated(&refused.stderr);
            // The same wherever it is refused, but for what the process holds itself.
            assert!(enough.abs_diff(*stated_before.get_or_insert(enough)) <= 2 << 20, "{command}: {enough}");
            let done = run_within(folder, &words, enough);
            println!("{command}: {} of {enough} bytes", done.peak);
            assert_eq!(done.code, Some(0), "{command}, {more}, {enough} bytes: {}", done.stderr);
            assert!(done.peak <= enough, "{command} held {} of {enough} bytes", done.peak);
            assert!(enough <= 2 * done.peak, "{command} needs {} of {enough} bytes", done.peak);
        }
        assert!(stated_before.is_some(), "{command} is never refused");
    }
}
