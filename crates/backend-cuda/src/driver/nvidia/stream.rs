//! A stream of a GPU.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{CUresult, CUstream};
use residua_backend::BackendError;

use super::device::Device;
use super::graph::Graph;
use super::staging::Staging;
use super::status::{self, Named};
use crate::driver::{Address, Driver, NAME, Recorded};
use crate::launch::{Launch, THREADS};

/// A queue of work on a GPU.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: Arc<Device>,
    pub(super) handle: CUstream,
    /// Made when it is first needed: streams that only capture a graph need none.
    staging: Mutex<Option<Staging>>,
}

// SAFETY: the handle is a name for what the driver guards itself; a stream may be used from any thread.
unsafe impl Send for Stream {}
// SAFETY: as above; the staging memory is behind a mutex.
unsafe impl Sync for Stream {}

impl Stream {
    pub(super) fn new(device: Arc<Device>) -> Result<Self, BackendError> {
        device.enter()?;
        let handle =
            result::stream::create(result::stream::StreamKind::NonBlocking).named("cuStreamCreate")?;
        Ok(Self { device, handle, staging: Mutex::default() })
    }

    pub(super) fn wait(&self) -> Result<(), BackendError> {
        // SAFETY: the stream lives.
        unsafe { result::stream::synchronize(self.handle) }.named("cuStreamSynchronize")
    }

    /// Starts a kernel. The device must be entered.
    pub(super) fn start(&self, launch: &Launch) -> Result<(), BackendError> {
        let function = self.device.function(launch.module, launch.kernel)?;
        let (grid, block) = ((launch.blocks, 1, 1), (THREADS as u32, 1, 1));
        let mut arguments = launch.pointers();
        // SAFETY: the arguments are those of the kernel, in its order and with its sizes: the emulator runs the same
        // launches and checks them. What they point to is held by the launch or its caller.
        unsafe { result::launch_kernel(function, grid, block, 0, self.handle, &mut arguments) }
            .map_err(|error| status::error(&format!("cuLaunchKernel {}", launch.kernel), error))
    }
}

impl Driver for Stream {
    fn device(&self) -> String {
        self.device.description().into()
    }

    fn identity(&self) -> usize {
        Arc::as_ptr(&self.device).addr()
    }

    fn allocate(&self, bytes: usize, what: &'static str) -> Result<Address, BackendError> {
        self.device.enter()?;
        // SAFETY: content is unknown until something is written.
        match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Ok(address),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let free = self.device.memory().ok().map(|(free, _)| free);
                Err(BackendError::OutOfMemory { backend: NAME, what: what.into(), asked: bytes as u64, free })
            }
            Err(error) => Err(status::error(&format!("cuMemAlloc of {bytes} bytes"), error)),
        }
    }

    fn free(&self, address: Address) {
        if self.device.enter().is_ok() {
            let _ = self.wait();
            // SAFETY: an allocation of this device, freed once, and what this stream did with it is done; the call waits
            // for other streams.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn memory(&self) -> Result<(u64, u64), BackendError> {
        self.device.memory()
    }

    fn clear(&self, address: Address, bytes: usize) -> Result<(), BackendError> {
        self.device.enter()?;
        // SAFETY: the caller's allocation has that many bytes.
        unsafe { result::memset_d8_async(address, 0, bytes, self.handle) }.named("cuMemsetD8Async")
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), BackendError> {
        self.device.enter()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let from = match Staging::first(&mut staging, bytes.len()) {
            Some(pinned) => {
                pinned.copy_from_slice(bytes);
                &*pinned
            }
            None => bytes,
        };
        // SAFETY: the caller's allocation has that many bytes, and both ends stay until the copy is waited for.
        let copied = unsafe { result::memcpy_htod_async(to, from, self.handle) }.named("cuMemcpyHtoDAsync");
        copied.and(self.wait())
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), BackendError> {
        self.device.enter()?;
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        let pinned = Staging::first(&mut staging, bytes.len());
        let (to, rest) = match pinned {
            Some(pinned) => (pinned, Some(bytes)),
            None => (bytes, None),
        };
        // SAFETY: as in `upload`.
        let copied = unsafe { result::memcpy_dtoh_async(to, from, self.handle) }.named("cuMemcpyDtoHAsync");
        copied.and(self.wait())?;
        if let Some(bytes) = rest {
            bytes.copy_from_slice(to);
        }
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        self.device.enter()?;
        self.start(launch)
    }

    fn record(self: Arc<Self>, launches: Vec<Launch>) -> Result<Box<dyn Recorded>, BackendError> {
        Ok(Box::new(Graph::new(self, launches)?))
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        self.device.enter()?;
        self.wait()
    }

    fn stream(&self) -> Result<Arc<dyn Driver>, BackendError> {
        Ok(Arc::new(Self::new(self.device.clone())?))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.device.enter().is_ok() {
            let _ = self.wait();
            // Its memory must go while the device is entered.
            *self.staging.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
            // SAFETY: created in `new`, destroyed once.
            let _ = unsafe { result::stream::destroy(self.handle) };
        }
    }
}
