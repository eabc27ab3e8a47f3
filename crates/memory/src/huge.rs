//! Huge pages for large buffers.

/// Smaller buffers are left alone: they gain little and may waste up to one huge page.
#[cfg(target_os = "linux")]
const MINIMUM: usize = 4 << 20;

/// Asks the system to back a buffer of 4 MiB or more with huge pages. Call it on a fresh buffer from `vec![0; n]` or
/// [`AlignedVec::zeroed`](crate::AlignedVec::zeroed), before anything is written.
///
/// Only speed depends on it. Without huge pages a fresh buffer costs one page fault per 4 KiB; these faults take half
/// the time of a COO to CSR conversion. On systems without this request the call does nothing.
pub fn prefer_huge_pages<T>(buffer: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let range = buffer.as_mut_ptr_range();
        let start = (range.start as usize).next_multiple_of(PAGE);
        let end = range.end as usize;
        if size_of_val(buffer) >= MINIMUM && start < end {
            // SAFETY: the address is a page boundary inside the buffer, the length ends with the buffer, and
            // this advice changes no content. A refusal (an old kernel, other page sizes) changes nothing.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = buffer;
}

#[cfg(test)]
mod tests {
    #[test]
    fn content_is_unchanged() {
        for len in [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20] {
            let mut buffer = vec![7u32; len];
            super::prefer_huge_pages(&mut buffer);
            assert!(buffer.iter().all(|&v| v == 7));
        }
    }
}
