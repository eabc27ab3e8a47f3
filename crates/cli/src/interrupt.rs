//! What happens when the program is asked to end.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What the shell reports of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;
/// How long a job may take to notice that it is to stop.
const GRACE: Duration = Duration::from_secs(2);

static ASKED: AtomicBool = AtomicBool::new(false);
/// Jobs that look at [`asked`] while they run.
static WATCHED: AtomicUsize = AtomicUsize::new(0);

/// Ends the program on SIGINT, SIGTERM and SIGHUP without leaving half-written files behind.
///
/// A job that looks at [`asked`] stops by itself, cleans up, and the program ends with its error. Whatever else runs is
/// ended here.
pub(crate) fn tidy_up_on_signals() {
    // Where no handler can be set, the system ends the program in its own way.
    let _ = ctrlc::set_handler(|| {
        let again = ASKED.swap(true, Ordering::Relaxed);
        if !again && WATCHED.load(Ordering::Relaxed) > 0 {
            thread::sleep(GRACE);
        }
        remove_unfinished();
        std::process::exit(INTERRUPTED);
    });
}

/// Whether the program was asked to end.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// While it lives, a job runs that looks at [`asked`].
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

/// Removes the files that this process is writing, where they have a name. They are those it has open under such
/// a name: a file that is complete has been renamed, and other processes' files are not among ours.
fn remove_unfinished() {
    // Only Linux tells; elsewhere the file stays, and a later run does not mind it.
    for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let Ok(path) = fs::read_link(entry.path()) else { continue };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".residua-") && name.ends_with(".tmp") {
            // The thread that writes it may just have renamed it.
            let _ = fs::remove_file(&path);
        }
    }
}
