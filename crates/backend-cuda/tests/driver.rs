//! The code that calls NVIDIA's driver, on a played driver: `emulator/driver.cpp`, a library with the name of the real one.
//!
//! Every case runs in a separate process, because a process loads one driver.
#![allow(clippy::unwrap_used)]

mod work;

use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use residua_backend::conformance::{Device, main as conformance};
use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_cuda::{CudaBackend, CudaOptions};
use residua_memory::Budget;
use work::{everything, matrix, numbers};

/// The played driver; empty if it was not built.
const DRIVER: &str = env!("RESIDUA_PLAYED_DRIVER");
/// Set in the process of a case.
const CASE: &str = "RESIDUA_TEST_DRIVER_CASE";

type Outcome = Result<(), Failed>;

/// A case: its name, the settings of the driver, and arguments for the process.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const CASES: [Case; 9] = [
    ("no GPU", &[("FAKE_CUDA_INIT", "100")], &[]),
    ("a broken driver", &[("FAKE_CUDA_INIT", "999")], &[]),
    ("an old driver", &[("FAKE_CUDA_VERSION", "11080")], &[]),
    ("numbers and names", &[("FAKE_CUDA_DEVICES", "2")], &[]),
    ("PTX that is refused", &[("FAKE_CUDA_REFUSE", "1")], &[]),
    ("a matrix that does not fit", &[("FAKE_CUDA_MEMORY", "1000000")], &[]),
    ("every call that can fail", &[], &[]),
    ("conformance, odd sizes", &[], &["odd-size"]),
    ("conformance, refusals", &[], &["refusal"]),
];

fn main() -> ExitCode {
    match std::env::var(CASE) {
        Ok(case) if case.starts_with("conformance") => suite(),
        Ok(case) => match run(&case) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                eprintln!("{}", failed.message().unwrap_or("failed"));
                ExitCode::FAILURE
            }
        },
        Err(_) => {
            let trial = |case: Case| match DRIVER {
                "" => Trial::test(case.0, || Ok(()))
                    .with_kind("skipped, no played driver")
                    .with_ignored_flag(true),
                _ => Trial::test(case.0, move || process(case)),
            };
            libtest_mimic::run(&Arguments::from_args(), CASES.map(trial).into()).exit_code()
        }
    }
}

/// Runs a case in a process whose loader finds the played driver first.
fn process((name, environment, arguments): Case) -> Outcome {
    let folder = Path::new(DRIVER).parent().unwrap_or(Path::new("."));
    let output = Command::new(std::env::current_exe()?)
        .args(arguments)
        .env("LD_LIBRARY_PATH", folder)
        .env(CASE, name)
        .envs(environment.iter().copied())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}

fn suite() -> ExitCode {
    let open = |budget| CudaBackend::open(&CudaOptions::default(), &budget);
    conformance(vec![Device::new("cuda-played", open)])
}

/// GPU 0 with an unlimited budget.
fn open() -> Result<CudaBackend, BackendError> {
    CudaBackend::open(&CudaOptions::default(), &Budget::unlimited())
}

fn open_device(device: &str) -> Result<CudaBackend, BackendError> {
    CudaBackend::open(&CudaOptions::default().device(device), &Budget::unlimited())
}

fn run(case: &str) -> Outcome {
    match case {
        "no GPU" => unavailable(&["an NVIDIA GPU is missing"]),
        "a broken driver" => unavailable(&["cuInit: CUDA_ERROR_UNKNOWN (999)"]),
        "an old driver" => unavailable(&["CUDA 12.0 or newer", "CUDA 11.8", "525"]),
        "numbers and names" => numbers_and_names(),
        "PTX that is refused" => refused_ptx(),
        "a matrix that does not fit" => too_large(),
        "every call that can fail" => every_failure(),
        other => Err(format!("{other} is no case").into()),
    }
}

/// Fails unless an error is of a kind, and its text is one line with all of `words`.
fn is(error: &BackendError, kind: fn(&BackendError) -> bool, words: &[&str]) -> Outcome {
    let text = error.to_string();
    if kind(error) && words.iter().all(|word| text.contains(word)) && !text.contains('\n') {
        return Ok(());
    }
    Err(format!("{error:?}: {text:?} lacks some of {words:?}, or is of another kind").into())
}

fn unavailable(words: &[&str]) -> Outcome {
    let kind = |error: &BackendError| matches!(error, BackendError::Unavailable { .. });
    is(&open().unwrap_err(), kind, words)?;
    is(&open_device("gpu 1").unwrap_err(), kind, words)?;
    assert!(CudaBackend::devices().is_empty());
    Ok(())
}

fn numbers_and_names() -> Outcome {
    let kind = |error: &BackendError| matches!(error, BackendError::NoSuchDevice { .. });
    for wrong in ["2", "radeon"] {
        let quoted = format!("{wrong:?}");
        is(&open_device(wrong).unwrap_err(), kind, &[&quoted, "0 Played GPU 0, 1 Played GPU 1"])?;
    }
    let first = open()?.device();
    assert!(first.contains("0 Played GPU 0, sm_90, driver for CUDA 12.4"), "{first}");
    for second in ["1", "gpu 1"] {
        let found = open_device(second)?.device();
        assert!(found.contains("1 Played GPU 1, sm_90, driver for CUDA 12.4"), "{second}: {found}");
    }
    let devices: Vec<String> = CudaBackend::devices().iter().map(ToString::to_string).collect();
    assert_eq!(devices, ["cuda:0: Played GPU 0", "cuda:1: Played GPU 1"]);
    Ok(())
}

fn refused_ptx() -> Outcome {
    let cuda = open()?;
    let before = cuda.memory()?;
    let error = everything(&cuda).unwrap_err();
    // If NVRTC is installed, it compiles the kernels, and the driver also refuses its PTX.
    let kind = |error: &BackendError| {
        matches!(error, BackendError::Unavailable { .. } | BackendError::Device { .. })
    };
    is(&error, kind, &["CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)", "fatal; : Unsupported .version 8.0"])?;
    assert_eq!(cuda.memory()?, before);
    Ok(())
}

fn too_large() -> Outcome {
    let cuda = open()?;
    let before = cuda.memory()?;
    assert_eq!(before, (1_000_000, 1_000_000));
    let large = matrix(2000, 400, 2);
    let kind = |error: &BackendError| matches!(error, BackendError::OutOfMemory { .. });
    for error in [
        cuda.upload_csr(&large).unwrap_err(),
        cuda.upload_csr_unchanged(&large).unwrap_err(),
        cuda.upload_coo(&residua_format::convert::csr_to_coo(&large)?).unwrap_err(),
        cuda.zeros(VectorShape { len: 300_000, batch: 1 }).unwrap_err(),
    ] {
        is(&error, kind, &["do not fit the device's memory", "are free"])?;
        assert_eq!(cuda.memory()?, before, "memory after {error}");
    }
    everything(&cuda)?;
    assert_eq!(cuda.memory()?, before);
    Ok(())
}

/// Lets one call after the other fail. The result must be an error, memory must be as before, and a new backend must work.
/// The played driver ends the process if something is left behind.
fn every_failure() -> Outcome {
    let expected = everything(&open()?)?;
    let (mut errors, mut silent) = (0, 0);
    let mut call = 0;
    // Failures while something is freed are not reported. After many silent ones all calls have been tried.
    while silent < 80 {
        fail(Some(call));
        let result = attempt();
        fail(None);
        match result {
            Ok(results) => {
                assert_eq!(results, expected, "after failure {call}");
                silent += 1;
            }
            Err(error) => {
                let typed = matches!(error, BackendError::OutOfMemory { .. } | BackendError::Device { .. });
                assert!(typed && error.to_string().contains("cu"), "{error:?}");
                (errors, silent) = (errors + 1, 0);
            }
        }
        call += 1;
    }
    assert!(errors > 100, "{errors} calls that fail");
    assert_eq!(attempt()?, expected);
    Ok(())
}

fn attempt() -> Result<Vec<f32>, BackendError> {
    let cuda = open()?;
    let (free, _) = cuda.memory()?;
    let own = cuda.upload_vector(&numbers(1, 700_000), VectorShape { len: 700_000, batch: 1 })?;
    assert_eq!(cuda.download(&own)?, numbers(1, 700_000));
    drop(own);
    let result = everything(&cuda.stream()?);
    assert_eq!(cuda.memory()?.0, free, "memory after {:?}", result.as_ref().err());
    result
}

/// Tells the played driver which call must fail.
fn fail(call: Option<usize>) {
    const NAME: &str = "FAKE_CUDA_FAIL";
    // SAFETY: no other thread of this process uses the environment: the threads that lay out matrices are idle.
    unsafe {
        match call {
            Some(call) => std::env::set_var(NAME, call.to_string()),
            None => std::env::remove_var(NAME),
        }
    }
}
