//! Everything that needs a GPU, in one program: conformance, a repeat-for-bits check, and the tables.
//!
//! `cargo xtask device` builds it; it then runs on a machine with neither Rust nor a registry, and writes `device.json` and
//! `device.md`. Peers (cuSPARSE, cuBLAS) take part where their libraries are installed. With `--emulate` the kernels run on
//! the processor and the shapes are tiny: that tries the program, and its figures mean nothing.

mod data;
mod peers;
mod repeat;
mod report;
mod tables;
mod timing;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use residua_backend::Backend;
use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cuda::{CudaBackend, Emulator};

/// Any failure.
type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Set for the child process that is the conformance suite: its arguments are those of a test program.
const CONFORMANCE: &str = "RESIDUA_DEVICE_CONFORMANCE";

const HELP: &str = "\
Try and time Residua's CUDA backend on this machine's GPU.

Usage: residua-device [--device N] [--out FOLDER] [--no-conformance] [--quick] [--emulate]

  --device N        which GPU (0)
  --out FOLDER      where device.json and device.md go (.)
  --no-conformance  leave the conformance suite out
  --quick           one shape, two densities, few rounds
  --emulate         no GPU: tiny shapes on the processor, to try this program";

struct Arguments {
    device: usize,
    out: PathBuf,
    conformance: bool,
    quick: bool,
    emulate: bool,
}

fn main() -> ExitCode {
    if let Ok(device) = std::env::var(CONFORMANCE) {
        return suite(device);
    }
    let arguments = match arguments() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Option<Arguments>> {
    let mut arguments =
        Arguments { device: 0, out: ".".into(), conformance: true, quick: false, emulate: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} takes a value"));
        match argument.as_str() {
            "--device" => arguments.device = value()?.parse()?,
            "--out" => arguments.out = value()?.into(),
            "--no-conformance" => arguments.conformance = false,
            "--quick" => arguments.quick = true,
            "--emulate" => arguments.emulate = true,
            // What `cargo bench` adds.
            "--bench" => {}
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            other => return Err(format!("{other}: no such option").into()),
        }
    }
    Ok(Some(arguments))
}

fn suite(device: String) -> ExitCode {
    if device == "emulate" {
        return conformance(vec![Device::new("cuda-emulated", |budget| {
            Ok(Emulator::new().backend().with_budget(budget))
        })]);
    }
    let index = device.parse().unwrap_or(0);
    conformance(vec![
        Device::new(&format!("cuda-{index}"), move |budget| Ok(CudaBackend::new(index)?.with_budget(budget)))
            .same_bits("another-stream", move |budget| {
                Ok(CudaBackend::new(index)?.stream()?.with_budget(budget))
            }),
    ])
}

/// Whether everything that has a right answer had it.
fn run(arguments: &Arguments) -> Result<bool> {
    let cuda =
        if arguments.emulate { Emulator::new().backend() } else { CudaBackend::new(arguments.device)? };
    let mut report = report::Report::new(&cuda.device());
    println!("{}", report.device);
    if arguments.conformance {
        let device = if arguments.emulate { "emulate".into() } else { arguments.device.to_string() };
        let mut child = Command::new(std::env::current_exe()?);
        child.env(CONFORMANCE, device).args(["--format", "terse"]);
        if arguments.emulate {
            child.arg("odd-size");
        }
        report.conformance = Some(child.status()?.success());
    }
    let plan = data::plan(arguments.quick, arguments.emulate);
    report.repeats = Some(repeat::same_bits(&cuda, &plan)?);
    if !arguments.emulate {
        // Peers share the device's primary context.
        let peers = peers::Peers::open(arguments.device)?;
        report.copy_bandwidth = Some(peers.copy_bandwidth()?);
        report.absent = peers.absent();
        tables::fill(&cuda, Some(&peers), &plan, &mut report)?;
    } else {
        tables::fill(&cuda, None, &plan, &mut report)?;
    }
    std::fs::create_dir_all(&arguments.out)?;
    std::fs::write(arguments.out.join("device.json"), serde_json::to_string_pretty(&report)?)?;
    std::fs::write(arguments.out.join("device.md"), report.markdown())?;
    println!("\n{}", report.markdown());
    Ok(report.conformance != Some(false) && report.repeats == Some(true))
}
