//! Arrays in files, read a few rows at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use residua_format::file::{Checkpoint, FileError, NpyFile, TensorInfo};

use super::check_finite;
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

    /// Appends `count` rows from `first` on, as f32; all of them are finite.
    pub(super) fn read_features(&mut self, first: u64, count: usize, out: &mut Vec<f32>) -> Result<()> {
        let start = out.len();
        out.resize(start + count * self.width, 0.0);
        let rows = &mut out[start..];
        match &self.place {
            Place::Npy(file) => file.read_rows(range(first, count), rows)?,
            Place::Tensor { file, tensor } => file.read_values(tensor, first * self.width as u64, rows)?,
        }
        // Here, where the file and the row in it are known.
        check_finite("", rows, self.width, first).map_err(|error| match error {
            CompensateError::NotFinite { row, column, value, .. } => {
                CompensateError::NotFinite { what: self.described(), row, column, value }
            }
            other => other,
        })
    }

    /// Appends `count` labels from `first` on.
    pub(super) fn read_labels(&mut self, first: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
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
