//! What the program does on a signal to end.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The exit code of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;
/// Time for a job to notice the request to stop.
const GRACE: Duration = Duration::from_secs(2);

static ASKED: AtomicBool = AtomicBool::new(false);
/// The number of running jobs that poll [`asked`].
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Ends the program on SIGINT, SIGTERM and SIGHUP without leaving half-written files behind.
///
/// A job that polls [`asked`] stops and cleans up, and the program ends with its error. This function ends all other
/// work.
pub(crate) fn tidy_up_on_signals() {
    // If we cannot set a handler, the system ends the program in its usual way.
    let _ = ctrlc::set_handler(|| {
        let again = ASKED.swap(true, Ordering::Relaxed);
        if !again && WATCHED.load(Ordering::Relaxed) > 0 {
            thread::sleep(GRACE);
        }
        remove_unfinished();
        std::process::exit(INTERRUPTED);
    });
}

/// Whether a signal asked the program to end.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Counts a running job that polls [`asked`], from `new` to drop.
#[derive(Debug)]
pub(crate) struct Watch;

impl Watch {
    pub(crate) fn new() -> Self {
        WATCHED.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Removes the unfinished files of this process that have a name: the open files with a temporary name. A complete
/// file has its final name, and other processes' files are not open here.
fn remove_unfinished() {
    // Only Linux lists open files. On other systems the file stays; a later run ignores it.
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".residua-") && name.ends_with(".tmp") {
            // The writing thread may have renamed it in the meantime.
            let _ = fs::remove_file(&path);
        }
    }
}
