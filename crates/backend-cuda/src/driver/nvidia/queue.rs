//! A queue of work on a GPU, as the driver has it.

use std::sync::Arc;

use cudarc::driver::result;
use cudarc::driver::sys::CUstream;
use residua_backend::BackendError;

use super::device::Device;
use super::status::{self, Named};
use crate::abi::THREADS;
use crate::launch::Launch;

/// A CUDA stream. It starts kernels and waits; [`Stream`](super::stream::Stream) also copies.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) device: Arc<Device>,
    pub(super) handle: CUstream,
}

// SAFETY: the driver synchronises its own handles; a stream may be used from any thread.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    pub(super) fn new(device: Arc<Device>) -> Result<Self, BackendError> {
        device.enter()?;
        let handle =
            result::stream::create(result::stream::StreamKind::NonBlocking).named("cuStreamCreate")?;
        Ok(Self { device, handle })
    }

    /// Waits until all work is done. The device must be entered.
    pub(super) fn wait(&self) -> Result<(), BackendError> {
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.handle) }.named("cuStreamSynchronize")
    }

    /// Starts a kernel. The device must be entered.
    pub(super) fn start(&self, launch: &Launch) -> Result<(), BackendError> {
        let function = self.device.function(launch.module, launch.kernel)?;
        let (grid, block) = ((launch.blocks, 1, 1), (THREADS as u32, 1, 1));
        let mut arguments = launch.pointers();
        // SAFETY: the arguments have the order and sizes of the kernel's parameters: the emulator runs the same launches
        // and checks them. The launch or its caller keeps the memory that they point to.
        unsafe { result::launch_kernel(function, grid, block, 0, self.handle, &mut arguments) }
            .map_err(|error| status::error(&format!("cuLaunchKernel {}", launch.kernel), error))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = self.wait();
            // SAFETY: created in `new`, destroyed once.
            let _ = unsafe { result::stream::destroy(self.handle) };
        }
    }
}
