//! Tidying up when the program is asked to end.

use std::fs;

/// What the shell reports of a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Ends the program on SIGINT, SIGTERM and SIGHUP without leaving half-written files behind.
pub(crate) fn tidy_up_on_signals() {
    // Where no handler can be set, the system's own way to end a program will do.
    let _ = ctrlc::set_handler(|| {
        remove_unfinished();
        std::process::exit(INTERRUPTED);
    });
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
