//! Limits that the system enforces with a signal.

/// Turns a write beyond the file size limit of the shell (`ulimit -f`) into an error, like a full disk. By default the
/// system ends the program with SIGXFSZ, without a message and without cleanup.
pub(crate) fn become_errors() {
    #[cfg(unix)]
    // SAFETY: the call installs no handler. It sets the disposition of one signal of this process, before other
    // threads exist that could do the same.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
