//! Statistics as a safetensors file.
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | `class.{label}.mean` | F64 | `[d]` |
//! | `class.{label}.packed` | F64, F32 or BF16 | `[d(d+1)/2]`: the lower triangle, column after column |
//! | `class.{label}.factor` | F64, F32 or BF16 | `[r, d]`, `Σ = factorᵀ·factor + diagonal` |
//! | `class.{label}.diagonal` | F64 | `[d]`, or `[1]` for a multiple of the identity |
//! | `errors` | F64 | `[classes]`, labels rising: estimated squared errors of means; absent where all are 0 |
//!
//! The metadata entry `residua.statistics` holds a JSON object: version, dimension, counts by label, and a [`Tag`] if
//! something is known about the feature space.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use nalgebra::DVector;
use residua_format::file::{Checkpoint, Dtype, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::{Budget, ErrorKind, Reservation};
use serde::{Deserialize, Serialize};

use super::gaussian::CLASS_BYTES;
use super::values::Values;
use super::{ClassGaussian, ClassStatistics, Covariance, Diagonal, Form, Precision};
use crate::error::{Content, same_dimension};
use crate::tables::{Header, WRITTEN_CLASS};
use crate::{Result, Tag};

/// The metadata entry.
pub(crate) const KEY: &str = "residua.statistics";
/// The version of this layout.
const VERSION: u32 = 1;
/// What a file that is written takes memory for, in errors.
pub(crate) const WRITING: &str = "the tables of the file that is written";
/// The tensor of errors of means.
const ERRORS: &str = "errors";
/// Names of the tensors of a class.
const PARTS: [&str; 4] = ["mean", "packed", "factor", "diagonal"];
/// Bytes of maps of classes for each byte of the metadata entry.
pub(crate) const MAPS: u64 = 8;
/// Bytes of a class in the metadata entry: more than labels and counts of data that fits into memory take.
const LONGEST_ENTRY: u64 = 14;
/// What classes take memory for, in errors.
const STATISTICS: &str = "class statistics";

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    /// Samples by label.
    classes: BTreeMap<u32, u64>,
    #[serde(default, skip_serializing_if = "Tag::is_empty")]
    tag: Tag,
}

/// Class statistics in a file. Classes are read one by one, on demand.
#[derive(Debug)]
pub struct StatisticsReader {
    file: Arc<Checkpoint>,
    dim: usize,
    classes: BTreeMap<u32, Stored>,
    tag: Tag,
    _held: Reservation,
}

/// A class in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    /// Its tensors are `class.{number}.…`.
    pub(crate) number: u64,
    /// Number of its samples.
    pub(crate) count: u64,
    /// The estimated squared error of its mean.
    pub(crate) error: f64,
}

impl StatisticsReader {
    /// Opens what [`ClassStatistics::save`] or a [`StatisticsWriter`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds no class statistics, or the budget has no room for its tables of tensors and
    /// classes.
    pub fn open(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        Self::of(Checkpoint::open_within(path, budget)?, budget)
    }

    /// The statistics in an open file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of(file: Checkpoint, budget: &Budget) -> Result<Self> {
        let path = file.path();
        let meta = Content::Statistics.expect_in(&file)?;
        let held = budget.reserve(MAPS * meta.len() as u64, "the table of classes")?;
        let meta: Meta = serde_json::from_str(meta)
            .map_err(|error| FileError::malformed(path, format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            let problem = format!("statistics of version {}, this program reads {VERSION}", meta.version);
            return Err(FileError::malformed(path, problem).into());
        }
        let errors = read_errors(&file, meta.classes.len())?;
        let stored = |((label, count), at): ((u32, u64), usize)| {
            (label, Stored { number: label.into(), count, error: errors.get(at).copied().unwrap_or(0.0) })
        };
        let classes = meta.classes.into_iter().zip(0..).map(stored).collect();
        Ok(Self::new(Arc::new(file), meta.dim, classes, meta.tag, held))
    }

    /// Whether a file holds class statistics.
    pub fn is_in(file: &Checkpoint) -> bool {
        Content::of(file) == Content::Statistics
    }

    /// These classes of a file, and the room of their map.
    pub(crate) fn new(
        file: Arc<Checkpoint>,
        dim: usize,
        classes: BTreeMap<u32, Stored>,
        tag: Tag,
        held: Reservation,
    ) -> Self {
        Self { file, dim, classes, tag, _held: held }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// What the file knows about the feature space.
    pub fn tag(&self) -> &Tag {
        &self.tag
    }

    /// The same classes with another tag.
    pub(crate) fn with_tag(self, tag: Tag) -> Self {
        Self { tag, ..self }
    }

    /// The estimated squared error of a class's mean, [`ClassGaussian::error`]; 0 if there is no such class.
    pub fn error(&self, label: u32) -> f64 {
        self.classes.get(&label).map_or(0.0, |class| class.error)
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no class.
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Labels, rising, and numbers of samples.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        self.classes.iter().map(|(&label, class)| (label, class.count))
    }

    /// Labels, rising, and where classes are.
    pub(crate) fn stored(&self) -> impl Iterator<Item = (u32, Stored)> {
        self.classes.iter().map(|(&label, &class)| (label, class))
    }

    /// Bytes of all means and covariances.
    pub fn bytes(&self) -> u64 {
        let part = |class: &Stored, part| self.file.tensor(&format!("class.{}.{part}", class.number));
        let bytes = |class| {
            PARTS.into_iter().filter_map(|name| part(class, name)).map(|part| part.bytes).sum::<u64>()
        };
        self.classes.values().map(bytes).sum()
    }

    /// The columns of covariances that are factors alone, `None` for all others: every number that occurs, once.
    pub(crate) fn ranks(&self) -> Result<BTreeSet<Option<usize>>> {
        let rank = |class: &Stored| {
            let part = |part| self.file.tensor(&format!("class.{}.{part}", class.number));
            let (Some(factor), Some(diagonal)) = (part("factor"), part("diagonal")) else { return Ok(None) };
            // A longer diagonal is not zero.
            if diagonal.shape != [1] || vector(&self.file, diagonal, &[1])?[0] != 0.0 {
                return Ok(None);
            }
            Ok(factor.shape.first().copied())
        };
        self.classes.values().map(rank).collect()
    }

    /// The size of all classes.
    pub fn extent(&self) -> Extent {
        let mut counts = self.counts().map(|(_, count)| count);
        let first = counts.next();
        let equal = counts.all(|count| Some(count) == first);
        let bytes = self.bytes() + CLASS_BYTES * self.len() as u64;
        Extent { dim: self.dim, classes: self.len(), equal, bytes }
    }

    /// Reads one class and checks every number; `None` if there is no such class.
    ///
    /// # Errors
    /// When its tensors are malformed, or the budget has no room.
    pub fn class(&self, label: u32, budget: &Budget) -> Result<Option<ClassGaussian>> {
        self.classes.get(&label).map(|&class| self.read_stored(class, budget)).transpose()
    }

    /// Reads one of [`stored`](Self::stored).
    pub(crate) fn read_stored(&self, class: Stored, budget: &Budget) -> Result<ClassGaussian> {
        read_class(&self.file, class, self.dim, budget)
    }

    /// Reads all classes and checks every number.
    ///
    /// # Errors
    /// As [`class`](Self::class).
    pub fn load(&self, budget: &Budget) -> Result<ClassStatistics> {
        // For all classes at once, so that an error states the whole need.
        budget.require(self.extent().bytes, STATISTICS)?;
        self.read(self.classes.keys().copied(), budget)
    }

    /// Reads the classes with these labels and checks every number. Labels that the file lacks are skipped.
    ///
    /// # Errors
    /// As [`class`](Self::class).
    pub fn read(&self, labels: impl IntoIterator<Item = u32>, budget: &Budget) -> Result<ClassStatistics> {
        let mut statistics = ClassStatistics::new(self.dim).with_tag(self.tag.clone());
        for label in labels {
            if let Some(class) = self.class(label, budget)? {
                statistics.insert(label, class)?;
            }
        }
        Ok(statistics)
    }
}

/// Writes class statistics to a file class by class, so that memory need not hold all of them.
///
/// The file appears, complete, at [`finish`](Self::finish). A writer that is dropped before leaves no trace.
#[derive(Debug)]
pub struct StatisticsWriter {
    file: SafetensorsWriter,
    meta: Meta,
    /// Errors of means by label.
    errors: BTreeMap<u32, f64>,
    _held: Reservation,
}

impl StatisticsWriter {
    /// Starts a file that will replace `path`, for about `classes` classes of features of dimension `dim`.
    ///
    /// # Errors
    /// When the file cannot be created, or the budget has no room for the tables of its tensors.
    pub fn create(path: impl AsRef<Path>, dim: usize, classes: usize, budget: &Budget) -> Result<Self> {
        let held = budget.reserve(WRITTEN_CLASS.saturating_mul(classes as u64), WRITING)?;
        // A label and a count have at most 10 and 20 digits.
        let header = 512 + (256 + 2 * 36) * classes as u64;
        let file = SafetensorsWriter::create(path.as_ref(), header)?;
        let meta = Meta { version: VERSION, dim, classes: BTreeMap::new(), tag: Tag::default() };
        Ok(Self { file, meta, errors: BTreeMap::new(), _held: held })
    }

    /// With this knowledge about the feature space.
    #[must_use]
    pub fn with_tag(mut self, tag: Tag) -> Self {
        self.meta.tag = tag;
        self
    }

    /// Writes a class.
    ///
    /// # Errors
    /// When its dimension differs, the label has been written before, or the file cannot be written.
    pub fn add(&mut self, label: u32, class: &ClassGaussian) -> Result<()> {
        same_dimension("a class", class.dim(), self.meta.dim)?;
        write_class(&mut self.file, label.into(), class)?;
        self.meta.classes.insert(label, class.count());
        self.errors.insert(label, class.error());
        Ok(())
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When the file cannot be written. A file that was there stays.
    pub fn finish(mut self) -> Result<Written> {
        write_errors(&mut self.file, self.errors.values().copied())?;
        let json = serde_json::to_string(&self.meta)
            .map_err(|error| FileError::malformed(self.file.path(), format!("metadata: {error}")))?;
        self.file.metadata(KEY, json);
        let Meta { dim, classes, .. } = &self.meta;
        Ok(Written {
            classes: classes.len(),
            samples: classes.values().sum(),
            dim: *dim,
            bytes: self.file.data_bytes(),
            file_bytes: self.file.finish()?,
        })
    }
}

/// A file of class statistics that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Number of classes.
    pub classes: usize,
    /// Samples of all classes.
    pub samples: u64,
    /// The feature dimension d.
    pub dim: usize,
    /// Bytes of all means and covariances.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// The size of class statistics.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Extent {
    /// The feature dimension d.
    pub dim: usize,
    /// Number of classes.
    pub classes: usize,
    /// Whether all classes are known to have the same number of samples.
    pub equal: bool,
    /// Bytes of the statistics in memory.
    pub bytes: u64,
}

impl ClassStatistics {
    /// Writes the statistics to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, or the budget has no room for the tables of its tensors.
    pub fn save(&self, path: impl AsRef<Path>, budget: &Budget) -> Result<Written> {
        let mut file =
            StatisticsWriter::create(path, self.dim(), self.len(), budget)?.with_tag(self.tag().clone());
        self.iter().try_for_each(|(label, class)| file.add(label, class))?;
        file.finish()
    }

    /// Reads statistics and checks every number.
    ///
    /// # Errors
    /// When the file is not one that [`save`](Self::save) writes, or the budget has no room.
    pub fn load(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        Self::load_for(path, |_| 0, budget)
    }

    /// As [`load`](Self::load), for work that then takes `work` bytes beside the statistics. A budget that is too small for
    /// both is refused at once, with the smallest one that is enough.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_for(path: impl AsRef<Path>, work: impl Fn(&Extent) -> u64, budget: &Budget) -> Result<Self> {
        let (path, before) = (path.as_ref(), budget.used());
        let file = match StatisticsReader::open(path, budget) {
            Err(error) if error.kind() == ErrorKind::Budget => {
                require_load(&[path], work, budget)?;
                return Err(error);
            }
            other => other?,
        };
        let extent = file.extent();
        // The file is closed when the work begins.
        let closed = budget.used() - before;
        let work = extent.bytes.saturating_add(work(&extent)).saturating_sub(closed);
        budget.require(extent.bytes.max(work), STATISTICS)?;
        file.load(budget)
    }
}

/// The size of the statistics in a file that is not open.
fn header_extent(header: &Header) -> Extent {
    let bytes = header.data + CLASS_BYTES * header.classes;
    Extent { dim: header.dim as usize, classes: header.classes as usize, equal: false, bytes }
}

/// Bytes of an open file of statistics.
fn open_bytes(header: &Header) -> u64 {
    header.memory.1 + MAPS * LONGEST_ENTRY * header.classes
}

/// An error unless the budget has room to read these files of class statistics at once, for `work` bytes more, and to
/// write their classes to one file, with the smallest budget that is enough.
///
/// # Errors
/// When a file cannot be read, or the budget has no room.
pub(crate) fn require_rewrite<P: AsRef<Path>>(inputs: &[P], work: u64, budget: &Budget) -> Result<()> {
    let (mut labels, mut more) = (BTreeSet::new(), 0);
    let mut room = budget.reserve(0, WRITING)?;
    let (mut open, mut most, mut dim, mut class, mut all) = (0, 0, 0, 0, 0);
    for input in inputs {
        let header = Header::scan_classes(input.as_ref(), &mut |label| {
            if labels.contains(&label) {
                return;
            }
            match room.grow(LABEL, WRITING) {
                Ok(()) => drop(labels.insert(label)),
                Err(_) => more += 1,
            }
        })?;
        most = most.max(open + header.memory.0);
        open += open_bytes(&header);
        all += header.classes;
        dim = dim.max(header.dim as usize);
        class = class.max(header.data / header.classes.max(1));
    }
    let classes = labels.len() as u64 + more;
    drop((labels, room));
    let working = work.max(2 * Covariance::dense_bytes(dim) + 3 * class);
    let needed = (open + LABEL * all + WRITTEN_CLASS * classes).saturating_add(working);
    Ok(budget.require(most.max(needed), WRITING)?)
}

/// An error unless the budget has room to load the class statistics of these files, one after the other, and then for
/// `work` bytes more, with the smallest budget that is enough. Files that hold something else take nothing.
///
/// # Errors
/// When a file cannot be read, or the budget has no room.
pub fn require_load<P: AsRef<Path>>(
    inputs: &[P],
    work: impl Fn(&Extent) -> u64,
    budget: &Budget,
) -> Result<()> {
    let (mut loaded, mut most) = (0, 0);
    for input in inputs {
        let header = Header::scan(input.as_ref())?;
        let extent = header_extent(&header);
        if extent.classes == 0 {
            return Ok(());
        }
        let open = loaded + header.memory.0.max(extent.bytes + open_bytes(&header));
        loaded += extent.bytes;
        most = most.max(open).max(loaded.saturating_add(work(&extent)));
    }
    Ok(budget.require(most, STATISTICS)?)
}

/// Bytes of a label in a set.
pub(super) const LABEL: u64 = 24;

/// Writes errors of means, unless all of them are 0.
pub(crate) fn write_errors(
    file: &mut SafetensorsWriter,
    errors: impl ExactSizeIterator<Item = f64> + Clone,
) -> Result<()> {
    if errors.clone().any(|error| error > 0.0) {
        file.begin(ERRORS, Dtype::F64, &[errors.len()])?;
        for error in errors {
            file.write(&error.to_le_bytes())?;
        }
        file.end()?;
    }
    Ok(())
}

/// Reads what [`write_errors`] wrote for so many classes; empty where all errors are 0.
pub(crate) fn read_errors(file: &Checkpoint, classes: usize) -> Result<Vec<f64>> {
    let Some(tensor) = file.tensor(ERRORS) else { return Ok(Vec::new()) };
    let errors: Vec<f64> = vector(file, tensor, &[classes])?.data.into();
    match errors.iter().position(|error| !(error.is_finite() && *error >= 0.0)) {
        Some(at) => {
            let problem = format!("number {at} is {}, not a squared error", errors[at]);
            Err(FileError::tensor(file.file_of(tensor), &tensor.name, problem).into())
        }
        None => Ok(errors),
    }
}

/// Writes the tensors of one class.
pub(crate) fn write_class(file: &mut SafetensorsWriter, number: u64, class: &ClassGaussian) -> Result<()> {
    let name = |part| format!("class.{number}.{part}");
    let dim = class.dim();
    file.tensor(&name("mean"), Dtype::F64, &[dim], bytemuck::cast_slice(class.mean().as_slice()))?;
    match &class.covariance().form {
        Form::Packed(values) => {
            file.tensor(&name("packed"), values.precision().dtype(), &[values.len()], values.bytes())?;
        }
        Form::Factor { columns, rank, diagonal } => {
            file.tensor(&name("factor"), columns.precision().dtype(), &[*rank, dim], columns.bytes())?;
            let diagonal = match diagonal {
                Diagonal::Scalar(value) => std::slice::from_ref(value),
                Diagonal::Vector(values) => values.as_slice(),
            };
            let bytes = bytemuck::cast_slice(diagonal);
            file.tensor(&name("diagonal"), Dtype::F64, &[diagonal.len()], bytes)?;
        }
    }
    Ok(())
}

/// Reads what [`write_class`] wrote and checks every number.
pub(crate) fn read_class(
    file: &Checkpoint,
    Stored { number, count, error }: Stored,
    dim: usize,
    budget: &Budget,
) -> Result<ClassGaussian> {
    let name = |part| format!("class.{number}.{part}");
    // Until the class has its own reservation.
    let mut held = budget.reserve(8u64.saturating_mul(dim as u64), "class statistics")?;
    let mean = vector(file, file.expect_tensor(&name("mean"))?, &[dim])?;
    let form = if let Some(tensor) = file.tensor(&name("packed")) {
        // dim² could overflow for a hostile dimension; a tensor of that shape cannot exist.
        let lower = (dim as u128 * (dim as u128 + 1) / 2).try_into().unwrap_or(usize::MAX);
        held.grow(tensor.bytes, "class statistics")?;
        Form::Packed(values(file, tensor, &[lower])?)
    } else {
        let tensor = file.expect_tensor(&name("factor"))?;
        let rank = tensor.shape.first().copied().unwrap_or(0);
        held.grow(tensor.bytes, "class statistics")?;
        let columns = values(file, tensor, &[rank, dim])?;
        let tensor = file.expect_tensor(&name("diagonal"))?;
        held.grow(tensor.bytes, "class statistics")?;
        let diagonal = if tensor.shape == [1] {
            Diagonal::Scalar(vector(file, tensor, &[1])?[0])
        } else {
            Diagonal::Vector(vector(file, tensor, &[dim])?)
        };
        Form::Factor { columns, rank, diagonal }
    };
    drop(held);
    let class = ClassGaussian::new(count, mean, Covariance { dim, form }, budget);
    let class = class.map_err(|error| match error {
        crate::CompensateError::Budget(_) => error,
        other => FileError::malformed(file.path(), format!("class.{number}: {other}")).into(),
    })?;
    Ok(class.with_error(error))
}

/// Reads a tensor of a floating-point type; its shape has to be `shape`.
fn values(file: &Checkpoint, tensor: &TensorInfo, shape: &[usize]) -> Result<Values> {
    let wrong = |problem: String| FileError::tensor(file.file_of(tensor), &tensor.name, problem);
    if tensor.shape != shape {
        return Err(wrong(format!("shape {:?}, expected {shape:?}", tensor.shape)).into());
    }
    let Some(precision) = Precision::of(tensor.dtype) else {
        return Err(wrong(format!("element type {}, expected F64, F32 or BF16", tensor.dtype)).into());
    };
    let mut values = Values::zeroed(shape.iter().product(), precision);
    file.read_at(tensor, 0, values.bytes_mut())?;
    Ok(values)
}

fn vector(file: &Checkpoint, tensor: &TensorInfo, shape: &[usize]) -> Result<DVector<f64>> {
    match values(file, tensor, shape)? {
        Values::F64(values) => Ok(values.into()),
        _ => {
            let problem = format!("element type {}, expected F64", tensor.dtype);
            Err(FileError::tensor(file.file_of(tensor), &tensor.name, problem).into())
        }
    }
}
