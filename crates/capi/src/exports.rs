//! Exported functions that belong to no layer.

use std::ffi::{c_char, c_int, c_void};

use crate::failure::{last_error, status};

/// The text of the calling thread's last failure, "" before the first. Success does not clear it.
///
/// It is valid until the thread's next failure. Threads: each has its own.
#[unsafe(no_mangle)]
pub extern "C" fn orth_last_error() -> *const c_char {
    last_error()
}

/// Allows your own memory as a layer's buffer, for example mapped weights; afterwards put its address into the struct.
///
/// It must be aligned to 4 bytes, hold `bytes` initialised bytes, and stay until orth_buffer_return; orth_layer_free
/// does not free it. Returns 0 or -1. Threads: any.
///
/// # Safety
/// The memory stays as described until orth_buffer_return.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_buffer_lend(buffer: *mut c_void, bytes: usize) -> c_int {
    status(|| crate::buffer::lend(buffer.cast(), bytes))
}

/// Ends orth_buffer_lend: layers that still point to the memory fail from now on.
///
/// Call it when no running forward uses the memory. Returns 0, or -1 if the memory was not lent. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn orth_buffer_return(buffer: *const c_void) -> c_int {
    status(|| crate::buffer::give_back(buffer.cast()))
}
