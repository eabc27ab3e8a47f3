//! Generated files, written or held against what is committed.

use std::fs;
use std::path::PathBuf;

use crate::Result;

/// A file as it should be.
pub(crate) struct Generated {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The files that differ from what is on disk; they are written unless `check`.
pub(crate) fn settle(files: &[Generated], check: bool) -> Result<Vec<PathBuf>> {
    let mut differing = Vec::new();
    for Generated { path, text } in files {
        if fs::read_to_string(path).is_ok_and(|found| found == *text) {
            continue;
        }
        if !check {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(path, text)?;
        }
        differing.push(path.clone());
    }
    Ok(differing)
}
