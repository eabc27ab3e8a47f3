//! Features in files.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_format::file::Checkpoint;

use super::array::{Array, Buffer};
use super::{FeatureBlock, FeatureSource, Fingerprint, Fingerprinter};
use crate::{CompensateError, Result};

/// Labels that are read at a time.
const LABELS: u64 = 16 << 10;

/// Arrays of equal length, read together.
#[derive(Debug)]
struct Arrays {
    before: Array,
    after: Option<Array>,
    labels: Option<Array>,
    /// The rows that are read, and the next one.
    rows: Range<u64>,
    next: u64,
    buffers: (Buffer, Buffer, Vec<u32>),
    fingerprinter: Fingerprinter,
}

impl Arrays {
    fn new(before: Array, after: Option<Array>, labels: Option<Array>) -> Result<Self> {
        let before = before.used_as(if after.is_some() { "features before the task" } else { "features" });
        let after = after.map(|array| array.used_as("features after the task"));
        let labels = labels.map(|array| array.used_as("labels"));
        let fits = |array: &Array, width: usize| {
            let (what, found, expected) = (array.described(), array.rows, before.rows);
            if array.width != width {
                let what = format!("{what}: a row");
                return Err(CompensateError::Dimension { what, found: array.width, expected: width });
            }
            if found == expected { Ok(()) } else { Err(CompensateError::Rows { what, found, expected }) }
        };
        after.as_ref().map_or(Ok(()), |after| fits(after, before.width))?;
        labels.as_ref().map_or(Ok(()), |labels| fits(labels, 1))?;
        let rows = 0..before.rows;
        let (buffers, fingerprinter) = Default::default();
        Ok(Self { before, after, labels, rows, next: 0, buffers, fingerprinter })
    }

    fn all(&self) -> impl Iterator<Item = &Array> {
        [&self.before].into_iter().chain(&self.after).chain(&self.labels)
    }
}

impl FeatureSource for Arrays {
    fn dim(&self) -> usize {
        self.before.width
    }

    fn rows(&self) -> Option<u64> {
        Some(self.rows.end - self.rows.start)
    }

    fn read(&mut self, most: usize, block: &mut FeatureBlock) -> Result<usize> {
        let count = (self.rows.end - self.next).min(most as u64) as usize;
        let (before, after, labels) = &mut self.buffers;
        let before = self.before.read_features(self.next, count, before)?;
        let after =
            self.after.as_ref().map(|array| array.read_features(self.next, count, after)).transpose()?;
        labels.clear();
        if let Some(array) = &self.labels {
            array.read_labels(self.next, count, labels)?;
        }
        block.push_floats(before, after, self.labels.as_ref().map(|_| &**labels))?;
        self.next += count as u64;
        self.fingerprinter.read(block, count);
        Ok(count)
    }

    fn rewind(&mut self) -> Result<()> {
        self.next = self.rows.start;
        self.fingerprinter.rewind();
        Ok(())
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        self.fingerprinter.get().cloned().into_iter().collect()
    }

    fn is_double(&self) -> bool {
        self.before.is_double() || self.after.as_ref().is_some_and(Array::is_double)
    }

    fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
        let Some(array) = &self.labels else { return Ok(false) };
        let (mut labels, mut first) = (Vec::new(), self.rows.start);
        while first < self.rows.end {
            let count = (self.rows.end - first).min(LABELS) as usize;
            labels.clear();
            array.read_labels(first, count, &mut labels)?;
            f(&labels);
            first += count as u64;
        }
        Ok(true)
    }

    fn name(&self) -> String {
        self.before.name()
    }

    fn files(&self) -> Vec<PathBuf> {
        self.all().flat_map(Array::files).collect()
    }
}

/// Names of the tensors that make a source.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorNames {
    /// Features before the task `[n, d]`, or the only ones.
    pub before: String,
    /// Features after the task `[n, d]`.
    pub after: Option<String>,
    /// Labels `[n]`.
    pub labels: Option<String>,
}

impl TensorNames {
    /// Features alone.
    pub fn features(name: impl Into<String>) -> Self {
        Self { before: name.into(), after: None, labels: None }
    }

    /// With features of the same samples after the task.
    #[must_use]
    pub fn with_after(self, name: impl Into<String>) -> Self {
        Self { after: Some(name.into()), ..self }
    }

    /// With labels.
    #[must_use]
    pub fn with_labels(self, name: impl Into<String>) -> Self {
        Self { labels: Some(name.into()), ..self }
    }
}

/// Features in a safetensors checkpoint: floats or integers of any type. f64 stays f64; integers are exact, and one that f64
/// cannot hold is an error. Labels: integers from 0 to 2³² − 1.
#[derive(Debug)]
pub struct SafetensorsSource(Arrays);

impl SafetensorsSource {
    /// The tensors `names` of the checkpoint at `path`.
    ///
    /// # Errors
    /// When the file or a tensor is missing or malformed, or shapes do not fit each other.
    pub fn open(path: impl AsRef<Path>, names: &TensorNames) -> Result<Self> {
        Self::new(&Arc::new(Checkpoint::open(path.as_ref())?), names)
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

/// Features `[n, d]` in `.npy` files: floats or integers of any type in C or Fortran order and either byte order. f64 stays
/// f64; integers are exact, and one that f64 cannot hold is an error. Labels `[n]`: integers from 0 to 2³² − 1.
///
/// ```no_run
/// use residua_compensate::source::NpySource;
/// use residua_compensate::{ClassStatistics, Linear, Method, StatisticsOptions};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let budget = Budget::new(256 << 20);
/// let mut old = NpySource::labelled("old.npy", "y_old.npy")?;
/// let stale = ClassStatistics::collect(&mut old, &StatisticsOptions::default(), &budget)?;
/// let mut pairs = NpySource::pairs("new_before.npy", "new_after.npy")?;
/// let moved = Linear::default().fit(&mut pairs, &budget)?.apply(&stale, &budget)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NpySource(Arrays);

impl NpySource {
    /// Features `[n, d]` alone: what a classifier predicts.
    ///
    /// # Errors
    /// When the file is missing or malformed.
    pub fn features(features: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(Arrays::new(Array::npy(features.as_ref())?, None, None)?))
    }

    /// Features `[n, d]` and their labels `[n]`: what statistics are collected from.
    ///
    /// # Errors
    /// When a file is missing or malformed, or shapes do not fit each other.
    pub fn labelled(features: impl AsRef<Path>, labels: impl AsRef<Path>) -> Result<Self> {
        Self::features(features)?.with_labels(labels)
    }

    /// Features `[n, d]` of the same samples before and after a task: what a compensator learns from.
    ///
    /// # Errors
    /// When a file is missing or malformed, or shapes do not fit each other.
    pub fn pairs(before: impl AsRef<Path>, after: impl AsRef<Path>) -> Result<Self> {
        let Self(Arrays { before, labels, .. }) = Self::features(before)?;
        Ok(Self(Arrays::new(before, Some(Array::npy(after.as_ref())?), labels)?))
    }

    /// The same samples with labels `[n]`: a pair of arrays with labels is a task.
    ///
    /// # Errors
    /// When the file is missing or malformed, or has another number of rows.
    pub fn with_labels(self, labels: impl AsRef<Path>) -> Result<Self> {
        let Arrays { before, after, .. } = self.0;
        Ok(Self(Arrays::new(before, after, Some(Array::npy(labels.as_ref())?))?))
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

/// Features in files of any kind. Arrays may share a file.
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

    /// The rows `rows` of sources that follow one another, counted from the first row of the first one. Rows that do not
    /// exist are left out, and so are sources without a row.
    #[must_use]
    pub fn rows_of(sources: Vec<Self>, rows: Range<u64>) -> Vec<Self> {
        let mut before = 0;
        let within = |Self(mut arrays): Self| {
            let Range { start, end } = arrays.rows.clone();
            let at = |row: u64| start + row.saturating_sub(before).min(end - start);
            arrays.rows = at(rows.start)..at(rows.end);
            before += end - start;
            arrays.next = arrays.rows.start;
            (!arrays.rows.is_empty()).then_some(Self(arrays))
        };
        sources.into_iter().filter_map(within).collect()
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
            fn is_double(&self) -> bool {
                self.0.is_double()
            }
            fn for_each_label(&mut self, f: &mut dyn FnMut(&[u32])) -> Result<bool> {
                self.0.for_each_label(f)
            }
            fn name(&self) -> String {
                self.0.name()
            }
            fn files(&self) -> Vec<PathBuf> {
                self.0.files()
            }
            fn fingerprints(&self) -> Vec<Fingerprint> {
                self.0.fingerprints()
            }
        }
    )*};
}
delegate!(FileSource, NpySource, SafetensorsSource);
