//! The conformance suite on the emulator, with threads in both orders and the same bits, and on a GPU if there is one.

use residua_backend::conformance::{Device, main as conformance};
use residua_backend_cuda::{CudaBackend, CudaOptions, Emulator};

fn main() -> std::process::ExitCode {
    conformance(vec![
        Device::new("cuda-emulated", |budget| Ok(Emulator::new().backend(&budget)))
            .same_bits("reversed", |budget| Ok(Emulator::reversed().backend(&budget))),
        Device::new("cuda-0", |budget| CudaBackend::open(&CudaOptions::default(), &budget)),
    ])
}
