//! `residua devices`: what this machine can compute on.

use residua::Budget;
use serde::Serialize;

use crate::escape;
use crate::failure::Result;
use crate::output::{facts, print, print_json};

pub(crate) const EXAMPLE: &str = "\
Examples:
  residua devices
  residua devices --json

`residua bench --adapter` takes the number or a part of the name of a device.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print machine-readable JSON on stdout
    #[arg(long, help_heading = "Running")]
    json: bool,
}

/// Something to compute on.
#[derive(Debug, Serialize)]
pub(crate) struct Device {
    backend: &'static str,
    /// Its number among the devices of the backend.
    index: usize,
    name: String,
    /// What the driver says of it, and its limits.
    facts: Vec<(&'static str, String)>,
}

/// A backend that has no device here.
#[derive(Debug, Serialize)]
struct Absent {
    backend: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct Found {
    devices: Vec<Device>,
    absent: Vec<Absent>,
}

pub(crate) fn run(args: &Args) -> Result {
    let mut found = Found { devices: Vec::new(), absent: Vec::new() };
    for (backend, devices) in [("cuda", cuda()), ("wgpu", wgpu()), ("cpu", cpu())] {
        if devices.is_empty() {
            let opened = residua::Device::open(backend, &Budget::unlimited());
            let why = opened.err().map_or_else(|| "no device".into(), |error| error.to_string());
            found.absent.push(Absent { backend, why });
        }
        found.devices.extend(devices);
    }
    if args.json { print_json(&found) } else { print(text(&found)) }
}

fn cpu() -> Vec<Device> {
    let opened = residua::Device::open("cpu", &Budget::unlimited());
    let device = |name| Device { backend: "cpu", index: 0, name, facts: Vec::new() };
    opened.map(|cpu| vec![device(cpu.description())]).unwrap_or_default()
}

#[cfg(feature = "cuda")]
fn cuda() -> Vec<Device> {
    let devices = residua::cuda::CudaBackend::devices().into_iter().map(|device| device.name).enumerate();
    devices.map(|(index, name)| Device { backend: "cuda", index, name, facts: Vec::new() }).collect()
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Vec<Device> {
    Vec::new()
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Vec<Device> {
    use crate::output::bytes;
    let device = |adapter: residua::wgpu::AdapterInfo| {
        let subgroups = adapter.subgroups.map_or("none".into(), |(least, most)| match least == most {
            true => format!("of {least} threads"),
            false => format!("of {least} to {most} threads"),
        });
        let facts = vec![
            ("kind", adapter.kind.into()),
            ("interface", adapter.api.into()),
            ("driver", adapter.driver),
            ("largest binding", bytes(adapter.binding_limit)),
            ("largest buffer", bytes(adapter.buffer_limit)),
            ("workgroup", format!("{} threads", adapter.workgroup_threads)),
            ("workgroup memory", bytes(adapter.workgroup_memory.into())),
            ("subgroups", subgroups),
            ("timestamps", if adapter.timestamps { "yes" } else { "no" }.into()),
        ];
        Device { backend: "wgpu", index: adapter.index, name: adapter.name, facts }
    };
    residua::wgpu::adapters().into_iter().map(device).collect()
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Vec<Device> {
    Vec::new()
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    for device in &found.devices {
        text += &format!("{} {}: {}\n", device.backend, device.index, escape::line(&device.name));
        text += &facts(&device.facts).lines().map(|line| format!("  {line}\n")).collect::<String>();
    }
    for absent in &found.absent {
        text += &format!("{}: none; {}\n", absent.backend, escape::line(&absent.why));
    }
    text
}
