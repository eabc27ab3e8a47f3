//! The conformance suite on both paths; the bits of any number of threads are those of one.

use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cpu::CpuBackend;

fn main() -> std::process::ExitCode {
    conformance(vec![
        Device::new("cpu-portable-1-thread", |budget| Ok(CpuBackend::portable(1)?.with_budget(budget)))
            .same_bits("2-threads", |budget| Ok(CpuBackend::portable(2)?.with_budget(budget)))
            .same_bits("3-threads", |budget| Ok(CpuBackend::portable(3)?.with_budget(budget))),
        Device::new("cpu-portable-2-threads", |budget| Ok(CpuBackend::portable(2)?.with_budget(budget))),
        Device::new("cpu-avx2-1-thread", |budget| Ok(CpuBackend::avx2(1)?.with_budget(budget)))
            .same_bits("2-threads", |budget| Ok(CpuBackend::avx2(2)?.with_budget(budget)))
            .same_bits("3-threads", |budget| Ok(CpuBackend::avx2(3)?.with_budget(budget))),
        Device::new("cpu-avx2-2-threads", |budget| Ok(CpuBackend::avx2(2)?.with_budget(budget))),
        Device::new("cpu-avx2-3-threads", |budget| Ok(CpuBackend::avx2(3)?.with_budget(budget))),
    ])
}
