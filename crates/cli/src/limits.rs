//! Limits that the system enforces with a signal.

/// Makes a write beyond the largest file that the shell allows (`ulimit -f`) an error like that of a full disk. The
/// system would end the program with SIGXFSZ, without a word and without tidying up.
pub(crate) fn become_errors() {
    #[cfg(unix)]
    // SAFETY: no handler is installed; the disposition of one signal of this process is set, before it has threads
    // that could do the same.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
