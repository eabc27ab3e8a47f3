//! The conformance suite on every path. Every number of threads gives the same bits.

use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cpu::{CpuBackend, CpuOptions};

fn main() -> std::process::ExitCode {
    let portable = CpuOptions::default().portable();
    let avx2 = CpuOptions::default().avx2();
    let avx512 = CpuOptions::default().avx512();
    conformance(vec![
        device("cpu-portable-1-thread", portable.threads(1), &[2, 3]),
        device("cpu-avx2-1-thread", avx2.clone().threads(1), &[2, 3]),
        device("cpu-avx512-1-thread", avx512.clone().threads(1), &[2, 3])
            .same_bits("avx2", move |budget| CpuBackend::open(&avx2, &budget)),
        device("cpu-avx512-2-threads", avx512.threads(2), &[]),
    ])
}

/// A device, and the numbers of threads that must give its bits.
fn device(name: &str, options: CpuOptions, twins: &[usize]) -> Device<CpuBackend> {
    let twin = |device: Device<CpuBackend>, &threads: &usize| {
        let options = options.clone().threads(threads);
        device.same_bits(&format!("{threads}-threads"), move |budget| CpuBackend::open(&options, &budget))
    };
    let opened = options.clone();
    let device = Device::new(name, move |budget| CpuBackend::open(&opened, &budget));
    twins.iter().fold(device, twin)
}
