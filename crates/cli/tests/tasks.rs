//! Concurrent runs on one state, and repeated tasks.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(unix)]

mod common;

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

use common::{Bench, RESIDUA, noise, npy_features, npy_labels, text};

const ROWS: usize = 40;

/// Features before and after, and labels of classes that belong to the task.
fn task(bench: &Bench, number: u32) {
    let values = |shift: u64| -> Vec<f32> { (0..ROWS as u64 * 8).map(|i| noise(i + shift)).collect() };
    npy_features(&bench.path(&format!("before{number}.npy")), 8, &values(1000 + u64::from(number)));
    npy_features(&bench.path(&format!("after{number}.npy")), 8, &values(u64::from(number)));
    let labels: Vec<u32> = (0..ROWS as u32).map(|i| 2 * number + i % 2).collect();
    npy_labels(&bench.path(&format!("labels{number}.npy")), &labels);
}

fn arguments(number: u32, first: bool) -> Vec<String> {
    let line = format!("task state.safetensors --after after{number}.npy --labels labels{number}.npy");
    let before = if first { String::new() } else { format!(" --before before{number}.npy") };
    (line + &before).split(' ').map(str::to_owned).collect()
}

fn start(bench: &Bench, number: u32, first: bool) -> Child {
    let mut command = Command::new(RESIDUA);
    command.args(arguments(number, first)).current_dir(&bench.folder);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(bench: &Bench, number: u32, first: bool) -> (Option<i32>, String) {
    let output = start(bench, number, first).wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

/// Finished tasks, and samples of each variant.
fn known(bench: &Bench) -> (u64, Vec<u64>) {
    let tasks = &bench.json(&["inspect", "state.safetensors"])["tasks"];
    let samples = |variant: &serde_json::Value| variant["samples"].as_u64().unwrap();
    (tasks["tasks"].as_u64().unwrap(), tasks["variants"].as_array().unwrap().iter().map(samples).collect())
}

#[test]
fn of_several_runs_on_one_state_none_is_lost() {
    let bench = Bench::new();
    (0..5).for_each(|number| task(&bench, number));
    assert_eq!(run(&bench, 0, true).0, Some(0));
    let files = fs::read_dir(bench.folder.path()).unwrap().count();
    let runs: Vec<_> = (1..5).map(|number| start(&bench, number, false)).collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    assert_eq!(known(&bench), (5, vec![5 * ROWS as u64; 2]));
    assert_eq!(
        fs::read_dir(bench.folder.path()).unwrap().count(),
        files + 1,
        "the previous state, nothing else"
    );
}

/// The second run finds that it is no longer the first.
#[test]
fn of_several_first_tasks_one_is_taken() {
    let bench = Bench::new();
    (0..4).for_each(|number| task(&bench, number));
    let runs: Vec<_> = (0..4).map(|number| start(&bench, number, true)).collect();
    let outputs: Vec<_> = runs.into_iter().map(|run| run.wait_with_output().unwrap()).collect();
    assert_eq!(outputs.iter().filter(|output| output.status.success()).count(), 1);
    for output in outputs.iter().filter(|output| !output.status.success()) {
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("name --before"), "{}", text(&output.stderr));
    }
    assert_eq!(known(&bench), (1, vec![ROWS as u64; 2]));
}

#[test]
fn who_waits_can_be_interrupted() {
    let bench = Bench::new();
    (0..2).for_each(|number| task(&bench, number));
    assert_eq!(run(&bench, 0, true).0, Some(0));
    let state = bench.path("state.safetensors");
    let before = fs::read(&state).unwrap();
    let held = File::open(&state).unwrap();
    held.lock().unwrap();
    let mut waiting = start(&bench, 1, false);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(waiting.try_wait().unwrap().is_none(), "it does not wait");
    // SAFETY: kill takes any numbers; nobody has waited for the child, so it still has its number.
    assert_eq!(unsafe { libc::kill(waiting.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
    assert_eq!(fs::read(&state).unwrap(), before);
    drop(held);
    assert_eq!(run(&bench, 1, false).0, Some(0));
}

/// After an interruption the user does not know whether the task finished. Giving it again does no harm.
#[test]
fn a_task_that_comes_again_is_refused_unless_asked_for() {
    let bench = Bench::new();
    (0..2).for_each(|number| task(&bench, number));
    assert_eq!(run(&bench, 0, true).0, Some(0));
    assert_eq!(run(&bench, 1, false).0, Some(0));
    let state = fs::read(bench.path("state.safetensors")).unwrap();
    for (number, place) in [(0, "task 1"), (1, "task 2")] {
        let (code, error) = run(&bench, number, false);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(place) && error.contains("--again") && error.lines().count() == 1, "{error}");
        assert_eq!(fs::read(bench.path("state.safetensors")).unwrap(), state);
    }
    // The same samples under other names are the same samples.
    fs::rename(bench.path("after1.npy"), bench.path("after3.npy")).unwrap();
    fs::rename(bench.path("labels1.npy"), bench.path("labels3.npy")).unwrap();
    fs::rename(bench.path("before1.npy"), bench.path("before3.npy")).unwrap();
    assert_eq!(run(&bench, 3, false).0, Some(2));
    let again: Vec<_> = arguments(3, false).into_iter().chain(["--again".into()]).collect();
    bench.ok(&again.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(known(&bench), (3, vec![3 * ROWS as u64; 2]));
}

#[test]
fn a_task_is_taken_back_once_and_a_dry_run_changes_nothing() {
    let bench = Bench::new();
    (0..3).for_each(|number| task(&bench, number));
    let ok = |number, first, more: &[&str]| {
        let line: Vec<String> = arguments(number, first);
        bench.json(&line.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let state = || fs::read(bench.path("state.safetensors")).unwrap();
    ok(0, true, &["--name", "first"]);
    assert!(
        bench.fails(2, &["task", "state.safetensors", "--undo"]).contains("no state.safetensors.previous")
    );
    let first = state();
    let files = fs::read_dir(bench.folder.path()).unwrap().count();
    let dry = ok(1, false, &["--dry-run"]);
    assert_eq!((dry["tasks"].as_u64(), dry["dry_run"].as_bool()), (Some(2), Some(true)));
    assert_eq!(state(), first);
    assert_eq!(fs::read_dir(bench.folder.path()).unwrap().count(), files);
    let done = ok(1, false, &["--name", "second"]);
    assert_eq!(done["variants"], dry["variants"]);
    assert_eq!(done["history"][1]["name"], "second");
    let second = state();
    ok(2, false, &[]);
    assert_eq!(bench.json(&["task", "state.safetensors", "--undo"])["tasks"], 2);
    assert_eq!(state(), second);
    assert!(bench.fails(2, &["task", "state.safetensors", "--undo"]).contains("taken back once"));
    // A previous state of something else.
    fs::write(bench.path("state.safetensors.previous"), &second).unwrap();
    assert!(bench.fails(2, &["task", "state.safetensors", "--undo"]).contains("not the state before"));
    assert_eq!(state(), second);
}

/// Before and after swapped where the state knows one of the arrays, and a model's name that comes back.
#[test]
fn features_of_another_model_are_refused() {
    let bench = Bench::new();
    (0..3).for_each(|number| task(&bench, number));
    assert_eq!(run(&bench, 0, true).0, Some(0));
    let run = |line: &str| bench.fails(2, &line.split(' ').collect::<Vec<_>>());
    let task = "task state.safetensors --labels labels1.npy";
    let error = run(&format!("{task} --before before1.npy --after after0.npy"));
    assert!(
        error.contains("before and after may be swapped") && error.contains("state.safetensors"),
        "{error}"
    );
    let good = arguments(1, false);
    let good = |more: &[&str]| {
        let line: Vec<&str> = good.iter().map(String::as_str).chain(more.iter().copied()).collect();
        bench.json(&line)
    };
    assert_eq!(good(&["--model", "tuned"])["model"], "tuned");
    let error = run("task state.safetensors --labels labels2.npy --before before1.npy --after after2.npy");
    assert!(error.contains("earlier model"), "{error}");
    let error = run(
        "task state.safetensors --labels labels2.npy --before before2.npy --after after2.npy --auxiliary before1.npy after1.npy",
    );
    assert!(error.contains("swapped") || error.contains("earlier model"), "{error}");
    let line =
        "task state.safetensors --labels labels2.npy --before before2.npy --after after2.npy --model tuned";
    assert!(run(line).contains("\"tuned\""));
    assert_eq!(known(&bench), (2, vec![2 * ROWS as u64; 2]));
}

#[test]
fn a_method_added_later_goes_on_from_the_first_one() {
    let bench = Bench::new();
    (0..4).for_each(|number| task(&bench, number));
    let ok = |number, first, more: &[&str]| {
        let line: Vec<String> = arguments(number, first);
        bench.json(&line.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let names = |state: &serde_json::Value| -> Vec<String> {
        state["variants"].as_array().unwrap().iter().map(|v| v["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&ok(0, true, &["--method", "none"])), ["SeqFT"]);
    assert_eq!(names(&ok(1, false, &["--method", "linear"])), ["SeqFT", "SeqFT + linear"]);
    let third = ok(2, false, &["--method", "rff"]);
    assert_eq!(names(&third), ["SeqFT", "SeqFT + linear", "SeqFT + rff"]);
    let rff = &third["variants"][2];
    assert_eq!((rff["since"].as_u64(), rff["from"].as_str()), (Some(3), Some("SeqFT + linear")));
    assert!(third["variants"].as_array().unwrap().iter().all(|v| v["samples"] == 3 * ROWS as u64));
    // Later tasks keep it, and people are told.
    let fourth = ok(3, false, &[]);
    assert_eq!(fourth["variants"][2]["since"], 3);
    let shown = bench.ok(&["inspect", "state.safetensors"]);
    assert!(shown.contains("SeqFT + rff moves classes from task 3 on"), "{shown}");
    assert!(shown.contains("SeqFT is sequential fine-tuning alone"), "{shown}");
}
