//! The exact state of a builder as a safetensors file. `docs/format.md` describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use residua_format::file::{Checkpoint, Dtype, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::{Budget, Reservation};
use serde::{Deserialize, Serialize};

use super::class::{Class, most_rows};
use super::forest::{Classes, Filed, PLACE_BYTES, Part, Place};
use super::leaves::Leaves;
use super::{StatisticsBuilder, WRITING};
use crate::Result;
use crate::error::Content;
use crate::tables::WRITTEN_CLASS;

/// The metadata entry.
pub(crate) const KEY: &str = "residua.partial";
/// The version of this layout.
const VERSION: u32 = 1;
/// Bytes of maps of classes for each byte of the metadata entry.
const MAPS: u64 = 8;
/// Bytes that are hashed at a time.
const HASHED: u64 = 1 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    leaf_rows: u64,
    /// Rows of all leaves, if known.
    total: Option<u64>,
    first_leaf: u64,
    parts: Vec<PartMeta>,
    /// Instruction sets that sums were made with; the last bits depend on them.
    made_on: BTreeSet<String>,
    /// BLAKE3 of this object with an empty hash, and then of the data, in the order of the file.
    hash: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct PartMeta {
    /// How many leaves; 0: one that is not complete.
    leaves: u64,
    /// By label: samples in mean and scatter, and samples that wait.
    classes: BTreeMap<u32, (u64, usize)>,
}

/// What the last bits of a product depend on.
fn instruction_set() -> String {
    #[cfg(target_arch = "x86_64")]
    let kind = if is_x86_feature_detected!("avx512f") {
        "-avx512"
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        "-avx2"
    } else {
        ""
    };
    #[cfg(not(target_arch = "x86_64"))]
    let kind = "";
    format!("{}{kind}", std::env::consts::ARCH)
}

impl Meta {
    /// The metadata of a file, checked, and its room.
    fn of(file: &Checkpoint, budget: &Budget) -> Result<(Self, Reservation)> {
        let text = Content::Partial.expect_in(file)?;
        let held = budget.reserve(MAPS * text.len() as u64, "the table of classes")?;
        let wrong =
            |problem: String| FileError::malformed(file.path(), format!("metadata entry {KEY}: {problem}"));
        let meta: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        meta.check().map_err(wrong)?;
        Ok((meta, held))
    }

    fn leaves(&self) -> Leaves {
        let leaves = Leaves::new(self.leaf_rows);
        self.total.map_or(leaves, |total| leaves.of_total(total))
    }

    fn text(&self, path: &Path) -> Result<String> {
        Ok(serde_json::to_string(self)
            .map_err(|error| FileError::malformed(path, format!("metadata: {error}")))?)
    }

    /// What is wrong with it.
    fn check(&self) -> Result<(), String> {
        let most = u128::from(Leaves::MOST);
        let (mut leaf, mut samples) = (u128::from(self.first_leaf), 0);
        let in_range = |number: u128| (1..=most).contains(&number);
        if self.version != VERSION {
            return Err(format!("version {}, this program reads {VERSION}", self.version));
        }
        if self.dim == 0
            || !in_range(self.leaf_rows.into())
            || self.total.is_some_and(|total| total > Leaves::MOST)
        {
            return Err(format!(
                "dimension {}, leaves of {} rows of {:?}",
                self.dim, self.leaf_rows, self.total
            ));
        }
        for (number, part) in self.parts.iter().enumerate() {
            let is_last = number + 1 == self.parts.len();
            let mut rows = 0;
            for (label, &(folded, waiting)) in &part.classes {
                if folded > Leaves::MOST || !(1..=most_rows(self.dim, folded > 0)).contains(&waiting) {
                    return Err(format!("part {number}, class {label}: {folded} and {waiting} samples"));
                }
                rows += u128::from(folded) + waiting as u128;
            }
            leaf += u128::from(part.leaves);
            samples += rows;
            // Parts of a whole that is known are never merged otherwise than as leaves.
            let whole =
                u128::from(part.leaves * u64::from(self.total.is_some())) * u128::from(self.leaf_rows);
            if !in_range(rows)
                || leaf > most
                || samples > most
                || (part.leaves == 0 && !is_last)
                || (whole > 0 && whole != rows && !is_last)
            {
                return Err(format!("part {number}: {rows} samples in {} leaves", part.leaves));
            }
        }
        Ok(())
    }
}

impl StatisticsBuilder {
    /// Writes all that is collected to a file, exactly: a builder that is [loaded](Self::load) from it goes on as this one
    /// would. The file appears complete or not at all. Equal states make equal files. Returns the bytes of the file.
    ///
    /// # Errors
    /// When the file cannot be written, or the budget has no room for the tables of its tensors.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<u64> {
        self.expect_whole()?;
        let mut meta = self.meta();
        let budget = self.forest.budget();
        let classes = meta.parts.iter().map(|part| part.classes.len() as u64).sum::<u64>();
        let _held = budget.reserve(WRITTEN_CLASS.saturating_mul(classes), WRITING)?;
        let file = SafetensorsWriter::create(path.as_ref(), 512 + (256 + 2 * 40) * classes)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(meta.text(file.path())?.as_bytes());
        let mut writer = Writer { file, hasher };
        for (number, part) in self.forest.parts.iter().enumerate() {
            match &part.classes {
                Classes::Memory(map) => {
                    map.iter().try_for_each(|(&label, class)| writer.class(number, label, class))?;
                }
                Classes::File(filed) => {
                    for (&label, place) in &filed.places {
                        let held = budget.reserve(place.bytes(self.dim), WRITING)?;
                        writer.class(number, label, &filed.read(label, place, self.dim, held)?)?;
                    }
                }
            }
        }
        let number = self.forest.parts.len();
        self.open.iter().try_for_each(|(&label, class)| writer.class(number, label, class))?;
        let Writer { mut file, hasher } = writer;
        meta.hash = hasher.finalize().to_hex().to_string();
        file.metadata(KEY, meta.text(file.path())?);
        Ok(file.finish()?)
    }

    fn meta(&self) -> Meta {
        let dim = self.dim.max(1);
        let in_memory = |map: &BTreeMap<u32, Class>| {
            map.iter().map(|(&label, class)| (label, (class.folded, class.rows.len() / dim))).collect()
        };
        let part = |part: &Part| {
            let classes = match &part.classes {
                Classes::Memory(map) => in_memory(map),
                Classes::File(filed) => {
                    filed.places.iter().map(|(&label, place)| (label, (place.folded, place.rows))).collect()
                }
            };
            PartMeta { leaves: part.leaves, classes }
        };
        let mut parts: Vec<_> = self.forest.parts.iter().map(part).collect();
        if !self.open.is_empty() {
            parts.push(PartMeta { leaves: 0, classes: in_memory(&self.open) });
        }
        let mut made_on = self.made_on.clone();
        if parts.iter().flat_map(|part| part.classes.values()).any(|&(folded, _)| folded > 0) {
            made_on.insert(instruction_set());
        }
        Meta {
            version: VERSION,
            dim: self.dim,
            leaf_rows: self.leaves.rows(),
            total: self.leaves.total(),
            first_leaf: self.first,
            parts,
            made_on,
            hash: String::new(),
        }
    }

    /// Whether a file holds what [`save`](Self::save) writes.
    pub fn is_in(file: &Checkpoint) -> bool {
        Content::of(file) == Content::Partial
    }

    /// The number of the first leaf in a file that [`save`](Self::save) wrote, and how samples are cut into leaves.
    ///
    /// # Errors
    /// As [`load`](Self::load); it does not check the hash.
    pub fn peek(path: impl AsRef<Path>, budget: &Budget) -> Result<(u64, Leaves)> {
        let file = Checkpoint::open_within(path, budget)?;
        let (meta, _held) = Meta::of(&file, budget)?;
        Ok((meta.first_leaf, meta.leaves()))
    }

    /// Opens what [`save`](Self::save) wrote, and checks its hash. Classes stay in the file until they are merged: do not
    /// change it meanwhile.
    ///
    /// # Errors
    /// When the file cannot be read, is not one that [`save`](Self::save) writes, or is damaged; when the budget has no
    /// room.
    pub fn load(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        let path = path.as_ref();
        let file = Checkpoint::open_within(path, budget)?;
        let (mut meta, _held) = Meta::of(&file, budget)?;
        let mut new = Self::part(meta.dim, meta.leaves(), meta.first_leaf, budget);

        let data = Arc::new(File::open(path).map_err(FileError::io(path, "open"))?);
        let hash = std::mem::take(&mut meta.hash);
        let mut hasher = blake3::Hasher::new();
        hasher.update(meta.text(path)?.as_bytes());
        let mut reader = Reader { file: &file, data: &data, dim: meta.dim, tensors: 0, hasher };
        for (number, part) in meta.parts.iter().enumerate() {
            let held = budget.reserve(PLACE_BYTES * part.classes.len() as u64, "the table of classes")?;
            let places = reader.places(number, part)?;
            let filed = Filed { file: Arc::clone(&data), path: path.to_owned(), places, held };
            let (first, classes) = (new.next_leaf(), Classes::File(filed));
            if part.leaves == 0 {
                new.open_rows = classes.counts().map(|(_, count)| count).sum();
            }
            new.forest.parts.push(Part { first, leaves: part.leaves, classes });
        }
        if reader.tensors != file.tensors().len() {
            let problem =
                format!("{} tensors, but its classes have {}", file.tensors().len(), reader.tensors);
            return Err(FileError::malformed(path, problem).into());
        }
        if reader.hasher.finalize().to_hex().as_str() != hash {
            return Err(
                FileError::malformed(path, "its content does not have the hash that it states").into()
            );
        }
        new.made_on = meta.made_on;
        Ok(new)
    }
}

/// Names of the tensors of a class.
fn names(part: usize, label: u32) -> [String; 3] {
    ["mean", "scatter", "rows"].map(|tensor| format!("part.{part}.class.{label}.{tensor}"))
}

struct Writer {
    file: SafetensorsWriter,
    hasher: blake3::Hasher,
}

impl Writer {
    fn class(&mut self, part: usize, label: u32, class: &Class) -> Result<()> {
        let dim = class.mean.len();
        let rows = if class.rows.is_double { Dtype::F64 } else { Dtype::F32 };
        let kinds = [
            (Dtype::F64, vec![dim]),
            (Dtype::F64, vec![class.scatter.len()]),
            (rows, vec![class.rows.len() / dim.max(1), dim]),
        ];
        for ((name, bytes), (dtype, shape)) in names(part, label).iter().zip(class.numbers()).zip(kinds) {
            if !bytes.is_empty() {
                self.file.tensor(name, dtype, &shape, bytes)?;
                self.hasher.update(bytes);
            }
        }
        Ok(())
    }
}

/// Finds and hashes the tensors of a file.
struct Reader<'a> {
    file: &'a Checkpoint,
    data: &'a File,
    dim: usize,
    /// How many were found.
    tensors: usize,
    hasher: blake3::Hasher,
}

impl Reader<'_> {
    fn places(&mut self, number: usize, part: &PartMeta) -> Result<BTreeMap<u32, Place>> {
        let mut places = BTreeMap::new();
        // A hostile dimension must not overflow; a tensor of that shape cannot exist.
        let lower = (self.dim as u128 * (self.dim as u128 + 1) / 2).try_into().unwrap_or(usize::MAX);
        for (&label, &(folded, rows)) in &part.classes {
            let [mean, scatter, samples] = names(number, label);
            let mut place = Place { folded, rows, ..Place::default() };
            if folded > 0 {
                place.mean = self.find(&mean, &[self.dim], &[Dtype::F64])?.offset();
                place.scatter = self.find(&scatter, &[lower], &[Dtype::F64])?.offset();
            }
            let samples = self.find(&samples, &[rows, self.dim], &[Dtype::F32, Dtype::F64])?;
            (place.samples, place.is_double) = (samples.offset(), samples.dtype == Dtype::F64);
            places.insert(label, place);
        }
        Ok(places)
    }

    fn find(&mut self, name: &str, shape: &[usize], dtypes: &[Dtype]) -> Result<TensorInfo> {
        let tensor = self.file.expect_tensor(name)?;
        let path = self.file.file_of(tensor);
        if tensor.shape != shape || !dtypes.contains(&tensor.dtype) {
            let problem = format!("{} {:?}, expected {} {shape:?}", tensor.dtype, tensor.shape, dtypes[0]);
            return Err(FileError::tensor(path, name, problem).into());
        }
        let mut buffer = vec![0; tensor.bytes.min(HASHED) as usize];
        let (mut data, mut left) = (self.data, tensor.bytes);
        let failed = |error| FileError::io(path, format!("read tensor {name}"))(error);
        data.seek(SeekFrom::Start(tensor.offset())).map_err(failed)?;
        while left > 0 {
            let block = &mut buffer[..left.min(HASHED) as usize];
            data.read_exact(block).map_err(failed)?;
            self.hasher.update(block);
            left -= block.len() as u64;
        }
        self.tensors += 1;
        Ok(tensor.clone())
    }
}
