//! Notes on stderr: for people, not for programs.

use std::path::Path;

use residua::format::file::Checkpoint;
use residua::memory::Budget;

use crate::escape;
use crate::output::complain;

/// Writes a line to stderr. It escapes the text, because names of files and tensors come from outside.
pub(crate) fn note(text: &str) {
    complain(&escape::line(&format!("note: {text}")));
}

/// Prints the notes about how a checkpoint was read, if there are any.
pub(crate) fn tell(file: &Checkpoint) {
    file.notes().iter().for_each(|text| note(text));
}

/// Prints the notes about how the folder or index at `path` was read. The command itself reports errors in it.
pub(crate) fn tell_path(path: &Path, budget: &Budget) {
    if path.is_dir() || path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json")) {
        _ = Checkpoint::open_within(path, budget).map(|file| tell(&file));
    }
}
