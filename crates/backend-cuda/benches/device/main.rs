//! All work that needs an NVIDIA GPU, in one program: conformance, a repeat-for-bits check, and the tables.
//!
//! `cargo xtask device` builds it. It runs on a machine without Rust and without a registry, and writes `device-cuda.json`
//! and `device-cuda.md`. Peers (cuSPARSE, cuBLAS) take part if their libraries are installed. With `--emulate` the kernels
//! run on the processor and the shapes are tiny: this tests the program, and its figures mean nothing.

mod libraries;
mod peers;
mod sanitizer;
#[path = "../../../backend/benches/device/mod.rs"]
mod shared;
mod tables;
mod targets;

use std::process::ExitCode;

use residua_backend::Backend;
use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cuda::{CudaBackend, CudaOptions, Emulator};
use residua_memory::Budget;
use shared::arguments::Arguments;
use shared::data::Plan;
use shared::report::Report;
use shared::{Result, suite};

/// Name of the results.
const NAME: &str = "device-cuda";

const HELP: &str = "\
Try and time Residua's CUDA backend on this machine's GPU.

Usage: residua-device-cuda [--device N] [--out FOLDER] [--no-conformance] [--quick] [--emulate]

  --device N        which GPU, by number or part of its name (0)
  --out FOLDER      where device-cuda.json and device-cuda.md go (.)
  --no-conformance  leave the conformance suite out
  --quick           one shape, two densities, few rounds
  --emulate         no GPU: tiny shapes on the processor, to try this program";

/// The name of the emulator among the devices of the suite.
const EMULATOR: &str = "emulate";

fn main() -> ExitCode {
    if let Some(device) = suite::asked() {
        return run_suite(device);
    }
    let outcome = shared::arguments::parse(HELP, Some("--emulate")).and_then(|arguments| match arguments {
        None => Ok(true),
        Some(arguments) => run(&arguments),
    });
    libraries::forget();
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_suite(device: String) -> ExitCode {
    if device == EMULATOR {
        return conformance(vec![Device::new(
            "cuda-emulated",
            |budget| Ok(Emulator::new().backend(&budget)),
        )]);
    }
    let options = CudaOptions::default().device(&device);
    let again = options.clone();
    conformance(vec![
        Device::new(&format!("cuda-{device}"), move |budget| CudaBackend::open(&options, &budget))
            .same_bits("another-stream", move |budget| CudaBackend::open(&again, &budget)?.stream()),
    ])
}

/// Runs everything. Returns whether all results that can be checked are right.
fn run(arguments: &Arguments) -> Result<bool> {
    let emulate = arguments.own;
    if !emulate {
        libraries::find()?;
    }
    let index = if emulate { 0 } else { index(arguments.device.as_deref().unwrap_or("0"))? };
    let budget = Budget::unlimited();
    let cuda = match emulate {
        true => Emulator::new().backend(&budget),
        false => CudaBackend::open(&CudaOptions::default().device(index.to_string()), &budget)?,
    };
    let driver = if emulate { "none".into() } else { driver_version() };
    let mut report = Report::new(cuda.device(), driver, "the host's clock around many launches and one wait");
    println!("{}", report.device);
    if emulate {
        report.notes.push("kernels ran on the processor: figures mean nothing".into());
    }
    if arguments.conformance {
        let (device, filter) =
            if emulate { (EMULATOR.into(), Some("odd-size")) } else { (index.to_string(), None) };
        report.conformance = Some(suite::run(&device, filter)?);
    }
    let plan = match (emulate, arguments.quick) {
        (true, _) => Plan::tiny([64, 96], vec![1, 8]),
        (false, true) => Plan::quick(),
        (false, false) => Plan::full(),
    };
    report.repeats = Some(shared::repeat::same_bits(&cuda, &plan)?);
    report.save(&arguments.out, NAME)?;
    let peers = if emulate { None } else { Some(peers::Peers::open(index)?) };
    if let Some(peers) = &peers {
        report.copy_bandwidth = Some(peers.copy_bandwidth(plan.copy_bytes)?);
        report.notes.extend(peers.absent());
    }
    tables::Tables { cuda: &cuda, peers: peers.as_ref(), plan: &plan, report: &mut report }
        .fill(&arguments.out)?;
    let clean = if emulate || !arguments.conformance {
        None
    } else {
        sanitizer::run(&index.to_string(), &mut report)?
    };
    report.targets = targets::judge(&report, &plan);
    report.complete = true;
    report.save(&arguments.out, NAME)?;
    println!("\n{}", report.markdown());
    Ok(report.is_right() && clean != Some(false))
}

/// The number of a GPU, from a number or part of a name.
fn index(device: &str) -> Result<usize> {
    if let Ok(index) = device.parse() {
        return Ok(index);
    }
    let names: Vec<String> = CudaBackend::devices().into_iter().map(|device| device.name).collect();
    let wanted = device.to_lowercase();
    let position = names.iter().position(|name| name.to_lowercase().contains(&wanted));
    position.ok_or_else(|| format!("no GPU is called {device:?}; there are: {}", names.join(", ")).into())
}

/// The version of the driver, if the kernel module tells. The name of the backend holds the CUDA version.
fn driver_version() -> String {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    text.lines().next().map_or("unknown version".into(), |line| line.trim().to_owned())
}
