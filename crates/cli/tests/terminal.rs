//! The program prints nothing that a terminal obeys, for any names, metadata, paths and arguments.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(unix)]

mod common;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Output};

use common::{Bench, RESIDUA, bytes, noise};
use residua::format::file::{Dtype, SafetensorsWriter};

/// Control characters, invisible characters, and some visible ones.
const ODD: [char; 26] = [
    '\x1b',
    '\x07',
    '\n',
    '\r',
    '\t',
    '\x08',
    '\x7f',
    '\u{85}',
    '\u{9b}',
    '\u{ad}',
    '\u{61c}',
    '\u{200b}',
    '\u{200f}',
    '\u{2028}',
    '\u{202a}',
    '\u{202e}',
    '\u{2066}',
    '\u{2069}',
    '\u{feff}',
    '\u{e0041}',
    'a',
    '<',
    '層',
    'é',
    '[',
    ';',
];

/// A name of such characters.
fn odd(seed: u64) -> String {
    let pick = |i| ODD[((noise(31 * seed + i) + 1.0) * 1e4) as usize % ODD.len()];
    format!("w{seed}{}", (0..8).map(pick).collect::<String>())
}

/// A checkpoint with matrices of these names; the last one holds `last` somewhere.
fn checkpoint(bench: &Bench, file: &OsStr, names: &[String], last: f32) {
    let mut output = SafetensorsWriter::create(bench.folder.path().join(file), 4096).unwrap();
    for (index, name) in names.iter().enumerate() {
        let mut values: Vec<f32> = (0..256).map(noise).collect();
        if index + 1 == names.len() {
            values[100] = last;
        }
        output.tensor(name, Dtype::F32, &[8, 32], &bytes(&values)).unwrap();
    }
    output.finish().unwrap();
}

fn run(bench: &Bench, arguments: &[&OsStr]) -> Output {
    Command::new(RESIDUA).args(arguments).current_dir(&bench.folder).output().unwrap()
}

fn is_safe(text: &str) -> bool {
    let invisible = |c: char| ODD[..20].contains(&c) && c != '\n';
    !text.chars().any(|c| c != '\n' && (c.is_control() || invisible(c)))
}

/// Runs the binary; checks what it prints; the number of lines on stdout.
fn safe(bench: &Bench, arguments: &[&OsStr], code: i32) -> usize {
    let output = run(bench, arguments);
    let (stdout, stderr) = (common::text(&output.stdout), common::text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(is_safe(&stdout), "{arguments:?}: {stdout:?}");
    assert!(is_safe(&stderr), "{arguments:?}: {stderr:?}");
    if code != 0 && code != 2 {
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    }
    stdout.lines().count()
}

/// What every command prints of a checkpoint with these names, in files of that name: lines of stdout.
fn lines(names: &[String], stem: &str) -> Vec<usize> {
    let bench = Bench::new();
    let files: Vec<OsString> = ["m", "n", "nan", "s", "d", "p"]
        .iter()
        .map(|end| format!("{stem}{end}.safetensors").into())
        .collect();
    let [model, new, nan, split, delta, patched] = files.iter().map(|file| &**file).collect::<Vec<_>>()[..]
    else {
        panic!("six files");
    };
    checkpoint(&bench, model, names, 0.5);
    checkpoint(&bench, new, names, 7.0);
    checkpoint(&bench, nan, names, f32::NAN);
    let os = OsStr::new;
    let [out, json, tensor, against] = ["-o", "--json", "--tensor", "--against"].map(os);
    let page: OsString = format!("{stem}r.html").into();
    let matrix: OsString = format!("{stem}x.npz").into();
    let absent: OsString = format!("{stem}absent").into();
    let name = os(&names[0]);
    let table: [(i32, &[&OsStr]); 22] = [
        (0, &[os("inspect"), model]),
        (0, &[os("inspect"), model, json]),
        (0, &[os("split"), model, out, split]),
        (0, &[os("split"), model, out, split, json]),
        (0, &[os("inspect"), split]),
        (0, &[os("inspect"), split, json]),
        (0, &[os("verify"), split, against, model]),
        (1, &[os("verify"), split, against, os("model.safetensors")]),
        (0, &[os("report"), split, out, &page]),
        (0, &[os("report"), split, out, &page, json]),
        (0, &[os("materialize"), split, out, patched]),
        (0, &[os("diff"), model, new, out, delta]),
        (0, &[os("inspect"), delta]),
        (0, &[os("patch"), model, delta, out, patched]),
        (3, &[os("patch"), new, delta, out, patched]),
        (3, &[os("split"), nan, out, split]),
        (0, &[os("convert"), model, &matrix, tensor, name]),
        (2, &[os("convert"), model, &matrix]),
        (3, &[os("convert"), os("model.safetensors"), &matrix, tensor, name]),
        (5, &[os("inspect"), &absent]),
        (2, &[os("inspect"), model, &absent]),
        (2, &[os("split"), model, os("--values"), name, out, split]),
    ];
    table.iter().map(|(code, arguments)| safe(&bench, arguments, *code)).collect()
}

#[test]
fn nothing_that_a_terminal_obeys_is_printed() {
    let plain = lines(&["a".into(), "b".into(), "c".into()], "f");
    for seed in 0..8 {
        let names: Vec<_> = (3 * seed..3 * seed + 3).map(odd).collect();
        // As many lines: none comes from a name.
        assert_eq!(lines(&names, &names[0].replace('/', "")), plain, "{names:?}");
    }
}

/// Pages too: their readers see what is in a name.
#[test]
fn a_page_holds_no_markup_of_a_name() {
    let bench = Bench::new();
    let name = "<script>alert(1)</script>\u{202e}\x1b".to_owned();
    checkpoint(&bench, OsStr::new("m.safetensors"), &[name], 0.5);
    bench.ok(&["split", "m.safetensors", "-o", "s.safetensors"]);
    bench.ok(&["report", "s.safetensors", "-o", "r.html"]);
    let page = fs::read_to_string(bench.path("r.html")).unwrap();
    assert!(is_safe(&page) && !page.contains("<script>alert"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;\\u{202e}\\x1b"));
}

#[test]
fn json_holds_names_as_they_are_and_paths_that_are_not_utf8() {
    let bench = Bench::new();
    let names: Vec<_> = (0..3).map(odd).collect();
    let file = OsString::from_vec(b"m\xff\x1b.safetensors".to_vec());
    checkpoint(&bench, &file, &names, 0.5);
    let output = run(&bench, &["inspect".as_ref(), &file, "--json".as_ref()]);
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["file"], "m\u{fffd}\x1b.safetensors");
    let mut found: Vec<_> =
        json["dense"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let page = OsStr::from_bytes(b"r\xfe.html");
    let split: [&OsStr; 4] =
        ["split".as_ref(), &file, "-o".as_ref(), OsStr::from_bytes(b"s\xfe.safetensors")];
    assert!(run(&bench, &split).status.success());
    let report = ["report".as_ref(), split[3], "-o".as_ref(), page, "--json".as_ref()];
    let output = run(&bench, &report);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["report"], "r\u{fffd}.html");
}
