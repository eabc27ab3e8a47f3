//! Pinned memory that small copies go through: the device reads and writes it without the driver's own detour.

use cudarc::driver::result;

/// Bytes of the pinned memory of a stream.
const BYTES: usize = 1 << 20;

/// Page-locked memory of the host.
#[derive(Debug)]
pub(super) struct Staging {
    at: *mut u8,
}

// SAFETY: it is the only owner of its memory.
unsafe impl Send for Staging {}

impl Staging {
    /// Nothing when the system has no memory to lock; copies then go without. A device must be entered.
    fn new() -> Option<Self> {
        // SAFETY: a size and no flags; freed in `drop`.
        let at = unsafe { result::malloc_host(BYTES, 0) }.ok()?;
        // SAFETY: BYTES bytes were allocated.
        unsafe { std::ptr::write_bytes(at.cast::<u8>(), 0, BYTES) };
        Some(Self { at: at.cast() })
    }

    /// The first bytes of what is there, or is made now; nothing for more bytes than that has. A device must be entered.
    pub(super) fn first(staging: &mut Option<Self>, bytes: usize) -> Option<&mut [u8]> {
        if bytes > BYTES {
            return None;
        }
        if staging.is_none() {
            *staging = Self::new();
        }
        // SAFETY: allocated and initialised in `new`, borrowed from the only owner.
        staging.as_mut().map(|staging| unsafe { std::slice::from_raw_parts_mut(staging.at, bytes) })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; every copy was waited for.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
