//! The conformance suite on the emulator, threads in either order with the same bits, and on a GPU where there is one.

use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cuda::{CudaBackend, Emulator};

fn main() -> std::process::ExitCode {
    conformance(vec![
        Device::new("cuda-emulated", |budget| Ok(Emulator::new().backend().with_budget(budget)))
            .same_bits("reversed", |budget| Ok(Emulator::reversed().backend().with_budget(budget))),
        Device::new("cuda-0", |budget| Ok(CudaBackend::new(0)?.with_budget(budget))),
    ])
}
