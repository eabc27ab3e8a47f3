//! Dense checkpoints.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use residua_memory::Budget;
use safetensors::Dtype;

use super::folder::{self, Found, listed};
use super::header::{Header, by_name, hash_now};
use super::header_memory::HeaderMemory;
use super::index_json::{self, Shards};
use super::positioned::{open_regular, read_exact_at};
use super::{FileError, Result};

/// The safetensors files of one model, open for positioned reads.
///
/// Always checked: headers are well-formed, every tensor's bytes lie inside its file and match its shape and
/// element type, no two tensors overlap or share a name; an index names only tensors that their shards hold. The
/// index decides which shard a tensor comes from: tensors that it does not place in a shard are left out.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    index: Option<PathBuf>,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    /// Tensors in the order of their names.
    by_name: Vec<u32>,
    metadata: BTreeMap<String, String>,
    notes: Vec<String>,
    held: HeaderMemory,
}

/// Memory of a shard and its open file.
pub(super) const SHARD: u64 = 256;

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    /// Whether all of its tensors are the checkpoint's.
    whole: bool,
    /// Of its header when it was opened.
    header_hash: [u8; 32],
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
    shard: u32,
    /// From the start of the shard.
    offset: u64,
}

impl TensorInfo {
    /// A tensor of a header.
    pub(super) fn new(name: String, dtype: Dtype, shape: Vec<usize>, bytes: u64, offset: u64) -> Self {
        Self { name, dtype, shape, bytes, shard: 0, offset }
    }

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
    /// Opens a `.safetensors` file, an index of shards (`….json`), or a folder: its index of shards, else its
    /// `model.safetensors`, else its one `.safetensors` file.
    ///
    /// # Errors
    /// When a file is missing, malformed or not a regular file; when an index places a tensor in a shard that does
    /// not hold it, or a shard outside its folder; when a folder holds no checkpoint, several indices, or several
    /// files of which none is called `model.safetensors`.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_within(path, &Budget::unlimited())
    }

    /// As [`open`](Self::open), with the memory of the headers taken from `budget` as long as the checkpoint is open.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the budget does not hold the headers.
    pub fn open_within(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        Self::open_at(path.as_ref(), budget)
    }

    fn open_at(path: &Path, budget: &Budget) -> Result<Self> {
        let mut new = Self {
            path: path.to_owned(),
            index: None,
            shards: Vec::new(),
            tensors: Vec::new(),
            by_name: Vec::new(),
            metadata: BTreeMap::new(),
            notes: Vec::new(),
            held: HeaderMemory::new(budget),
        };
        let is_json = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"));
        if path.is_dir() {
            let Found { file, is_index, mut beside } = folder::find(path)?;
            if is_index {
                let shards = new.add_shards(&file)?;
                beside.retain(|name| !shards.contains_key(Path::new(name)));
            } else {
                new.add(&file, None)?;
            }
            if !beside.is_empty() {
                new.notes.push(format!("{} is read, not {}", file.display(), listed(&beside)));
            }
            new.index = is_index.then_some(file);
        } else if is_json {
            new.add_shards(path)?;
            new.index = Some(path.to_owned());
        } else {
            new.add(path, None)?;
        }
        Ok(new)
    }

    fn add_shards(&mut self, index: &Path) -> Result<Shards> {
        let (shards, _held) = index_json::read(index, self.held.budget())?;
        for (shard, names) in &shards {
            self.add(&index.with_file_name(shard), Some(names))?;
        }
        self.by_name = by_name(&self.tensors);
        Ok(shards)
    }

    /// Adds one file's tensors: all, or those of the sorted `names`.
    fn add(&mut self, path: &Path, names: Option<&[String]>) -> Result<()> {
        let (file, _) = open_regular(path)?;
        self.held.grow(SHARD, path)?;
        let (mut header, start) = Header::read(path, &file, &mut self.held)?;
        for (key, value) in header.metadata {
            self.metadata.entry(key).or_insert(value);
        }
        let shard = self.shards.len() as u32;
        let all = header.tensors.len();
        if let Some(names) = names {
            header.tensors.retain(|tensor| names.binary_search(&tensor.name).is_ok());
            if header.tensors.len() < names.len() {
                let there: HashSet<_> = header.tensors.iter().map(|tensor| &tensor.name).collect();
                let missing = names.iter().find(|name| !there.contains(name)).map_or("", |name| name);
                return Err(FileError::missing(path, missing, []));
            }
        }
        let added = header.tensors.len();
        header.tensors.iter_mut().for_each(|tensor| {
            tensor.shard = shard;
            tensor.offset += start;
        });
        if self.tensors.is_empty() {
            (self.tensors, self.by_name) = (header.tensors, header.by_name);
        } else {
            self.tensors.extend(header.tensors);
        }
        if added < all {
            let (out, tensors) = (all - added, if all - added == 1 { "tensor" } else { "tensors" });
            let path = path.display();
            self.notes.push(format!("{path}: left out {out} {tensors} that the index does not place there"));
        }
        let header_hash = header.hash;
        self.shards.push(Shard { path: path.to_owned(), file, whole: added == all, header_hash });
        Ok(())
    }

    /// Takes more of the budget, for what a reader keeps beside the headers.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.held.grow(bytes, &self.path)
    }

    /// The budget that holds the headers.
    pub fn budget(&self) -> &Budget {
        self.held.budget()
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The index of a sharded checkpoint.
    pub fn index(&self) -> Option<&Path> {
        self.index.as_deref()
    }

    /// What a person should know about how the path was understood, a line each: files of a folder and tensors of
    /// shards that are left out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The one file whose tensors are exactly those of this checkpoint, where there is one.
    pub fn whole_file(&self) -> Option<&Path> {
        match &*self.shards {
            [Shard { path, whole: true, .. }] => Some(path),
            _ => None,
        }
    }

    /// The text of the header of [`whole_file`](Self::whole_file), from the file as it was opened.
    ///
    /// # Errors
    /// When the file cannot be read, or is no longer text there.
    pub fn whole_header(&self) -> Result<Option<String>> {
        let [Shard { path, file, whole: true, .. }] = &*self.shards else { return Ok(None) };
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        // Tensors lie end to end behind the header.
        let start = self.tensors.first().map_or(length, |tensor| tensor.offset);
        let mut text = vec![0; start.saturating_sub(8) as usize];
        read_exact_at(file, &mut text, 8).map_err(FileError::io(path, "read"))?;
        let text = String::from_utf8(text);
        text.map(Some).map_err(|error| FileError::malformed(path, format!("safetensors header: {error}")))
    }

    /// An error if somebody has written to the header of a file since it was opened: then tensors may lie elsewhere.
    ///
    /// # Errors
    /// When a header differs, or cannot be read.
    pub fn expect_same_headers(&self) -> Result<()> {
        self.shards.iter().try_for_each(|Shard { path, file, header_hash, .. }| {
            match hash_now(file).map_err(FileError::io(path, "read"))? {
                Some(hash) if hash == *header_hash => Ok(()),
                _ => Err(FileError::malformed(path, "its header has changed since the file was opened")),
            }
        })
    }

    /// The files, in the order of their tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shards.iter().map(|shard| &*shard.path)
    }

    /// The file that holds a tensor of this checkpoint.
    pub fn file_of(&self, tensor: &TensorInfo) -> &Path {
        self.shards.get(tensor.shard as usize).map_or(&self.path, |shard| &shard.path)
    }

    /// Every tensor: in the order of the files, inside a file in the order of the data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.position(name).map(|i| &self.tensors[i])
    }

    /// Where a tensor is in [`tensors`](Self::tensors).
    pub fn position(&self, name: &str) -> Option<usize> {
        let found = self.by_name.binary_search_by(|&i| (*self.tensors[i as usize].name).cmp(name));
        found.ok().map(|place| self.by_name[place] as usize)
    }

    /// Every tensor and its place in [`tensors`](Self::tensors), in the bytewise order of names.
    pub fn tensors_by_name(&self) -> impl Iterator<Item = (usize, &TensorInfo)> {
        self.by_name.iter().map(|&i| (i as usize, &self.tensors[i as usize]))
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
        let Some(shard) = self.shards.get(tensor.shard as usize) else {
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
            .map_err(|error| FileError::io(&shard.path, format!("read tensor {}", tensor.name))(error))
    }
}
