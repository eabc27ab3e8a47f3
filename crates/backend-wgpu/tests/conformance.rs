//! The conformance suite on every adapter of this machine, as it is opened by default and in the other ways that
//! other devices are.

use std::process::ExitCode;

use residua_backend::BackendError;
use residua_backend::conformance::{Device, main as conformance};
use residua_backend_wgpu::{Options, WgpuBackend, adapters};
use residua_memory::Budget;

/// Lanes that a GPU has to fill.
const GPU_LANES: usize = 1 << 16;

fn main() -> ExitCode {
    let adapters = adapters();
    if adapters.is_empty() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1") {
            eprintln!("no adapter, and CI must not pass without one: {:?}", open(None, |_| {}).err());
            return ExitCode::FAILURE;
        }
        return conformance(vec![Device::new("wgpu", |budget| with(None, |_| {}, budget))]);
    }
    let mut devices = Vec::new();
    for adapter in adapters {
        let index = adapter.index;
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = adapter.name.split(" (").next().unwrap_or_default().chars().map(word).collect();
        let device = |how: &str, change: fn(&mut Options)| {
            Device::new(&format!("wgpu-{index}-{name}{how}"), move |budget| with(Some(index), change, budget))
        };
        let without: fn(&mut Options) = |options| options.without_subgroups = true;
        let mut own = device("", |_| {});
        if adapter.subgroups.is_some() {
            own = own.same_bits("without-subgroups", move |budget| with(Some(index), without, budget));
        }
        devices.push(own);
        // What a GPU without subgroups would run, whatever this adapter is.
        devices.push(
            device("-gpu-layout-without-subgroups", |options| {
                options.lanes = Some(GPU_LANES);
                options.without_subgroups = true;
            })
            .same_bits("subgroups", move |budget| {
                with(Some(index), |options| options.lanes = Some(GPU_LANES), budget)
            }),
        );
    }
    conformance(devices)
}

fn open(adapter: Option<usize>, change: impl Fn(&mut Options)) -> Result<WgpuBackend, BackendError> {
    let mut options = Options::default();
    options.adapter = adapter.map(|index| index.to_string());
    change(&mut options);
    WgpuBackend::new(&options)
}

fn with(
    adapter: Option<usize>,
    change: impl Fn(&mut Options),
    budget: Budget,
) -> Result<WgpuBackend, BackendError> {
    Ok(open(adapter, change)?.with_budget(budget))
}
