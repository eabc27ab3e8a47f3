//! What a person should know and no program has to read: lines on stderr.

use std::io::Write;
use std::path::Path;

use residua::format::file::Checkpoint;

/// Writes a line to stderr. A stderr that takes nothing is no reason to fail.
pub(crate) fn note(text: &str) {
    // Names of files and tensors come from outside: no control character reaches the terminal.
    let text: String = text
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    _ = writeln!(std::io::stderr(), "note: {text}");
}

/// Tells how a checkpoint was understood, where there is something to tell.
pub(crate) fn tell(file: &Checkpoint) {
    file.notes().iter().for_each(|text| note(text));
}

/// Tells how the folder or index at `path` was understood. What is wrong with it, the command will say.
pub(crate) fn tell_path(path: &Path) {
    if path.is_dir() || path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json")) {
        _ = Checkpoint::open(path).map(|file| tell(&file));
    }
}
