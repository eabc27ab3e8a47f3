//! Features in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_format::file::Checkpoint;

use super::array::Array;
use super::{FeatureBlock, FeatureSource};
use crate::error::same_dimension;
use crate::{CompensateError, Result};

/// Arrays of equal length, read together.
#[derive(Debug)]
struct Arrays {
    before: Array,
    after: Option<Array>,
    labels: Option<Array>,
    next: u64,
    buffers: (Vec<f32>, Vec<f32>, Vec<u32>),
}

impl Arrays {
    fn new(before: Array, after: Option<Array>, labels: Option<Array>) -> Result<Self> {
        let same_rows = |what: &str, array: &Array| {
            let (found, expected) = (array.rows, before.rows);
            if found == expected {
                return Ok(());
            }
            Err(CompensateError::Rows { what: what.into(), found, expected })
        };
        if let Some(after) = &after {
            same_dimension("a sample after the task", after.width, before.width)?;
            same_rows("features after the task", after)?;
        }
        if let Some(labels) = &labels {
            same_dimension("a label", labels.width, 1)?;
            same_rows("labels", labels)?;
        }
        Ok(Self { before, after, labels, next: 0, buffers: Default::default() })
    }
}

impl FeatureSource for Arrays {
    fn dim(&self) -> usize {
        self.before.width
    }

    fn rows(&self) -> Option<u64> {
        Some(self.before.rows)
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        let count = (self.before.rows - self.next).min(most as u64) as usize;
        let (before, after, labels) = &mut self.buffers;
        before.clear();
        after.clear();
        labels.clear();
        self.before.read_features(self.next, count, before)?;
        if let Some(array) = &mut self.after {
            array.read_features(self.next, count, after)?;
        }
        if let Some(array) = &mut self.labels {
            array.read_labels(self.next, count, labels)?;
        }
        block.push(before, self.after.as_ref().map(|_| &**after), self.labels.as_ref().map(|_| &**labels))?;
        self.next += count as u64;
        Ok(count)
    }

    fn rewind(&mut self) -> Result<()> {
        self.next = 0;
        Ok(())
    }
}

/// Names of the tensors that make a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorNames {
    /// Features before the task `[n, d]`, or the only ones.
    pub before: String,
    /// Features after the task `[n, d]`.
    pub after: Option<String>,
    /// Labels `[n]`.
    pub labels: Option<String>,
}

/// Features in a safetensors checkpoint: f16, bf16, f32 or f64; labels in an integer type.
#[derive(Debug)]
pub struct SafetensorsSource(Arrays);

impl SafetensorsSource {
    /// The tensors `names` of the checkpoint at `path`.
    ///
    /// # Errors
    /// When the file or a tensor is missing or malformed, or shapes do not fit each other.
    pub fn open(path: &Path, names: &TensorNames) -> Result<Self> {
        Self::new(&Arc::new(Checkpoint::open(path)?), names)
    }

    /// The tensors `names` of an open checkpoint.
    ///
    /// # Errors
    /// When a tensor is missing or shapes do not fit each other.
    pub fn new(file: &Arc<Checkpoint>, names: &TensorNames) -> Result<Self> {
        let array = |name: &String| Array::tensor(file, name);
        let (after, labels) = (names.after.as_ref(), names.labels.as_ref());
        let (after, labels) = (after.map(array).transpose()?, labels.map(array).transpose()?);
        Ok(Self(Arrays::new(array(&names.before)?, after, labels)?))
    }
}

/// Features in `.npy` files: f16, f32 or f64, `[n, d]` in C order; labels `[n]` in an integer type.
#[derive(Debug)]
pub struct NpySource(Arrays);

impl NpySource {
    /// A file for each array.
    ///
    /// # Errors
    /// When a file is missing or malformed, or shapes do not fit each other.
    pub fn open(before: &Path, after: Option<&Path>, labels: Option<&Path>) -> Result<Self> {
        let (after, labels) = (after.map(Array::npy).transpose()?, labels.map(Array::npy).transpose()?);
        Ok(Self(Arrays::new(Array::npy(before)?, after, labels)?))
    }
}

/// Where an array is.
#[derive(Debug, Clone)]
pub enum ArrayAt {
    /// An `.npy` file.
    Npy(PathBuf),
    /// A tensor of an open checkpoint, by name.
    Tensor(Arc<Checkpoint>, String),
}

impl ArrayAt {
    fn open(&self) -> Result<Array> {
        match self {
            Self::Npy(path) => Array::npy(path),
            Self::Tensor(file, name) => Array::tensor(file, name),
        }
    }
}

/// Features in files of any kind, the arrays each in a file of its own or several in one.
#[derive(Debug)]
pub struct FileSource(Arrays);

impl FileSource {
    /// Features before the task or the only ones `[n, d]`, after it `[n, d]`, and labels `[n]`.
    ///
    /// # Errors
    /// When an array is missing or malformed, or shapes do not fit each other.
    pub fn open(before: &ArrayAt, after: Option<&ArrayAt>, labels: Option<&ArrayAt>) -> Result<Self> {
        let (after, labels) = (after.map(ArrayAt::open).transpose()?, labels.map(ArrayAt::open).transpose()?);
        Ok(Self(Arrays::new(before.open()?, after, labels)?))
    }
}

macro_rules! delegate {
    ($($source:ty),*) => {$(
        impl FeatureSource for $source {
            fn dim(&self) -> usize {
                self.0.dim()
            }
            fn rows(&self) -> Option<u64> {
                self.0.rows()
            }
            fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
                self.0.read(most, block)
            }
            fn rewind(&mut self) -> Result<()> {
                self.0.rewind()
            }
        }
    )*};
}
delegate!(FileSource, NpySource, SafetensorsSource);
