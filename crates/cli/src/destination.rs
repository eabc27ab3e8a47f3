//! Where a command writes.

use std::fs;
use std::path::{Path, PathBuf};

use residua::format::file::{AtomicFile, Checkpoint};

use crate::failure::{Failure, Result};
use crate::notes;

/// Refuses, before anything is computed, an output that has no place or is one of the files that are read: it
/// would be replaced by what was made from it.
pub(crate) fn check<'a>(output: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result {
    if let Some(input) = inputs.into_iter().flat_map(files).find(|input| same(output, input)) {
        let (output, input) = (output.display(), input.display());
        return Err(Failure::usage(format!("{output}: the output is the input {input}; name another file")));
    }
    Ok(AtomicFile::check(output)?)
}

/// The files of an input: several, where it is a sharded checkpoint. Tells on stderr how that one was understood.
fn files(input: &Path) -> Vec<PathBuf> {
    let mut files = vec![input.to_owned()];
    if input.is_dir() || input.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json")) {
        // What is wrong with a checkpoint that cannot be opened, the command will say.
        let checkpoint = Checkpoint::open(input).ok();
        checkpoint.iter().for_each(notes::tell);
        files.extend(
            checkpoint.iter().flat_map(|file| file.index().into_iter().chain(file.files())).map(Into::into),
        );
    }
    files
}

/// Whether two paths lead to the same file, whatever they are called.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let id = |path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
    };
    #[cfg(not(unix))]
    let id = |path| fs::canonicalize(path).ok();
    id(a).is_some_and(|a| id(b) == Some(a))
}
