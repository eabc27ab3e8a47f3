//! What the targets share: files for fuzzed bytes, and sound files to start from.

use std::borrow::Cow;
use std::fs;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use residua_format::file::{Dtype, SafetensorsWriter};
use tempfile::{NamedTempFile, TempDir};

static FILE: Mutex<Option<NamedTempFile>> = Mutex::new(None);
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// The folder of this process.
pub fn folder() -> &'static Path {
    FOLDER.path()
}

/// Calls `read` with a file that holds `bytes`: the readers take paths, so all go through one file per process.
pub fn with_file(suffix: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let mut file = FILE.lock().unwrap();
    let file = file.get_or_insert_with(|| tempfile::Builder::new().suffix(suffix).tempfile().unwrap());
    file.as_file().set_len(0).unwrap();
    file.rewind().unwrap();
    file.write_all(bytes).unwrap();
    read(file.path());
}

/// The same with a safetensors file. A mutated header is rarely as long as the file says: every other input gets the
/// length mended, so that what is behind that check is reached.
pub fn with_safetensors(bytes: &[u8], read: impl FnOnce(&Path)) {
    with_file(".safetensors", &mended(bytes), read);
}

fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Some((_, json)) = bytes.split_first_chunk::<8>() else { return Cow::Borrowed(bytes) };
    if bytes.len() % 2 == 0 {
        return Cow::Borrowed(bytes);
    }
    let (mut depth, mut quoted, mut escaped) = (0_i64, false, false);
    for (index, &byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 && !quoted {
            let spaces = json[index + 1..].iter().take_while(|&&byte| byte == b' ').count();
            let mut mended = ((index + 1 + spaces) as u64).to_le_bytes().to_vec();
            mended.extend(json);
            return Cow::Owned(mended);
        }
    }
    Cow::Borrowed(bytes)
}

/// Where a target starts: `write` fills the folder that `cargo xtask fuzz` names, if it does.
pub fn seeds(write: impl FnOnce(&Path)) {
    if let Some(folder) = std::env::var_os("RESIDUA_FUZZ_SEEDS").map(PathBuf::from) {
        fs::create_dir_all(&folder).unwrap();
        write(&folder);
    }
}

/// A file beside the fuzzed one, as a path.
pub fn beside(name: &str) -> PathBuf {
    folder().join(name)
}

/// Writes a small checkpoint with two matrices, a vector and a scalar, all weights moved by `shift`.
pub fn model(path: &Path, shift: f32) {
    let mut file = SafetensorsWriter::create(path, 1024).unwrap();
    let bytes = |count: usize, step: f32| -> Vec<u8> {
        (0..count)
            .flat_map(|i| ((i as f32 * step).sin() + shift * (i % 7 / 6) as f32).to_le_bytes())
            .collect()
    };
    file.tensor("a", Dtype::F32, &[4, 40], &bytes(160, 0.7)).unwrap();
    file.tensor("b", Dtype::F32, &[3, 8], &bytes(24, 1.3)).unwrap();
    file.tensor("bias", Dtype::F32, &[5], &bytes(5, 0.1)).unwrap();
    file.tensor("one", Dtype::F32, &[], &bytes(1, 0.1)).unwrap();
    file.finish().unwrap();
}
