//! The memory of this process, as the operating system counts it.

/// Resident bytes of this process now; `None` where the system does not report them.
pub fn current_rss() -> Option<u64> {
    imp::current_rss()
}

/// The most resident bytes that this process held so far; `None` where the system does not report them.
pub fn peak_rss() -> Option<u64> {
    imp::peak_rss()
}

/// Resets [`peak_rss`] to what the process holds now. Returns `false` where the system cannot do that.
pub fn reset_peak_rss() -> bool {
    imp::reset_peak_rss()
}

/// Asks the allocator to give large buffers back to the system as soon as they are freed.
///
/// After the first large buffer is freed, glibc keeps later ones for itself. Memory freed between buffers that stay
/// is then neither used nor returned, and a job holds up to twice what it reserved.
/// [`Budget::for_process`](crate::Budget::for_process) calls this function. It costs some page faults. With other
/// allocators it does nothing.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: mallopt changes parameters of the allocator and touches no memory that is in use; a refusal
        // changes nothing.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
        }
    }
}

#[cfg(target_os = "linux")]
mod imp {
    /// A field of `/proc/self/status` in bytes; the file counts in KiB.
    fn status_field(name: &str) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with(name))?;
        let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    pub(super) fn current_rss() -> Option<u64> {
        status_field("VmRSS:")
    }

    pub(super) fn peak_rss() -> Option<u64> {
        status_field("VmHWM:")
    }

    pub(super) fn reset_peak_rss() -> bool {
        std::fs::write("/proc/self/clear_refs", "5").is_ok()
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod imp {
    pub(super) fn current_rss() -> Option<u64> {
        None
    }

    pub(super) fn peak_rss() -> Option<u64> {
        // SAFETY: rusage is plain data for which all zeroes are valid, and getrusage writes only to it.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            (libc::getrusage(libc::RUSAGE_SELF, &mut usage) == 0).then_some(usage)?
        };
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        Some(usage.ru_maxrss as u64 * unit)
    }

    pub(super) fn reset_peak_rss() -> bool {
        false
    }
}

#[cfg(not(unix))]
mod imp {
    pub(super) fn current_rss() -> Option<u64> {
        None
    }
    pub(super) fn peak_rss() -> Option<u64> {
        None
    }
    pub(super) fn reset_peak_rss() -> bool {
        false
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn peak_sees_a_buffer_that_is_gone() {
        let before = peak_rss().unwrap();
        let bytes = before as usize + (64 << 20);
        drop(std::hint::black_box(vec![1u8; bytes]));
        assert!(peak_rss().unwrap() >= bytes as u64);
        assert!(current_rss().unwrap() < peak_rss().unwrap());
    }
}
