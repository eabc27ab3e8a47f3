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

use nalgebra::DVector;
use residua_format::file::{Checkpoint, Dtype, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::Budget;
use serde::{Deserialize, Serialize};

use super::values::Values;
use super::{ClassGaussian, ClassStatistics, Covariance, Diagonal, Form, Precision};
use crate::Result;

/// The metadata entry.
const KEY: &str = "residua.statistics";
/// The version of this layout.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Meta {
    version: u32,
    dim: usize,
    /// Samples by label.
    classes: BTreeMap<u32, u64>,
}

impl ClassStatistics {
    /// Writes the statistics to a file, which appears complete or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let classes = self.iter().map(|(label, class)| (label, class.count())).collect();
        let meta = Meta { version: VERSION, dim: self.dim(), classes };
        let json = serde_json::to_string(&meta)
            .map_err(|error| FileError::malformed(path, format!("metadata: {error}")))?;
        let header = 256 * self.len() as u64 + SafetensorsWriter::metadata_bytes(KEY, &json);
        let mut file = SafetensorsWriter::create(path, header)?;
        file.metadata(KEY, json);
        for (label, class) in self.iter() {
            write_class(&mut file, &format!("class.{label}"), class)?;
        }
        file.finish()?;
        Ok(())
    }

    /// Reads statistics, every number checked.
    ///
    /// # Errors
    /// When the file is not one that [`save`](Self::save) writes, or the budget has no room.
    pub fn load(path: &Path, budget: &Budget) -> Result<Self> {
        let file = Checkpoint::open(path)?;
        let meta = file.metadata().get(KEY).ok_or_else(|| {
            FileError::malformed(path, format!("holds no class statistics (no metadata entry {KEY})"))
        })?;
        let meta: Meta = serde_json::from_str(meta)
            .map_err(|error| FileError::malformed(path, format!("metadata entry {KEY}: {error}")))?;
        if meta.version != VERSION {
            let problem = format!("statistics of version {}, this program reads {VERSION}", meta.version);
            return Err(FileError::malformed(path, problem).into());
        }
        let mut statistics = Self::new(meta.dim);
        for (label, count) in meta.classes {
            // The numbers are reserved twice for a moment, here and by the class: they are few.
            let class = read_class(&file, &format!("class.{label}"), count, meta.dim, budget)?;
            statistics.insert(label, class)?;
        }
        Ok(statistics)
    }
}

/// Writes the tensors of one class, their names starting with `prefix`.
pub(crate) fn write_class(file: &mut SafetensorsWriter, prefix: &str, class: &ClassGaussian) -> Result<()> {
    let name = |part| format!("{prefix}.{part}");
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

/// Reads what [`write_class`] wrote, every number checked.
pub(crate) fn read_class(
    file: &Checkpoint,
    prefix: &str,
    count: u64,
    dim: usize,
    budget: &Budget,
) -> Result<ClassGaussian> {
    let name = |part| format!("{prefix}.{part}");
    let mean = vector(file, file.expect_tensor(&name("mean"))?, &[dim])?;
    let form = if let Some(tensor) = file.tensor(&name("packed")) {
        // dim² could overflow for a hostile dimension; a tensor of that shape cannot exist.
        let lower = (dim as u128 * (dim as u128 + 1) / 2).try_into().unwrap_or(usize::MAX);
        let _room = budget.reserve(tensor.bytes, "class statistics")?;
        Form::Packed(values(file, tensor, &[lower])?)
    } else {
        let tensor = file.expect_tensor(&name("factor"))?;
        let rank = tensor.shape.first().copied().unwrap_or(0);
        let _room = budget.reserve(tensor.bytes, "class statistics")?;
        let columns = values(file, tensor, &[rank, dim])?;
        let tensor = file.expect_tensor(&name("diagonal"))?;
        let diagonal = if tensor.shape == [1] {
            Diagonal::Scalar(vector(file, tensor, &[1])?[0])
        } else {
            Diagonal::Vector(vector(file, tensor, &[dim])?)
        };
        Form::Factor { columns, rank, diagonal }
    };
    ClassGaussian::new(count, mean, Covariance { dim, form }, budget).map_err(|error| match error {
        crate::CompensateError::Budget(_) => error,
        other => FileError::malformed(file.path(), format!("{prefix}: {other}")).into(),
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
