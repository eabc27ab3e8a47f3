//! Everything that needs a real GPU, in one program: conformance, a check that bits repeat, and the tables.
//!
//! `cargo xtask device` builds it. It runs on a machine without Rust and without a registry, and writes
//! `device-wgpu.json` and `device-wgpu.md`. On a software adapter the shapes are tiny: that tries the program, and its
//! figures mean nothing.

mod copy;
#[path = "../../../backend/benches/device/mod.rs"]
mod shared;
mod tables;
mod targets;

use std::process::ExitCode;

use residua_backend::Backend;
use residua_backend::conformance::{Device, main as conformance};
use residua_backend_wgpu::{WgpuBackend, WgpuOptions};
use residua_memory::Budget;
use shared::arguments::Arguments;
use shared::data::Plan;
use shared::report::Report;
use shared::{Result, suite};

/// Name of the results.
const NAME: &str = "device-wgpu";

const HELP: &str = "\
Try and time Residua's wgpu backend on an adapter of this machine.

Usage: residua-device-wgpu [--device N] [--out FOLDER] [--no-conformance] [--quick]

  --device N        which adapter: a number or part of a name (default: the preferred one)
  --out FOLDER      the folder for device-wgpu.json and device-wgpu.md (default: .)
  --no-conformance  leave the conformance suite out
  --quick           one shape, two densities, few rounds";

fn main() -> ExitCode {
    if let Some(adapter) = suite::asked() {
        return run_suite(&adapter);
    }
    let outcome = shared::arguments::parse(HELP, None).and_then(|arguments| match arguments {
        None => Ok(true),
        Some(arguments) => run(&arguments),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options(adapter: Option<&str>) -> WgpuOptions {
    let options = WgpuOptions::default();
    adapter.map_or(options.clone(), |adapter| options.adapter(adapter))
}

fn run_suite(adapter: &str) -> ExitCode {
    let with = options(Some(adapter));
    let without = with.clone().without_subgroups();
    conformance(vec![
        Device::new(&format!("wgpu-{adapter}"), move |budget| WgpuBackend::open(&with, &budget))
            .same_bits("without-subgroups", move |budget| WgpuBackend::open(&without, &budget)),
    ])
}

/// Whether every checked result was right.
fn run(arguments: &Arguments) -> Result<bool> {
    let gpu = WgpuBackend::open(&options(arguments.device.as_deref()), &Budget::unlimited())?;
    let adapter = gpu.adapter().clone();
    let clock = match adapter.timestamps {
        true => "the device's timestamps around many dispatches",
        false => "the host's clock around submissions of many dispatches",
    };
    let device = format!("{} ({})", gpu.device(), adapter.kind);
    let mut report = Report::new(device, adapter.driver.clone(), clock);
    println!("{}", report.device);
    let software = adapter.is_software();
    if software {
        report.notes.push("the adapter is in software: figures mean nothing".into());
    }
    if arguments.conformance {
        let filter = (software && arguments.quick).then_some("odd-size");
        report.conformance = Some(suite::run(&adapter.index.to_string(), filter)?);
    }
    let plan = match (software, arguments.quick) {
        (true, _) => Plan::tiny([256, 512], vec![1, 8, 32]),
        (false, true) => Plan::quick(),
        (false, false) => Plan::full(),
    };
    report.repeats = Some(shared::repeat::same_bits(&gpu, &plan)?);
    report.copy_bandwidth = Some(copy::bandwidth(&gpu, plan.copy_bytes)?);
    tables::Tables { gpu: &gpu, plan: &plan, report: &mut report }.fill(&arguments.out)?;
    report.targets = targets::judge(&report, &plan);
    report.complete = true;
    report.save(&arguments.out, NAME)?;
    println!("\n{}", report.markdown());
    Ok(report.is_right())
}
