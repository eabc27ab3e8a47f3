//! The conformance suite on every adapter of this machine: opened by default, and with the layout and the shaders
//! that other devices need.

use std::process::ExitCode;

use residua_backend::BackendError;
use residua_backend::conformance::{Device, main as conformance};
use residua_backend_wgpu::{WgpuBackend, WgpuOptions, adapters};
use residua_memory::Budget;

/// Lanes that keep a GPU busy.
const GPU_LANES: usize = 1 << 16;

fn main() -> ExitCode {
    let adapters = adapters();
    if adapters.is_empty() {
        if std::env::var("CI").is_ok_and(|ci| ci == "true" || ci == "1") {
            let error = open(WgpuOptions::default())(Budget::unlimited()).err();
            eprintln!("no adapter, and CI must not pass without one: {error:?}");
            return ExitCode::FAILURE;
        }
        return conformance(vec![Device::new("wgpu", open(WgpuOptions::default()))]);
    }
    let mut devices = Vec::new();
    for adapter in adapters {
        let word = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let name: String = adapter.name.split(" (").next().unwrap_or_default().chars().map(word).collect();
        let name = format!("wgpu-{}-{name}", adapter.index);
        let own = WgpuOptions::default().adapter(adapter.index.to_string());
        let gpu = own.clone().lanes(GPU_LANES);
        let mut device = Device::new(&name, open(own.clone()));
        if adapter.subgroups.is_some() {
            device = device.same_bits("without-subgroups", open(own.without_subgroups()));
        }
        devices.push(device);
        // The layout and the shaders for a GPU without subgroups, on any adapter.
        devices.push(
            Device::new(
                &format!("{name}-gpu-layout-without-subgroups"),
                open(gpu.clone().without_subgroups()),
            )
            .same_bits("subgroups", open(gpu)),
        );
    }
    conformance(devices)
}

/// Opens the backend as often as the suite needs it.
fn open(
    options: WgpuOptions,
) -> impl Fn(Budget) -> Result<WgpuBackend, BackendError> + Send + Sync + 'static {
    move |budget| WgpuBackend::open(&options, &budget)
}
