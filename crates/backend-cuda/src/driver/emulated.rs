//! The kernels on this machine's processor, for tests: the sources of `kernels/cuda`, compiled by a C++ compiler.
//!
//! Everything but the driver is what a GPU gets: layout, launches, arguments.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use residua_backend::BackendError;

use super::{Address, Driver, NAME, Recorded, failed};
use crate::CudaBackend;
use crate::launch::{Launch, THREADS};

unsafe extern "C" {
    fn residua_machine_new() -> *mut c_void;
    fn residua_machine_free(machine: *mut c_void);
    fn residua_machine_launch(
        machine: *mut c_void,
        module: *const c_char,
        kernel: *const c_char,
        blocks: c_uint,
        threads: c_uint,
        arguments: *mut *mut c_void,
        sizes: *const usize,
        count: usize,
        reverse: c_int,
        message: *mut c_char,
        length: usize,
    ) -> c_int;
}

/// Bytes of memory unless said otherwise.
const MEMORY: u64 = 4 << 30;
/// What addresses on a device are multiples of.
const ALIGNMENT: usize = 256;

/// A device that this machine's processor plays: [`backend`](Self::backend) is a [`CudaBackend`] on it.
#[derive(Debug, Clone)]
pub struct Emulator(Arc<Emulated>);

#[derive(Debug)]
struct Emulated {
    reverse: bool,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sizes of live allocations by address.
    allocations: HashMap<Address, usize>,
    used: u64,
    /// Allocations and launches until one fails.
    until_failure: Option<usize>,
    /// Stacks for blocks, kept from launch to launch.
    machines: Vec<Machine>,
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new()
    }
}

impl Emulator {
    /// A device whose threads and blocks run in the order of their numbers.
    pub fn new() -> Self {
        Self::with(false, MEMORY)
    }

    /// A device whose threads and blocks run last to first: where a barrier is missing, its results differ.
    pub fn reversed() -> Self {
        Self::with(true, MEMORY)
    }

    /// A device with so many bytes of memory.
    pub fn with_memory(bytes: u64) -> Self {
        Self::with(false, bytes)
    }

    fn with(reverse: bool, limit: u64) -> Self {
        Self(Arc::new(Emulated { reverse, limit, state: Mutex::default() }))
    }

    /// A backend on this device.
    pub fn backend(&self) -> CudaBackend {
        CudaBackend::on(self.0.clone())
    }

    /// Bytes that are allocated.
    pub fn used(&self) -> u64 {
        self.0.state().used
    }

    /// Lets the `count`-th of the next allocations and launches fail (0 is the next), and only that.
    pub fn fail_after(&self, count: usize) {
        self.0.state().until_failure = Some(count);
    }

    /// Ends [`fail_after`](Self::fail_after); whether the failure is still to come.
    pub fn stop_failing(&self) -> bool {
        self.0.state().until_failure.take().is_some()
    }
}

impl Emulated {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this is the call that has to fail.
    fn fails(&mut self) -> bool {
        match self.until_failure {
            Some(0) => self.until_failure.take().is_some(),
            Some(count) => {
                self.until_failure = Some(count - 1);
                false
            }
            None => false,
        }
    }

    /// That an allocation holds `bytes` from `address`.
    fn check(&self, address: Address, bytes: usize) -> Result<(), BackendError> {
        let holds = |(&start, &size): (&Address, &usize)| {
            address >= start && address - start + bytes as u64 <= size as u64
        };
        match self.allocations.iter().any(holds) {
            true => Ok(()),
            false => Err(failed(format!("{bytes} bytes at {address:#x} are not allocated"))),
        }
    }
}

fn layout(bytes: usize) -> Result<Layout, BackendError> {
    Layout::from_size_align(bytes, ALIGNMENT).map_err(|error| failed(error.to_string()))
}

impl Driver for Emulated {
    fn device(&self) -> String {
        format!("emulated{}", if self.reverse { ", reversed" } else { "" })
    }

    fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn allocate(&self, bytes: usize, what: &'static str) -> Result<Address, BackendError> {
        let mut state = self.state();
        let free = self.limit - state.used;
        let full = BackendError::OutOfMemory {
            backend: NAME,
            what: what.into(),
            asked: bytes as u64,
            free: Some(free),
        };
        if state.fails() || bytes as u64 > free {
            return Err(full);
        }
        // SAFETY: the trait asks for at least one byte.
        let at = unsafe { alloc(layout(bytes)?) };
        if at.is_null() {
            return Err(full);
        }
        // Like a device's memory: not zeros.
        // SAFETY: `bytes` bytes were allocated.
        unsafe { std::ptr::write_bytes(at, 0xFF, bytes) };
        state.allocations.insert(at as Address, bytes);
        state.used += bytes as u64;
        Ok(at as Address)
    }

    fn free(&self, address: Address) {
        let mut state = self.state();
        let Some(bytes) = state.allocations.remove(&address) else { return };
        state.used -= bytes as u64;
        if let Ok(layout) = layout(bytes) {
            // SAFETY: allocated with this layout, and taken off the list.
            unsafe { dealloc(address as *mut u8, layout) };
        }
    }

    fn memory(&self) -> Result<(u64, u64), BackendError> {
        Ok((self.limit - self.state().used, self.limit))
    }

    fn clear(&self, address: Address, bytes: usize) -> Result<(), BackendError> {
        self.state().check(address, bytes)?;
        // SAFETY: just checked.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, bytes) };
        Ok(())
    }

    fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), BackendError> {
        self.state().check(to, bytes.len())?;
        // SAFETY: just checked.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to as *mut u8, bytes.len()) };
        Ok(())
    }

    fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), BackendError> {
        self.state().check(from, bytes.len())?;
        // SAFETY: just checked.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        let machine = {
            let mut state = self.state();
            if state.fails() {
                return Err(failed(format!("{}: a launch that was told to fail", launch.kernel)));
            }
            state.machines.pop()
        };
        let machine = machine.map_or_else(Machine::new, Ok)?;
        let result = machine.run(launch, self.reverse);
        self.state().machines.push(machine);
        result
    }

    fn record(self: Arc<Self>, launches: Vec<Launch>) -> Result<Box<dyn Recorded>, BackendError> {
        Ok(Box::new(Recording { driver: self, launches }))
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        Ok(())
    }

    fn stream(&self) -> Result<Arc<dyn Driver>, BackendError> {
        // Every launch is over when it returns: streams cannot differ.
        Err(failed("the emulator has one stream"))
    }
}

/// Launches to be run one after another.
#[derive(Debug)]
struct Recording {
    driver: Arc<Emulated>,
    launches: Vec<Launch>,
}

impl Recorded for Recording {
    fn replay(&self) -> Result<(), BackendError> {
        self.launches.iter().try_for_each(|launch| self.driver.launch(launch))
    }
}

/// Stacks for the threads of a block.
#[derive(Debug)]
struct Machine(*mut c_void);

// SAFETY: only its owner uses it, one launch at a time.
unsafe impl Send for Machine {}

impl Machine {
    fn new() -> Result<Self, BackendError> {
        // SAFETY: no arguments.
        let machine = unsafe { residua_machine_new() };
        if machine.is_null() { Err(failed("no memory for the emulator's stacks")) } else { Ok(Self(machine)) }
    }

    fn run(&self, launch: &Launch, reverse: bool) -> Result<(), BackendError> {
        let name = |name: &str| CString::new(name).map_err(|_| failed("a kernel's name holds a zero"));
        let (module, kernel) = (name(launch.module.name())?, name(launch.kernel)?);
        let (mut arguments, sizes) = (launch.pointers(), launch.sizes());
        let mut message = [0 as c_char; 256];
        // SAFETY: the machine is ours; names end with zeros; arguments and sizes have one length, and the callee checks
        // them against the kernel's parameters before it reads any.
        let status = unsafe {
            residua_machine_launch(
                self.0,
                module.as_ptr(),
                kernel.as_ptr(),
                launch.blocks,
                THREADS as c_uint,
                arguments.as_mut_ptr(),
                sizes.as_ptr(),
                sizes.len(),
                reverse.into(),
                message.as_mut_ptr(),
                message.len(),
            )
        };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the callee ends its message with a zero.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err(failed(message.to_string_lossy()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and no launch is under way.
        unsafe { residua_machine_free(self.0) };
    }
}
