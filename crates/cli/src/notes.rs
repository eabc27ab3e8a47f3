//! What a person should know and no program has to read: lines on stderr.

use std::path::Path;

use residua::format::file::Checkpoint;

use crate::escape;
use crate::output::complain;

/// Writes a line to stderr. Names of files and tensors come from outside, and are escaped.
pub(crate) fn note(text: &str) {
    complain(&escape::line(&format!("note: {text}")));
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
