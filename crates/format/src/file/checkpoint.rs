//! Dense checkpoints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use super::header::Header;
use super::index_json::IndexJson;
use super::positioned::read_exact_at;
use super::{FileError, Result};

/// The safetensors files of one model, open for positioned reads.
///
/// Invariants, always checked: headers are well-formed; the bytes of every tensor lie inside its file and match its
/// shape and element type; no two tensors overlap or share a name; an index and its shards name the same tensors.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    index: Option<PathBuf>,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
}

/// Name, element type, shape and place of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first, elements row-major.
    pub shape: Vec<usize>,
    /// Bytes of its data.
    pub bytes: u64,
    shard: usize,
    /// From the start of the shard.
    offset: u64,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // The header was checked, so the product fits.
        self.shape.iter().map(|&size| size as u64).product()
    }

    /// Where its data starts, in bytes from the start of its file.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl Checkpoint {
    /// Opens a `.safetensors` file, an index of shards (`….json`), or a directory. In a directory it looks for
    /// `model.safetensors`, then `model.safetensors.index.json`, then for the only other file of either kind.
    ///
    /// # Errors
    /// When a file is missing or malformed, or index and shards name different tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_at(path.as_ref())
    }

    fn open_at(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { find(path)? } else { path.to_owned() };
        let mut new = Self {
            path: path.to_owned(),
            index: None,
            shards: Vec::new(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            metadata: BTreeMap::new(),
        };
        if file.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json")) {
            new.add_shards(&file)?;
            new.index = Some(file);
        } else {
            new.add(&file)?;
        }
        Ok(new)
    }

    fn add_shards(&mut self, index: &Path) -> Result<()> {
        let map = IndexJson::read(index)?;
        let shards: BTreeSet<&String> = map.values().collect();
        for shard in shards {
            let path = index.with_file_name(shard);
            let first = self.tensors.len();
            self.add(&path)?;
            for tensor in &self.tensors[first..] {
                if map.get(&tensor.name) != Some(shard) {
                    let problem = format!("the index {} places it in another file", index.display());
                    return Err(FileError::tensor(&path, &tensor.name, problem));
                }
            }
        }
        match map.iter().find(|(tensor, _)| !self.by_name.contains_key(*tensor)) {
            Some((tensor, shard)) => Err(FileError::missing(&index.with_file_name(shard), tensor, [])),
            None => Ok(()),
        }
    }

    /// Adds the tensors of one file.
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = File::open(path).map_err(FileError::io(path, "open"))?;
        let (header, start) = Header::read(path, &file)?;
        for (key, value) in header.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        let shard = self.shards.len();
        self.shards.push(Shard { path: path.to_owned(), file });
        for (name, entry) in header.tensors {
            let (from, to) = entry.data_offsets;
            if let Some(other) = self.by_name.insert(name.clone(), self.tensors.len()) {
                let other = self.shards[self.tensors[other].shard].path.display();
                return Err(FileError::tensor(path, &name, format!("{other} holds it too")));
            }
            let (bytes, offset) = (to - from, start + from);
            self.tensors.push(TensorInfo {
                name,
                dtype: entry.dtype,
                shape: entry.shape,
                bytes,
                shard,
                offset,
            });
        }
        Ok(())
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The index of a sharded checkpoint.
    pub fn index(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// The files, in the order of their tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| &*shard.path)
    }

    /// The file that holds a tensor of this checkpoint.
    pub fn file_of(&self, tensor: &TensorInfo) -> &Path {
        self.shards.get(tensor.shard).map_or(&self.path, |shard| &shard.path)
    }

    /// Every tensor: in the order of the files, inside a file in the order of the data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&i| &self.tensors[i])
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// When there is no tensor of this name. The error lists some names that are there.
    pub fn expect_tensor(&self, name: &str) -> Result<&TensorInfo> {
        let names = self.tensors.iter().map(|tensor| &*tensor.name);
        let missing = || FileError::missing(&self.path, name, names);
        self.tensor(name).ok_or_else(missing)
    }

    /// Metadata of the files. Where shards differ, the first one counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Bytes of all tensors.
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).sum()
    }

    /// Fills `out` with the bytes of a tensor of this checkpoint, from `offset` on; little-endian, as in the file.
    /// Several threads may call it at once.
    ///
    /// # Errors
    /// When the range goes beyond the end of the tensor, or the file cannot be read.
    pub fn read_at(&self, tensor: &TensorInfo, offset: u64, out: &mut [u8]) -> Result<()> {
        let Some(shard) = self.shards.get(tensor.shard) else {
            return Err(FileError::missing(&self.path, &tensor.name, []));
        };
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > tensor.bytes) {
            return Err(FileError::Truncated {
                path: shard.path.clone(),
                what: format!("a read of tensor {} at byte {offset}", tensor.name),
                needed: out.len() as u64,
                found: tensor.bytes.saturating_sub(offset),
            });
        }
        read_exact_at(&shard.file, out, tensor.offset + offset)
            .map_err(FileError::io(&shard.path, format!("read tensor {}", tensor.name)))
    }
}

/// The only checkpoint in a directory.
fn find(directory: &Path) -> Result<PathBuf> {
    for name in ["model.safetensors", "model.safetensors.index.json"] {
        let path = directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let entries = fs::read_dir(directory).map_err(FileError::io(directory, "list"))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(FileError::io(directory, "list"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let hidden = name.starts_with('.');
        if !hidden && (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) {
            found.push(path);
        }
    }
    // An index stands for its shards.
    if found.iter().filter(|path| path.extension().is_some_and(|s| s == "json")).count() == 1 {
        found.retain(|path| path.extension().is_some_and(|s| s == "json"));
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(FileError::malformed(directory, "holds no .safetensors file and no index of shards")),
        many => {
            let problem = format!("holds {} .safetensors files and no index: name one", many.len());
            Err(FileError::malformed(directory, problem))
        }
    }
}
