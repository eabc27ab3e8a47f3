//! Runs kernels: `emulator/emulator.cpp`.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};

use residua_backend::BackendError;

use crate::abi::THREADS;
use crate::driver::failed;
use crate::launch::Launch;

// SAFETY: `emulator/emulator.cpp` defines these functions with these types.
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

/// Stacks for the threads of a block.
#[derive(Debug)]
pub(super) struct Machine(*mut c_void);

// SAFETY: only the owner uses it, for one launch at a time.
unsafe impl Send for Machine {}

impl Machine {
    pub(super) fn new() -> Result<Self, BackendError> {
        // SAFETY: no arguments.
        let machine = unsafe { residua_machine_new() };
        if machine.is_null() { Err(failed("no memory for the emulator's stacks")) } else { Ok(Self(machine)) }
    }

    /// Runs a kernel to its end.
    pub(super) fn run(&self, launch: &Launch, reverse: bool) -> Result<(), BackendError> {
        let name = |name: &str| CString::new(name).map_err(|_| failed("a kernel's name holds a zero"));
        let (module, kernel) = (name(launch.module.name())?, name(launch.kernel)?);
        let (mut arguments, sizes) = (launch.pointers(), launch.sizes());
        let mut message = [0 as c_char; 256];
        // SAFETY: the machine is ours; names end with zeros; arguments and sizes have one length, and the callee checks
        // them against the parameters of the kernel before it reads them.
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
