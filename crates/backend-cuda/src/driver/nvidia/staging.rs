//! Pinned memory for small copies. The device reads and writes it directly.

use cudarc::driver::result;

/// Bytes of pinned memory per stream.
const BYTES: usize = 1 << 20;

/// Page-locked host memory.
#[derive(Debug)]
pub(super) struct Staging {
    at: *mut u8,
}

// SAFETY: it alone owns its memory.
unsafe impl Send for Staging {}

impl Staging {
    /// `None` if the system cannot lock memory. A device must be entered.
    fn new() -> Option<Self> {
        // SAFETY: a size and no flags; freed in `drop`.
        let at = unsafe { result::malloc_host(BYTES, 0) }.ok()?;
        // SAFETY: BYTES bytes were allocated.
        unsafe { std::ptr::write_bytes(at.cast::<u8>(), 0, BYTES) };
        Some(Self { at: at.cast() })
    }

    /// The first bytes of the pinned memory, which is allocated the first time. `None` if there is not enough. A device
    /// must be entered.
    pub(super) fn first(staging: &mut Option<Self>, bytes: usize) -> Option<&mut [u8]> {
        if bytes > BYTES {
            return None;
        }
        if staging.is_none() {
            *staging = Self::new();
        }
        // SAFETY: allocated and initialised in `new`, and borrowed from its owner.
        staging.as_mut().map(|staging| unsafe { std::slice::from_raw_parts_mut(staging.at, bytes) })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`, and every copy is done.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
