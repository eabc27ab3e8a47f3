//! A model's folder in, a folder with its split and its small files out.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use residua_format::file::{AtomicFile, FileError};
use residua_memory::Budget;
use serde_json::{Map, Value, json};

use crate::progress::check_stop;
use crate::temporary_folder::TemporaryFolder;
use crate::{Output, Progress, SplitError, SplitOptions, SplitReport, split};

/// The file that describes a model.
const CONFIG: &str = "config.json";
/// The split in the output.
const SPLIT: &str = "model.safetensors";
/// The entry of the config that says how weights are stored.
const QUANTIZATION: &str = "quantization_config";
/// A config that is longer is none.
const LONGEST_CONFIG: u64 = 1 << 20;
/// Larger files are no part of a model's description.
const LARGEST: u64 = 64 << 20;
/// Files beside the weights. A folder with more holds something else.
const MOST_FILES: usize = 1000;
/// Folders inside of folders.
const DEEPEST: usize = 4;
/// Endings of files with weights.
const WEIGHTS: [&str; 15] = [
    "bin",
    "pt",
    "pth",
    "ckpt",
    "h5",
    "msgpack",
    "onnx",
    "onnx_data",
    "gguf",
    "ggml",
    "npz",
    "npy",
    "ot",
    "tflite",
    "mlmodel",
];

/// What [`split_folder`] did.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct FolderReport {
    /// The split of the weights.
    pub split: SplitReport,
    /// The split file.
    pub file: PathBuf,
    /// Files that were copied, by their paths in the folder.
    pub copied: Vec<PathBuf>,
    /// Other files that were left out, because they hold weights of another format or are large.
    pub left_out: Vec<PathBuf>,
}

/// Splits the checkpoint at `input` into `model.safetensors` of the folder `output`.
///
/// If `input` is a folder, its other files are copied: config, tokenizer, and so on, but no weights in any format, no
/// file of more than 64 MiB and nothing hidden. `config.json` then says `"quantization_config": {"quant_method":
/// "residua"}`, so that other programs can tell that the file holds no plain weights. Transformers only warns, unless
/// something registers this method with it.
///
/// The output must not exist, or be an empty folder. It appears complete or not at all. A killed process leaves a
/// folder `.residua-….tmp` beside it; on Unix the next run there removes it.
///
/// # Errors
/// As [`split`](crate::split()), when the output is a file or a folder with files, when the config is not JSON or says
/// that the weights are quantised already, and when there are more than 1,000 files.
pub fn split_folder(
    input: impl AsRef<Path>,
    output: Output<impl AsRef<Path>>,
    options: &SplitOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<FolderReport, SplitError> {
    let (input, output) = (input.as_ref(), output.0.as_ref());
    let target = free(output)?;
    let parent = target.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let mut files = Files::default();
    let mut config = None;
    if input.is_dir() {
        files.list(input, Path::new(""), DEEPEST)?;
        files.sort();
        if files.copied.iter().any(|name| name == Path::new(CONFIG)) {
            config = Some(marked(&input.join(CONFIG), budget)?);
        }
    }
    // The library's text names the temporary folder. That name means nothing to the caller.
    let create = |error: io::Error| FileError::io(output, "create")(error.kind().into());
    let folder = TemporaryFolder::create(parent).map_err(create)?;
    let split = split(input, Output(folder.path().join(SPLIT)), options, budget, progress)?;
    progress.begin("copying", files.bytes);
    for name in &files.copied {
        check_stop(progress)?;
        let (from, to) = (input.join(name), folder.path().join(name));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(FileError::io(output, "write"))?;
        }
        let mut file = AtomicFile::create(&to)?;
        let copied = match config.as_deref().filter(|_| name == Path::new(CONFIG)) {
            Some(mut config) => io::copy(&mut config, &mut file),
            None => File::open(&from).and_then(|mut from| io::copy(&mut from, &mut file)),
        };
        progress.advance(copied.map_err(FileError::io(&from, "copy"))?);
        file.commit()?;
    }
    check_stop(progress)?;
    // An empty folder makes room for the new one.
    let replace = |error| FileError::io(output, "replace")(error);
    if target.exists() {
        fs::remove_dir(&target).map_err(replace)?;
    }
    folder.rename(&target).map_err(replace)?;
    progress.end();
    #[cfg(unix)]
    File::open(parent)
        .and_then(|parent| parent.sync_all())
        .map_err(FileError::io(output, "flush the folder of"))?;
    Ok(FolderReport { split, file: output.join(SPLIT), copied: files.copied, left_out: files.left_out })
}

/// The path of the new folder: nothing or an empty folder is there.
fn free(output: &Path) -> Result<PathBuf, SplitError> {
    let refuse = |problem: &str| Err(SplitError::Usage(format!("{}: {problem}", output.display())));
    let target = match fs::canonicalize(output) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !output.is_symlink() => {
            // Without a separator at its end.
            return Ok(output.components().collect());
        }
        Err(error) => return Err(FileError::io(output, "create")(error).into()),
    };
    if !target.is_dir() {
        return refuse("is a file, and the output is a folder");
    }
    match fs::read_dir(&target).map_err(FileError::io(output, "list"))?.next() {
        None => Ok(target),
        Some(_) => refuse("is a folder with files: name a new or an empty folder, or a file in it"),
    }
}

/// Files of a folder, by their paths in it.
#[derive(Debug, Default)]
struct Files {
    copied: Vec<PathBuf>,
    /// Bytes of the files that are copied.
    bytes: u64,
    left_out: Vec<PathBuf>,
}

impl Files {
    fn list(&mut self, root: &Path, inside: &Path, depth: usize) -> Result<(), SplitError> {
        let folder = root.join(inside);
        let list = |error| FileError::io(&folder, "list")(error);
        for entry in fs::read_dir(&folder).map_err(list)? {
            let entry = entry.map_err(list)?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('.') {
                continue;
            }
            let path = inside.join(&name);
            // A link to a file is a file: caches of models consist of links. A link to a folder may lead anywhere.
            let kind = entry.file_type().map_err(list)?;
            if kind.is_dir() && depth > 0 {
                self.list(root, &path, depth - 1)?;
            } else if let Ok(data) = fs::metadata(entry.path())
                && data.is_file()
            {
                match (Content::of(&name.to_string_lossy()), data.len() <= LARGEST) {
                    (Content::Checkpoint, _) => {}
                    (Content::Other, true) => {
                        self.copied.push(path);
                        self.bytes += data.len();
                    }
                    _ => self.left_out.push(path),
                }
            }
            if self.copied.len() + self.left_out.len() > MOST_FILES {
                let problem = format!(
                    "{}: has more than {MOST_FILES} files: name the checkpoint in it, or write a file",
                    root.display()
                );
                return Err(SplitError::Usage(problem));
            }
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.copied.sort();
        self.left_out.sort();
    }
}

/// What a file holds, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Content {
    /// Safetensors, or the index of such files.
    Checkpoint,
    /// Weights in another format.
    Weights,
    Other,
}

impl Content {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        let is_index = name.contains(".index.") && name.ends_with(".json");
        match Path::new(&name).extension().and_then(|ending| ending.to_str()) {
            Some("safetensors") => Self::Checkpoint,
            Some("json") if is_index && !name.contains(".bin.") => Self::Checkpoint,
            Some("json") if is_index => Self::Weights,
            Some(ending) if WEIGHTS.contains(&ending) => Self::Weights,
            _ => Self::Other,
        }
    }
}

/// The text of the model's config, with the entry that says that its weights are split.
fn marked(path: &Path, budget: &Budget) -> Result<Vec<u8>, SplitError> {
    let malformed = |problem: String| FileError::malformed(path, problem);
    let read = |error| FileError::io(path, "read")(error);
    let length = fs::metadata(path).map_err(read)?.len();
    if length > LONGEST_CONFIG {
        return Err(malformed("is too long for a model's config".into()).into());
    }
    // The parsed values, and both texts.
    let _held = budget.reserve_table(64 * length, "the model's config")?;
    let text = fs::read(path).map_err(read)?;
    let plain = without_infinities(&text);
    let mut config: Map<String, Value> =
        serde_json::from_slice(&plain).map_err(|error| malformed(format!("is no JSON object: {error}")))?;
    if let Some(old) = config.get(QUANTIZATION).filter(|old| !old.is_null()) {
        let method = old.get("quant_method").and_then(Value::as_str).unwrap_or("an unnamed method");
        let problem =
            format!("the weights are quantised already, with {method}; split needs the original weights");
        return Err(malformed(problem).into());
    }
    let entry = json!({ "quant_method": "residua" });
    if plain != text {
        if config.contains_key(QUANTIZATION) {
            return Err(malformed(format!("remove the empty entry {QUANTIZATION}")).into());
        }
        // Its numbers stay as they are: the entry goes in front of the others.
        let open = text.iter().position(|&byte| byte == b'{').unwrap_or(0) + 1;
        let entry = format!("\n  \"{QUANTIZATION}\": {entry},");
        return Ok([&text[..open], entry.as_bytes(), &text[open..]].concat());
    }
    config.insert(QUANTIZATION.to_owned(), entry);
    let mut text = serde_json::to_vec_pretty(&config).map_err(|error| malformed(error.to_string()))?;
    text.push(b'\n');
    Ok(text)
}

/// JSON with null for the words that Python writes and JSON does not know, outside of strings.
fn without_infinities(text: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];
    let (mut plain, mut at, mut inside) = (Vec::with_capacity(text.len()), 0, false);
    while at < text.len() {
        let word = WORDS.iter().find(|word| !inside && text[at..].starts_with(word));
        match (word, text[at]) {
            (Some(word), _) => {
                plain.extend_from_slice(b"null");
                at += word.len();
                continue;
            }
            // The byte after a backslash ends no string.
            (None, b'\\') if inside && at + 1 < text.len() => {
                plain.push(text[at]);
                at += 1;
            }
            (None, b'"') => inside = !inside,
            _ => {}
        }
        plain.push(text[at]);
        at += 1;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_python_are_numbers_outside_of_strings_only() {
        let plain = |text: &str| String::from_utf8(without_infinities(text.as_bytes())).unwrap();
        assert_eq!(plain(r#"{"a": [0.0, Infinity, -Infinity, NaN]}"#), r#"{"a": [0.0, null, null, null]}"#);
        let same = r#"{"NaN": "Infinity \" NaN \\", "b": 1}"#;
        assert_eq!(plain(same), same);
    }

    #[test]
    fn configs_of_python_keep_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG);
        fs::write(&path, "{\"limit\": [0.0, Infinity], \"a\": 1}").unwrap();
        let text = String::from_utf8(marked(&path, &Budget::unlimited()).unwrap()).unwrap();
        let entry = "{\n  \"quantization_config\": {\"quant_method\":\"residua\"},";
        assert_eq!(text, format!("{entry}\"limit\": [0.0, Infinity], \"a\": 1}}"));
    }

    #[test]
    fn files_are_known_by_their_names() {
        for name in ["model-00001-of-00002.safetensors", "model.safetensors", "model.safetensors.index.json"]
        {
            assert_eq!(Content::of(name), Content::Checkpoint, "{name}");
        }
        for name in ["pytorch_model.bin", "pytorch_model.bin.index.json", "m.GGUF", "model.onnx"] {
            assert_eq!(Content::of(name), Content::Weights, "{name}");
        }
        for name in
            ["config.json", "tokenizer.json", "tokenizer.model", "vocab.txt", "model_index.json", "LICENSE"]
        {
            assert_eq!(Content::of(name), Content::Other, "{name}");
        }
    }
}
