//! Memory that grows with the number of things: tensors, rows, shards, metadata. Every command keeps its budget, or
//! refuses it before it is spent. Peaks come from the operating system.
//!
//! `cargo xtask test-all --only counts` runs it, on a release build: the code of a debug build is too large for small
//! budgets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(target_os = "linux")]

mod common;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use common::{Run, run_within};

/// In MiB.
const BUDGETS: [u64; 3] = [16, 64, 256];
/// Commands on `old`, `new`, `split` and `delta`.
const COMMANDS: [&str; 11] = [
    "split old -o out.safetensors",
    "inspect old",
    "inspect old --json",
    "diff old new -o out.safetensors",
    "patch old delta -o out.safetensors",
    "inspect delta --json",
    "inspect split",
    "verify split",
    "verify split --against old --json",
    "materialize split -o out.safetensors",
    "report split -o out.html --against old",
];
const MATRIX: [&str; 4] = [
    "convert tall.mtx out.safetensors",
    "convert tall.mtx out.npz",
    "bench tall.mtx --batch 1 --repetitions 1 --threads 1",
    "bench wide.mtx --batch 1 --repetitions 1 --threads 1",
];

/// `enough` is the budget in MiB at which every command must succeed.
fn check(commands: &[&str], enough: u64, make: impl Fn(&Path) -> io::Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder).unwrap();
    for (file, command) in [
        ("split.safetensors", "split old -o split.safetensors"),
        ("delta.safetensors", "diff old new -o delta.safetensors"),
    ] {
        if commands.len() > MATRIX.len() && !folder.join(file).exists() {
            let made = run(folder, command, 4096);
            assert_eq!(made.code, Some(0), "{command}");
        }
    }
    let mut problems = String::new();
    for command in commands {
        for budget in BUDGETS {
            let Run { code, peak, .. } = run(folder, command, budget);
            println!(
                "{command:<40} {budget:>4} MiB: {code:?}, peak {:.1} MiB",
                peak as f64 / (1 << 20) as f64
            );
            // A split holds pointers of all rows.
            let needs_more = budget < enough || command.starts_with("split");
            let allowed = code == Some(0) || (code == Some(4) && needs_more);
            if !allowed || peak > budget << 20 {
                _ = writeln!(problems, "{command} within {budget} MiB: {code:?}, peak {peak} bytes");
            }
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

#[test]
#[ignore = "for release builds; the row `counts` of test-all runs it"]
fn counts_keep_the_budget() {
    // One after the other: the machine has few cores, and peaks of a process are its own.
    println!("20,000 tensors");
    check(&COMMANDS, 256, |folder| tensors(folder, 20_000, 20_000));
    println!("200,000 tensors");
    // The header of a split file has no room for more matrices.
    check(&COMMANDS, u64::MAX, |folder| tensors(folder, 200_000, 40_000));
    println!("26,000 tensors with one change each");
    check(&["diff old new -o out.safetensors"], 256, |folder| small_changes(folder, 26_000));
    println!("50 MB of metadata");
    check(&COMMANDS, 256, metadata);
    println!("500 shards");
    check(&COMMANDS, 64, shards);
    println!("10 million rows");
    check(&COMMANDS, 64, rows);
    let matrices = |folder: &Path| {
        let matrix =
            |shape: &str| format!("%%MatrixMarket matrix coordinate real general\n{shape} 1\n2 1 1.5\n");
        fs::write(folder.join("tall.mtx"), matrix("10000000 3"))?;
        fs::write(folder.join("wide.mtx"), matrix("2 4000000000"))
    };
    let (convert, bench) = MATRIX.split_at(2);
    check(convert, 256, matrices);
    check(bench, u64::MAX, matrices);
}

/// Runs a command within a budget in MiB. Its words are files of the folder, with or without their suffix.
fn run(folder: &Path, command: &str, budget: u64) -> Run {
    let words = command.split(' ').map(|word| match word {
        "old" | "new" if folder.join(word).is_dir() => word.to_owned(),
        "old" | "new" | "split" | "delta" if folder.join(format!("{word}.safetensors")).exists() => {
            format!("{word}.safetensors")
        }
        word => word.to_owned(),
    });
    // The command itself may be called as a file is.
    let words: Vec<String> = command.split(' ').take(1).map(str::to_owned).chain(words.skip(1)).collect();
    run_within(folder, &words.iter().map(|word| &**word).collect::<Vec<_>>(), budget << 20)
}

/// Writes a safetensors file in pieces: a header, then zeros. Returns the file and the start of the data.
fn zeros(
    path: &Path,
    data: u64,
    header: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<(File, u64)> {
    let mut out = BufWriter::new(File::create_new(path)?);
    out.write_all(&[0; 8])?;
    header(&mut out)?;
    let start = out.stream_position()?;
    out.rewind()?;
    out.write_all(&(start - 8).to_le_bytes())?;
    let file = out.into_inner()?;
    file.set_len(start + data)?;
    Ok((file, start))
}

fn tensor(
    out: &mut dyn Write,
    name: &str,
    dtype: &str,
    shape: &str,
    start: u64,
    bytes: u64,
) -> io::Result<u64> {
    let end = start + bytes;
    let comma = if start == 0 && bytes > 0 { "" } else { "," };
    write!(
        out,
        "{comma}\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{start},{end}]}}"
    )?;
    Ok(end)
}

/// `old` and `new` with `count` matrices of 4 × 4, a third of them changed, and a split file of them, in which all but
/// `split` passed through.
fn tensors(folder: &Path, count: u64, split: u64) -> io::Result<()> {
    old_and_new(folder, count, "4,4", count / 3, &[1; 64])?;
    zeros(&folder.join("split.safetensors"), 44 * split + 64 * (count - split), |out| {
        container(out, (0..split).map(|i| (format!("layers.{i}.weight"), [4, 4], 0)))?;
        let mut end = 0;
        for i in 0..split {
            let name = |plane: &str| format!("layers.{i}.weight.{plane}");
            end = tensor(out, &name("row_ptr"), "U32", "5", end, 20)?;
            end = tensor(out, &name("gaps"), "U8", "0", end, 0)?;
            end = tensor(out, &name("values"), "BF16", "0", end, 0)?;
            end = tensor(out, &name("base"), "U8", "8", end, 8)?;
            end = tensor(out, &name("base_scales"), "F32", "4", end, 16)?;
        }
        for i in split..count {
            end = tensor(out, &format!("layers.{i}.weight"), "F32", "4,4", end, 64)?;
        }
        out.write_all(b"}")
    })?;
    Ok(())
}

/// `old` and `new` with `count` tensors so small that a sparse matrix hardly pays, and one change in each.
fn small_changes(folder: &Path, count: u64) -> io::Result<()> {
    let mut changed = [0; 1000];
    changed[0] = 1;
    old_and_new(folder, count, "250", count, &changed)
}

/// `old` and `new` with `count` F32 tensors of this shape. The first `changes` of the new ones are `changed`, all others 0.
fn old_and_new(folder: &Path, count: u64, shape: &str, changes: u64, changed: &[u8]) -> io::Result<()> {
    let size = changed.len() as u64;
    for name in ["old", "new"] {
        let path = folder.join(format!("{name}.safetensors"));
        let (mut file, start) = zeros(&path, size * count, |out| {
            out.write_all(b"{")?;
            for i in 0..count {
                tensor(out, &format!("layers.{i}.weight"), "F32", shape, size * i, size)?;
            }
            out.write_all(b"}")
        })?;
        if name == "new" {
            file.seek(SeekFrom::Start(start))?;
            // One at a time: what this process holds counts as the peak of a child that it forks.
            (0..changes).try_for_each(|_| file.write_all(changed))?;
        }
    }
    Ok(())
}

/// The start of a split file's header: its metadata.
fn container(out: &mut dyn Write, matrices: impl Iterator<Item = (String, [u64; 2], u64)>) -> io::Result<()> {
    out.write_all(br#"{"__metadata__":{"format":"residua","format_version":"1","kind":"split""#)?;
    for (name, [rows, cols], nnz) in matrices {
        let meta = format!(
            r#"{{"shape":[{rows},{cols}],"dtype":"F32","op":"add","nnz":{nnz},"entries":{nnz},"index_bytes":{nnz},"values":"bf16","base":"int4"}}"#
        );
        write!(out, ",\"matrix:{name}\":\"{}\"", meta.replace('"', "\\\""))?;
    }
    out.write_all(b"},")
}

/// `old` and `new` with 1,000 texts of 50 kB.
fn metadata(folder: &Path) -> io::Result<()> {
    let text = "quoted \\\"text\\\" ".repeat(2900);
    for name in ["old", "new"] {
        zeros(&folder.join(format!("{name}.safetensors")), 4 * 64 * 64, |out| {
            out.write_all(br#"{"__metadata__":{"first":"""#)?;
            for i in 0..1000 {
                write!(out, ",\"{i}\":\"{text}\"")?;
            }
            out.write_all(b"},")?;
            tensor(out, "w", "F32", "64,64", 0, 4 * 64 * 64)?;
            out.write_all(b"}")
        })?;
    }
    Ok(())
}

/// `old` and `new` in 500 files of four matrices each.
fn shards(folder: &Path) -> io::Result<()> {
    for name in ["old", "new"] {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let mut index = String::from("{\"weight_map\":{");
        for shard in 0..500 {
            let file = format!("model-{shard:05}.safetensors");
            zeros(&folder.join(&file), 4 * 256, |out| {
                out.write_all(b"{")?;
                (0..4).try_for_each(|i| {
                    tensor(out, &format!("s{shard}.t{i}"), "F32", "8,8", 256 * i, 256).map(drop)
                })?;
                out.write_all(b"}")
            })?;
            for i in 0..4 {
                _ = write!(index, "\"s{shard}.t{i}\":\"{file}\",");
            }
        }
        index.pop();
        fs::write(folder.join("model.safetensors.index.json"), index + "}}")?;
    }
    Ok(())
}

/// `old`, `new` and a split file of one matrix with 10 million rows of one column, and one entry.
fn rows(folder: &Path) -> io::Result<()> {
    const ROWS: u64 = 10_000_000;
    for (name, byte) in [("old", 0), ("new", 1)] {
        let (mut file, start) = zeros(&folder.join(format!("{name}.safetensors")), 4 * ROWS, |out| {
            out.write_all(b"{")?;
            tensor(out, "w", "F32", &format!("{ROWS},1"), 0, 4 * ROWS)?;
            out.write_all(b"}")
        })?;
        file.seek(SeekFrom::Start(start))?;
        file.write_all(&[byte])?;
    }
    let pointers = 4 * (ROWS + 1);
    let (mut file, start) = zeros(&folder.join("split.safetensors"), pointers + 3 + 5 * ROWS, |out| {
        container(out, std::iter::once(("w".to_owned(), [ROWS, 1], 1)))?;
        let end = tensor(out, "w.row_ptr", "U32", &(ROWS + 1).to_string(), 0, pointers)?;
        let end = tensor(out, "w.gaps", "U8", "1", end, 1)?;
        let end = tensor(out, "w.values", "BF16", "1", end, 2)?;
        let end = tensor(out, "w.base", "U8", &ROWS.to_string(), end, ROWS)?;
        tensor(out, "w.base_scales", "F32", &ROWS.to_string(), end, 4 * ROWS)?;
        out.write_all(b"}")
    })?;
    // The last row has the entry: column 0, value 1.
    file.seek(SeekFrom::Start(start + pointers - 4))?;
    file.write_all(&[1, 0, 0, 0, 1, 0x80, 0x3f])
}
