//! The checkpoint in a folder.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{FileError, Result};

/// What a folder holds that could be a checkpoint.
#[derive(Debug, Default)]
struct Folder {
    /// Indices of shards.
    indices: BTreeSet<OsString>,
    /// Safetensors files.
    files: BTreeSet<OsString>,
}

/// The file that stands for the checkpoint of a folder, and the other `.safetensors` files beside it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) file: PathBuf,
    pub(super) is_index: bool,
    pub(super) beside: BTreeSet<OsString>,
}

/// The file that other tools take where a folder holds several.
const MODEL: &str = "model.safetensors";
/// Names that an error or note lists.
const LISTED: usize = 4;

/// Looks for the one index, else `model.safetensors`, else the one other `.safetensors` file. Hidden files do not
/// count.
///
/// # Errors
/// When the folder cannot be listed, holds nothing of this, or several of which none has precedence.
pub(super) fn find(path: &Path) -> Result<Found> {
    let Folder { indices, files } = list(path)?;
    let at = |name: &OsString| path.join(name);
    let several = |names: &BTreeSet<OsString>, what: &str| {
        let problem = format!("holds {} {what} ({}): name one", names.len(), listed(names));
        Err(FileError::malformed(path, problem))
    };
    if indices.len() > 1 {
        return several(&indices, "indices of shards");
    }
    if let Some(index) = indices.first() {
        return Ok(Found { file: at(index), is_index: true, beside: files });
    }
    let mut beside = files.clone();
    let file = match (beside.take(&OsString::from(MODEL)), files.len()) {
        (Some(model), _) => model,
        (None, 0) => {
            return Err(FileError::malformed(path, "holds no .safetensors file and no index of such"));
        }
        (None, 1) => beside.pop_first().unwrap_or_default(),
        (None, _) => return several(&files, ".safetensors files and no index"),
    };
    Ok(Found { file: at(&file), is_index: false, beside })
}

/// The first few names, for people.
pub(super) fn listed(names: &BTreeSet<OsString>) -> String {
    let mut shown: Vec<_> = names.iter().take(LISTED).map(|name| name.to_string_lossy()).collect();
    if names.len() > LISTED {
        shown.push("...".into());
    }
    shown.join(", ")
}

fn list(path: &Path) -> Result<Folder> {
    let mut folder = Folder::default();
    for entry in fs::read_dir(path).map_err(FileError::io(path, "list"))? {
        let name = entry.map_err(FileError::io(path, "list"))?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with('.') {
            continue;
        }
        if is_index(&text) {
            folder.indices.insert(name);
        } else if text.ends_with(".safetensors") && path.join(&name).is_file() {
            folder.files.insert(name);
        }
    }
    // Some name their index without the format; beside one that has it, it belongs to something else.
    if folder.indices.iter().any(names_format) {
        folder.indices.retain(names_format);
    }
    Ok(folder)
}

fn names_format(index: &OsString) -> bool {
    index.to_string_lossy().contains(".safetensors.index.")
}

/// `model.safetensors.index.json`, with a variant `model.safetensors.index.fp16.json`, or `model.index.json`; not the
/// index of another format, such as `pytorch_model.bin.index.json`.
fn is_index(name: &str) -> bool {
    const OTHERS: [&str; 9] = ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "onnx", "gguf", "npz"];
    let parts: Vec<&str> = name.split('.').collect();
    let Some(index) = parts.iter().rposition(|part| *part == "index") else { return false };
    // The model's name before it; "json" and at most a variant behind it.
    matches!(parts[index + 1..], ["json"] | [_, "json"]) && index > 0 && !OTHERS.contains(&parts[index - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_told_by_name() {
        for name in [
            "model.safetensors.index.json",
            "model.safetensors.index.fp16.json",
            "diffusion_pytorch_model.safetensors.index.fp16.json",
            "model.fp16.safetensors.index.json",
            "model.index.fp16.json",
        ] {
            assert!(is_index(name), "{name}");
        }
        for name in [
            "model_index.json",
            "config.json",
            "index.json",
            "pytorch_model.bin.index.json",
            "pytorch_model.bin.index.fp16.json",
            "model.safetensors.index.json.bak",
            "model.safetensors",
        ] {
            assert!(!is_index(name), "{name}");
        }
    }

    #[test]
    fn an_index_goes_before_a_model_and_a_model_before_others() {
        let folder = tempfile::tempdir().unwrap();
        let add = |name: &str| std::fs::write(folder.path().join(name), b"").unwrap();
        let found = || find(folder.path()).map(|found| (found.file, found.beside));
        let error = || found().unwrap_err().to_string();
        let at = |name: &str| folder.path().join(name);
        let set = |names: &[&str]| names.iter().map(OsString::from).collect::<BTreeSet<_>>();
        assert!(error().contains("holds no .safetensors file"));
        add(".hidden.safetensors");
        add("pytorch_model.bin.index.json");
        assert!(error().contains("holds no .safetensors file"));
        add("b.safetensors");
        assert_eq!(found().unwrap(), (at("b.safetensors"), set(&[])));
        add("a.safetensors");
        assert!(
            error().contains("2 .safetensors files and no index (a.safetensors, b.safetensors): name one")
        );
        add("model.safetensors");
        assert_eq!(found().unwrap(), (at("model.safetensors"), set(&["a.safetensors", "b.safetensors"])));
        add("m.index.json");
        assert_eq!(found().unwrap().0, at("m.index.json"));
        add("model.safetensors.index.fp16.json");
        assert_eq!(found().unwrap().0, at("model.safetensors.index.fp16.json"));
        add("model.safetensors.index.json");
        let two =
            "2 indices of shards (model.safetensors.index.fp16.json, model.safetensors.index.json): name one";
        assert!(error().contains(two), "{}", error());
    }
}
