//! Where a job may write.

use std::fs;
use std::path::{Path, PathBuf};

use super::{AtomicFile, FileError, Result, folder, index_json};

/// Checks, before a job does any work, that it may write to `output`.
///
/// An input that is a sharded checkpoint stands for its index and all its shards. Two paths are the same file when
/// they lead to the same file on disk, whatever they are called. Inputs that do not exist are ignored; opening them
/// reports the error.
///
/// # Errors
/// [`FileError::OutputIsInput`] when `output` is one of the files of `inputs`, and the errors of
/// [`AtomicFile::check`].
pub fn check_output<'a>(output: impl AsRef<Path>, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let output = output.as_ref();
    if let Some(input) = inputs.into_iter().flat_map(files).find(|input| same_file(output, input)) {
        return Err(FileError::OutputIsInput { path: output.to_owned(), input });
    }
    AtomicFile::check(output)
}

/// The files of an input. The job reports a checkpoint that cannot be opened.
fn files(input: &Path) -> Vec<PathBuf> {
    let mut files = vec![input.to_owned()];
    let is_json = |path: &Path| path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"));
    if input.is_dir()
        && let Ok(found) = folder::find(input)
    {
        files.push(found.file);
    }
    if let Some(index) = files.last().filter(|path| is_json(path)) {
        files.extend(index_json::shards(index).unwrap_or_default());
    }
    files
}

/// Whether two paths lead to the same file, whatever they are called.
pub fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let id = |path| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).map(|file| (file.dev(), file.ino())).ok()
    };
    #[cfg(not(unix))]
    let id = |path| fs::canonicalize(path).ok();
    id(a).is_some_and(|a| id(b) == Some(a))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::file::{Dtype, SafetensorsWriter};

    fn write(path: &Path, tensor: &str) {
        let mut writer = SafetensorsWriter::create(path, 64).unwrap();
        writer.tensor(tensor, Dtype::U8, &[1], &[0]).unwrap();
        writer.finish().unwrap();
    }

    #[test]
    fn an_output_is_none_of_the_input_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let index = at("model.safetensors.index.json");
        write(&at("a.safetensors"), "a");
        write(&at("b.safetensors"), "b");
        fs::write(&index, r#"{"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}"#).unwrap();
        for output in [at("b.safetensors"), index.clone(), dir.path().join(".").join("a.safetensors")] {
            for input in [dir.path(), &index] {
                let error = check_output(&output, [Path::new("absent"), input]).unwrap_err();
                assert!(
                    matches!(&error, FileError::OutputIsInput { path, .. } if *path == output),
                    "{error}"
                );
                assert_eq!(error.kind(), residua_memory::ErrorKind::Usage);
            }
        }
        assert!(check_output(at("a.safetensors"), [&*at("a.safetensors")]).is_err());
        check_output(at("new"), [dir.path(), &index, &at("new")]).unwrap();
        check_output(at("a.safetensors"), [&*at("b.safetensors")]).unwrap();
        assert!(check_output(at("no folder/new"), []).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_do_not_hide_an_input() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write(&at("a"), "a");
        std::os::unix::fs::symlink(at("a"), at("soft")).unwrap();
        fs::hard_link(at("a"), at("hard")).unwrap();
        for name in ["soft", "hard"] {
            assert!(check_output(at(name), [&*at("a")]).is_err(), "{name}");
        }
    }
}
