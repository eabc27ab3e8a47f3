//! Statistics as a safetensors file.
//!
//! | tensor | type | shape |
//! |---|---|---|
//! | `class.{label}.mean` | F64 | `[d]` |
//! | `class.{label}.packed` | F64, F32 or BF16 | `[d(d+1)/2]`: the lower triangle, column after column |
//! | `class.{label}.factor` | F64, F32 or BF16 | `[r, d]`, `Σ = factorᵀ·factor + diagonal` |
//! | `class.{label}.diagonal` | F64 | `[d]`, or `[1]` for a multiple of the identity |
//!
//! The metadata entry `residua.statistics` holds a JSON object: version, dimension, counts by label.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nalgebra::DVector;
use residua_format::file::{Checkpoint, Dtype, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::Budget;
use serde::{Deserialize, Serialize};

use super::values::Values;
use super::{ClassGaussian, ClassStatistics, Covariance, Diagonal, Form, Precision};
use crate::Result;
use crate::error::{Content, same_dimension};

/// The metadata entry.
pub(crate) const KEY: &str = "residua.statistics";
/// The version of this layout.
const VERSION: u32 = 1;
/// Names of the tensors of a class.
const PARTS: [&str; 4] = ["mean", "packed", "factor", "diagonal"];

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    /// Samples by label.
    classes: BTreeMap<u32, u64>,
}

/// Class statistics in a file. Classes are read one by one, on demand.
#[derive(Debug)]
pub struct StatisticsReader {
    file: Arc<Checkpoint>,
    dim: usize,
    classes: BTreeMap<u32, Stored>,
}

/// A class in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    /// Its tensors are `class.{number}.…`.
    pub(crate) number: u64,
    /// Number of its samples.
    pub(crate) count: u64,
}

impl StatisticsReader {
    /// Opens what [`ClassStatistics::save`] or a [`StatisticsWriter`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds no class statistics.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = Checkpoint::open(path)?;
        let meta = Content::Statistics.expect_in(&file)?;
        let meta: Meta = serde_json::from_str(meta)
            .map_err(|error| FileError::malformed(path, format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            let problem = format!("statistics of version {}, this program reads {VERSION}", meta.version);
            return Err(FileError::malformed(path, problem).into());
        }
        let stored = |(label, count): (u32, u64)| (label, Stored { number: label.into(), count });
        Ok(Self::new(Arc::new(file), meta.dim, meta.classes.into_iter().map(stored).collect()))
    }

    /// Whether a file holds class statistics.
    pub fn is_in(file: &Checkpoint) -> bool {
        Content::of(file) == Content::Statistics
    }

    /// These classes of a file.
    pub(crate) fn new(file: Arc<Checkpoint>, dim: usize, classes: BTreeMap<u32, Stored>) -> Self {
        Self { file, dim, classes }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
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

    /// Reads the classes with these labels and checks every number. Labels that the file lacks are skipped.
    ///
    /// # Errors
    /// As [`class`](Self::class).
    pub fn read(&self, labels: impl IntoIterator<Item = u32>, budget: &Budget) -> Result<ClassStatistics> {
        let mut statistics = ClassStatistics::new(self.dim);
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
}

impl StatisticsWriter {
    /// Starts a file that will replace `path`, for about `classes` classes of features of dimension `dim`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: impl AsRef<Path>, dim: usize, classes: usize) -> Result<Self> {
        // A label and a count have at most 10 and 20 digits.
        let header = 512 + (256 + 2 * 36) * classes as u64;
        let file = SafetensorsWriter::create(path.as_ref(), header)?;
        Ok(Self { file, meta: Meta { version: VERSION, dim, classes: BTreeMap::new() } })
    }

    /// Writes a class.
    ///
    /// # Errors
    /// When its dimension differs, the label has been written before, or the file cannot be written.
    pub fn add(&mut self, label: u32, class: &ClassGaussian) -> Result<()> {
        same_dimension("a class", class.dim(), self.meta.dim)?;
        write_class(&mut self.file, label.into(), class)?;
        self.meta.classes.insert(label, class.count());
        Ok(())
    }

    /// Puts the file in its place; returns its size in bytes.
    ///
    /// # Errors
    /// When the file cannot be written. A file that was there stays.
    pub fn finish(mut self) -> Result<u64> {
        let json = serde_json::to_string(&self.meta)
            .map_err(|error| FileError::malformed(self.file.path(), format!("metadata: {error}")))?;
        self.file.metadata(KEY, json);
        Ok(self.file.finish()?)
    }
}

impl ClassStatistics {
    /// Writes the statistics to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut file = StatisticsWriter::create(path, self.dim(), self.len())?;
        self.iter().try_for_each(|(label, class)| file.add(label, class))?;
        file.finish().map(drop)
    }

    /// Reads statistics and checks every number.
    ///
    /// # Errors
    /// When the file is not one that [`save`](Self::save) writes, or the budget has no room.
    pub fn load(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        let file = StatisticsReader::open(path)?;
        // For all classes at once, so that an error states the whole need.
        budget.require(file.bytes(), "class statistics")?;
        file.read(file.classes.keys().copied(), budget)
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
    Stored { number, count }: Stored,
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
    ClassGaussian::new(count, mean, Covariance { dim, form }, budget).map_err(|error| match error {
        crate::CompensateError::Budget(_) => error,
        other => FileError::malformed(file.path(), format!("class.{number}: {other}")).into(),
    })
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
