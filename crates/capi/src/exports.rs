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

/// Allows memory of your own as a layer's buffer, for example mapped weights: put its address into the struct afterwards.
///
/// It must be aligned to 4 bytes, hold `bytes` initialised bytes, and stay until orth_buffer_return; orth_layer_free
/// does not free it. Returns 0 or -1. Threads: any.
///
/// # Safety
/// The memory is as said until it is returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_buffer_lend(buffer: *mut c_void, bytes: usize) -> c_int {
    status(|| crate::buffer::lend(buffer.cast(), bytes))
}

/// Ends orth_buffer_lend: layers that still point to the memory fail from now on.
///
/// Call it when no forward that uses the memory runs any more. Returns 0, or -1 when it was not lent. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn orth_buffer_return(buffer: *const c_void) -> c_int {
    status(|| crate::buffer::give_back(buffer.cast()))
}
