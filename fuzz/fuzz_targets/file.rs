//! The readers take paths: fuzzed bytes go through one file per process.

use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Mutex;

use tempfile::NamedTempFile;

static FILE: Mutex<Option<NamedTempFile>> = Mutex::new(None);

/// Calls `read` with a file that holds `bytes`.
pub fn with_file(suffix: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let mut file = FILE.lock().unwrap();
    let file = file.get_or_insert_with(|| tempfile::Builder::new().suffix(suffix).tempfile().unwrap());
    file.as_file().set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path());
}
