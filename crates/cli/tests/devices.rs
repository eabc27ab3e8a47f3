//! `residua devices`, and products on a device.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Bench, text};
use serde_json::Value;

/// A backend in `residua devices --json`: its devices, or why there are none.
fn listed(backend: &str) -> Result<Vec<Value>, String> {
    let all: Value = serde_json::from_str(&Bench::new().ok(&["devices", "--json"])).unwrap();
    let of = |list: &str| -> Vec<Value> {
        let all = all[list].as_array().unwrap().iter();
        all.filter(|one| one["backend"] == backend).cloned().collect()
    };
    match &of("absent")[..] {
        [] => Ok(of("devices")),
        [absent] => Err(absent["why"].as_str().unwrap().into()),
        more => panic!("{more:?}"),
    }
}

#[test]
fn the_processor_is_always_there() {
    let devices = listed("cpu").unwrap();
    assert_eq!(devices.len(), 1);
    assert!(devices[0]["name"].as_str().unwrap().starts_with("cpu "), "{devices:?}");
    assert!(Bench::new().ok(&["devices"]).contains("cpu 0: cpu "));
}

#[test]
fn a_backend_that_is_not_there_says_how_to_get_it() {
    for backend in ["cuda", "wgpu"] {
        if let Err(why) = listed(backend) {
            assert!(why.contains(&format!("--features {backend}")) || why.contains("install"), "{why}");
        }
    }
    // The build alone decides between both.
    let built_in = cfg!(feature = "wgpu");
    assert_eq!(listed("wgpu").is_err_and(|why| why.contains("--features wgpu")), !built_in);
}

#[test]
fn products_on_wgpu_are_timed_or_refused_with_a_reason() {
    products_are_timed_or_refused_with_a_reason("wgpu");
}

#[test]
fn products_on_cuda_are_timed_or_refused_with_a_reason() {
    products_are_timed_or_refused_with_a_reason("cuda");
}

/// If there is a device, it computes; if there is none, the command states what to do.
fn products_are_timed_or_refused_with_a_reason(backend: &str) {
    let arguments =
        ["bench", "--backend", backend, "--shape", "64x100", "--matrices", "2", "--batch", "1,3", "--json"];
    let output = Bench::new().run(&arguments);
    match listed(backend) {
        Err(why) => {
            assert_eq!(output.status.code(), Some(6));
            assert!(text(&output.stderr).contains(&why), "{}", text(&output.stderr));
        }
        Ok(devices) => {
            assert!(output.status.success(), "{}", text(&output.stderr));
            let done: Value = serde_json::from_slice(&output.stdout).unwrap();
            let timings = done["timings"].as_array().unwrap();
            assert_eq!(timings.len(), 2);
            assert!(done["upload_seconds"].as_f64().unwrap() > 0.0);
            let name = devices[0]["name"].as_str().unwrap();
            for timing in timings {
                assert!(timing["median_seconds"].as_f64().unwrap() > 0.0);
                assert!(timing["device"].as_str().unwrap().contains(name), "{timing}");
                assert!(["device", "host"].contains(&timing["clock"].as_str().unwrap()));
            }
        }
    }
}

#[test]
fn an_adapter_that_is_not_there_is_refused() {
    let output = Bench::new().run(&["bench", "--shape", "8x8", "--adapter", "voodoo"]);
    assert_eq!(output.status.code(), Some(2));
    let output = Bench::new().run(&["bench", "--shape", "8x8", "--backend", "wgpu", "--adapter", "voodoo"]);
    assert_eq!(output.status.code(), Some(6));
    if listed("wgpu").is_ok() {
        assert!(text(&output.stderr).contains("\"voodoo\""), "{}", text(&output.stderr));
    }
}
