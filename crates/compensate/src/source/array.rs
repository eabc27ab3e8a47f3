//! Arrays in files, read a few rows at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_format::Value;
use residua_format::file::{Checkpoint, Dtype, FileError, NpyFile, TensorInfo};

use super::Floats;
use crate::{CompensateError, Result};

/// An array `[rows, width]` in a file (`width` 1: also `[rows]`).
#[derive(Debug)]
pub(super) struct Array {
    place: Place,
    /// What it holds, for errors: "features", "features after the task", "labels".
    role: &'static str,
    pub(super) rows: u64,
    pub(super) width: usize,
}

#[derive(Debug)]
enum Place {
    Npy(NpyFile),
    Tensor { file: Arc<Checkpoint>, tensor: TensorInfo },
}

impl Array {
    /// The array as what it is used for.
    pub(super) fn used_as(self, role: &'static str) -> Self {
        Self { role, ..self }
    }

    /// The file, and the tensor in it.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Npy(file) => file.path().display().to_string(),
            Place::Tensor { file, tensor } => format!("{}:{}", file.path().display(), tensor.name),
        }
    }

    /// The array and what it holds, for errors.
    pub(super) fn described(&self) -> String {
        format!("{}: {}", self.name(), self.role)
    }

    /// The files that it is in.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        match &self.place {
            Place::Npy(file) => vec![file.path().to_owned()],
            Place::Tensor { file, .. } => {
                file.index().into_iter().chain(file.files()).map(Path::to_owned).collect()
            }
        }
    }

    pub(super) fn npy(path: &Path) -> Result<Self> {
        let file = NpyFile::open(path)?;
        let Some((rows, width)) = shape(file.shape()) else {
            let problem = format!("shape {:?}, expected {SHAPE}", file.shape());
            return Err(FileError::malformed(path, problem).into());
        };
        Ok(Self { place: Place::Npy(file), role: "features", rows, width })
    }

    pub(super) fn tensor(file: &Arc<Checkpoint>, name: &str) -> Result<Self> {
        let tensor = file.expect_tensor(name)?.clone();
        let Some((rows, width)) = shape(&tensor.shape) else {
            let problem = format!("shape {:?}, expected {SHAPE}", tensor.shape);
            return Err(FileError::tensor(file.file_of(&tensor), name, problem).into());
        };
        let place = Place::Tensor { file: file.clone(), tensor };
        Ok(Self { place, role: "features", rows, width })
    }

    /// Whether f32 cannot hold every number of its element type.
    pub(super) fn is_double(&self) -> bool {
        let dtype = match &self.place {
            Place::Npy(file) => file.dtype(),
            Place::Tensor { tensor, .. } => tensor.dtype,
        };
        matches!(dtype, Dtype::F64 | Dtype::I32 | Dtype::U32 | Dtype::I64 | Dtype::U64)
    }

    /// Reads `count` rows from `first` on into `buffer`; all of them are finite.
    pub(super) fn read_features<'a>(
        &self,
        first: u64,
        count: usize,
        buffer: &'a mut Buffer,
    ) -> Result<Floats<'a>> {
        let floats = if self.is_double() {
            Floats::F64(self.fill(first, count, &mut buffer.double)?)
        } else {
            Floats::F32(self.fill(first, count, &mut buffer.single)?)
        };
        // Here, where the file and the row in it are known.
        floats.check_finite("", self.width, first).map_err(|error| match error {
            CompensateError::NotFinite { row, column, value, .. } => {
                CompensateError::NotFinite { what: self.described(), row, column, value }
            }
            other => other,
        })?;
        Ok(floats)
    }

    fn fill<'a, V: Value>(&self, first: u64, count: usize, out: &'a mut Vec<V>) -> Result<&'a [V]> {
        out.resize(count * self.width, V::default());
        match &self.place {
            Place::Npy(file) => file.read_rows(range(first, count), out)?,
            Place::Tensor { file, tensor } => file.read_values(tensor, first * self.width as u64, out)?,
        }
        Ok(out)
    }

    /// Appends `count` labels from `first` on.
    pub(super) fn read_labels(&self, first: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        let start = out.len();
        out.resize(start + count, 0);
        let labels = &mut out[start..];
        let read = match &self.place {
            Place::Npy(file) => file.read_integers(range(first, count), labels),
            Place::Tensor { file, tensor } => file.read_integers(tensor, first, labels),
        };
        read.map_err(|error| match error {
            FileError::Tensor { path, tensor, problem } => {
                let problem = format!("{problem}; labels are integers from 0 to 2^32 - 1");
                FileError::Tensor { path, tensor, problem }.into()
            }
            other => other.into(),
        })
    }
}

/// Where features of one array are read to.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    single: Vec<f32>,
    double: Vec<f64>,
}

/// `count` rows from `first` on, of an array whose rows fit into memory addresses.
fn range(first: u64, count: usize) -> std::ops::Range<usize> {
    first as usize..first as usize + count
}

/// What [`shape`] takes.
const SHAPE: &str = "[rows, numbers of a row], or [rows] of single numbers";

/// Rows and width of a one- or two-dimensional array.
fn shape(sizes: &[usize]) -> Option<(u64, usize)> {
    match *sizes {
        [rows] => Some((rows as u64, 1)),
        [rows, width] if width > 0 => Some((rows as u64, width)),
        _ => None,
    }
}
