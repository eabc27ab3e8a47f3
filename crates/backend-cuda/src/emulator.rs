//! A device for tests.

use std::sync::Arc;

use residua_memory::Budget;

use crate::CudaBackend;
use crate::driver::emulated::Emulated;

/// A device that this machine's processor emulates. It needs neither a GPU nor a driver.
///
/// It runs the sources of the kernels, compiled by a C++ compiler. Layouts, launches and arguments are those of a GPU;
/// only the driver differs.
#[derive(Debug, Clone)]
pub struct Emulator(Arc<Emulated>);

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// Bytes of a device's memory.
    const MEMORY: u64 = 4 << 30;

    /// A device with 4 GiB of memory. Its threads and blocks run in the order of their numbers.
    pub fn new() -> Self {
        Self::with_memory(Self::MEMORY)
    }

    /// A device whose threads and blocks run in reverse order. If a kernel lacks a barrier, the results differ.
    pub fn reversed() -> Self {
        Self(Arc::new(Emulated::new(true, Self::MEMORY)))
    }

    /// A device with a number of bytes of memory.
    pub fn with_memory(bytes: u64) -> Self {
        Self(Arc::new(Emulated::new(false, bytes)))
    }

    /// A backend on this device. Uploads and scratch memory are taken from `budget`.
    pub fn backend(&self, budget: &Budget) -> CudaBackend {
        CudaBackend::on(self.0.clone(), budget)
    }

    /// Number of bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.0.used()
    }

    /// Lets one of the next allocations and launches fail: the next one for a `count` of 0.
    pub fn fail_after(&self, count: usize) {
        self.0.fail_after(count);
    }

    /// Cancels [`fail_after`](Self::fail_after). Returns whether the failure has not happened yet.
    pub fn stop_failing(&self) -> bool {
        self.0.stop_failing()
    }
}
