//! A device whose memory is the host's and whose kernels run on this machine's processor, for tests.

mod machine;

use std::alloc::{Layout, alloc, dealloc};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use residua_backend::BackendError;

use super::{Driver, NAME, Recorded, failed};
use crate::abi::Address;
use crate::launch::Launch;
use machine::Machine;

/// Alignment of addresses on a device.
const ALIGNMENT: usize = 256;

/// A device that this machine's processor emulates.
#[derive(Debug)]
pub(crate) struct Emulated {
    reverse: bool,
    limit: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sizes of live allocations by address.
    allocations: HashMap<Address, usize>,
    used: u64,
    /// Number of allocations and launches before one fails.
    until_failure: Option<usize>,
    /// Idle machines, kept for later launches.
    machines: Vec<Machine>,
}

impl Emulated {
    /// A device with `limit` bytes of memory. If it is `reverse`, threads and blocks run last to first.
    pub(crate) fn new(reverse: bool, limit: u64) -> Self {
        Self { reverse, limit, state: Mutex::default() }
    }

    /// Number of bytes that are allocated.
    pub(crate) fn used(&self) -> u64 {
        self.state().used
    }

    /// Lets one of the next allocations and launches fail: the next one for a `count` of 0.
    pub(crate) fn fail_after(&self, count: usize) {
        self.state().until_failure = Some(count);
    }

    /// Cancels [`fail_after`](Self::fail_after). Returns whether the failure has not happened yet.
    pub(crate) fn stop_failing(&self) -> bool {
        self.state().until_failure.take().is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this call must fail.
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

    /// Refuses a range of bytes that is not inside an allocation.
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
        // A device's memory is not zeroed either.
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
                return Err(failed(format!("{}: this launch was asked to fail", launch.kernel)));
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
        // A launch has finished when it returns, so a second stream would be no different.
        Err(failed("the emulator has one stream"))
    }
}

/// Launches that run one after another.
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
