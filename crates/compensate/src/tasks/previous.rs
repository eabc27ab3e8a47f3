//! The state before the latest task.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use residua_format::file::{AtomicFile, FileError};
use residua_memory::Budget;

use super::SequenceReader;
use crate::{CompensateError, Result};

/// Where [`TaskSequence::keep_previous`](super::TaskSequence::keep_previous) keeps the state before the latest task: the
/// name of the state and `.previous`.
pub fn previous_path(state: impl AsRef<Path>) -> PathBuf {
    let mut name: OsString = state.as_ref().as_os_str().to_owned();
    name.push(".previous");
    name.into()
}

/// Takes back the latest task: puts the previous state in the place of the state. It can be done once for each task.
///
/// # Errors
/// When there is no previous state, it is not the one before the latest task, or a file cannot be read or replaced. Then
/// nothing has changed. Where several jobs may work on one file, hold its [`SequenceLock`](super::SequenceLock).
pub fn undo(state: impl AsRef<Path>, budget: &Budget) -> Result<SequenceReader> {
    let (state, previous) = (state.as_ref(), previous_path(&state));
    let tasks = |path: &Path| Ok::<_, CompensateError>(SequenceReader::open(path, budget)?.tasks());
    let now = tasks(state)?;
    if !previous.try_exists().map_err(FileError::io(&previous, "look for"))? {
        let problem = format!(
            "there is no {}, the state before the latest task; a task can be taken back once",
            previous.display()
        );
        return Err(CompensateError::Undo { problem });
    }
    let before = tasks(&previous)?;
    if before.checked_add(1) != Some(now) {
        let problem = format!(
            "{} has {before} finished tasks and {} has {now}: it is not the state before the latest task",
            previous.display(),
            state.display()
        );
        return Err(CompensateError::Undo { problem });
    }
    fs::rename(&previous, state).map_err(FileError::io(state, "replace"))?;
    SequenceReader::open(state, budget)
}

/// Keeps the state at `path` as the previous one. The file is shared, not copied, where the file system can do that.
pub(super) fn keep(path: &Path) -> Result<()> {
    let previous = previous_path(path);
    match fs::remove_file(&previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(FileError::io(&previous, "replace")(error).into());
        }
        _ => {}
    }
    if fs::hard_link(path, &previous).is_ok() {
        return Ok(());
    }
    let mut copy = AtomicFile::create(&previous)?;
    let copied = fs::File::open(path).and_then(|mut from| io::copy(&mut from, &mut copy));
    copied.map_err(FileError::io(&previous, "write"))?;
    Ok(copy.commit()?)
}
