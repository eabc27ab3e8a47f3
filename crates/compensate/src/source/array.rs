//! Arrays in files, read a few rows at a time.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::{bf16, f16};
use residua_format::file::{Checkpoint, Dtype, FileError, NpyHeader, TensorInfo};

use super::check_finite;
use crate::{CompensateError, Result};

/// An array `[rows, width]` in a file (`width` 1: also `[rows]`).
#[derive(Debug)]
pub(super) struct Array {
    place: Place,
    /// What it holds, for errors: "features", "features after the task", "labels".
    role: &'static str,
    dtype: Dtype,
    pub(super) rows: u64,
    pub(super) width: usize,
    bytes: Vec<u8>,
}

#[derive(Debug)]
enum Place {
    Npy { path: PathBuf, file: File, start: u64 },
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
            Place::Npy { path, .. } => path.display().to_string(),
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
            Place::Npy { path, .. } => vec![path.clone()],
            Place::Tensor { file, .. } => {
                file.index().into_iter().chain(file.files()).map(Path::to_owned).collect()
            }
        }
    }

    pub(super) fn npy(path: &Path) -> Result<Self> {
        let wrong = |problem: String| FileError::malformed(path, problem);
        let (header, file) = NpyHeader::open(path)?;
        let (sizes, start) = (header.shape(), header.data_start());
        if header.is_fortran() && sizes.len() > 1 {
            return Err(wrong("is in Fortran order; save np.ascontiguousarray of it".into()).into());
        }
        let dtype = header.dtype().map_err(wrong)?;
        let (rows, width) =
            shape(sizes).ok_or_else(|| wrong(format!("shape {sizes:?}, expected {SHAPE}")))?;
        let length = file.metadata().map_err(FileError::io(path, "read"))?.len();
        let needed = u128::from(rows) * width as u128 * (dtype.bitsize() / 8) as u128;
        if needed > u128::from(length.saturating_sub(start)) {
            let (needed, found) = (needed.try_into().unwrap_or(u64::MAX), length.saturating_sub(start));
            let what = "the array".into();
            return Err(FileError::Truncated { path: path.to_owned(), what, needed, found }.into());
        }
        let place = Place::Npy { path: path.to_owned(), file, start };
        Ok(Self { place, role: "features", dtype, rows, width, bytes: Vec::new() })
    }

    pub(super) fn tensor(file: &Arc<Checkpoint>, name: &str) -> Result<Self> {
        let tensor = file.expect_tensor(name)?.clone();
        let Some((rows, width)) = shape(&tensor.shape) else {
            let problem = format!("shape {:?}, expected {SHAPE}", tensor.shape);
            return Err(FileError::tensor(file.file_of(&tensor), name, problem).into());
        };
        let dtype = tensor.dtype;
        let place = Place::Tensor { file: file.clone(), tensor };
        Ok(Self { place, role: "features", dtype, rows, width, bytes: Vec::new() })
    }

    /// Reads `count` rows from `first` on into `bytes`.
    fn fetch(&mut self, first: u64, count: usize) -> Result<()> {
        let row = (self.width * self.dtype.bitsize() / 8) as u64;
        self.bytes.resize(count * row as usize, 0);
        match &mut self.place {
            Place::Npy { path, file, start } => {
                let read = file
                    .seek(SeekFrom::Start(*start + first * row))
                    .and_then(|_| file.read_exact(&mut self.bytes));
                read.map_err(FileError::io(path, "read"))?;
            }
            Place::Tensor { file, tensor } => file.read_at(tensor, first * row, &mut self.bytes)?,
        }
        Ok(())
    }

    fn wrong_type(&self, wanted: &str) -> FileError {
        let (wanted, dtype) = (format!("{wanted} are wanted"), self.dtype.to_string());
        match &self.place {
            Place::Npy { path, .. } => {
                FileError::malformed(path, format!("element type {dtype}, but {wanted}"))
            }
            Place::Tensor { file, tensor } => {
                let (path, tensor) = (file.file_of(tensor).to_owned(), tensor.name.clone());
                FileError::Dtype { path, tensor, dtype, wanted }
            }
        }
    }

    /// An error about a row.
    fn wrong_row(&self, row: u64, problem: String) -> FileError {
        match &self.place {
            Place::Npy { path, .. } => FileError::malformed(path, format!("row {row}: {problem}")),
            Place::Tensor { file, tensor } => {
                FileError::tensor(file.file_of(tensor), &tensor.name, format!("row {row}: {problem}"))
            }
        }
    }

    /// Appends `count` rows from `first` on, as f32; all of them are finite.
    pub(super) fn read_features(&mut self, first: u64, count: usize, out: &mut Vec<f32>) -> Result<()> {
        self.fetch(first, count)?;
        let (bytes, start) = (&self.bytes, out.len());
        match self.dtype {
            Dtype::F32 => out.extend(numbers(bytes).map(f32::from_le_bytes)),
            Dtype::F64 => out.extend(numbers(bytes).map(|b| f64::from_le_bytes(b) as f32)),
            Dtype::F16 => out.extend(numbers(bytes).map(|b| f16::from_le_bytes(b).to_f32())),
            Dtype::BF16 => out.extend(numbers(bytes).map(|b| bf16::from_le_bytes(b).to_f32())),
            _ => return Err(self.wrong_type("features in f16, bf16, f32 or f64").into()),
        }
        // Here, where the file and the row in it are known.
        check_finite("", &out[start..], self.width, first).map_err(|error| match error {
            CompensateError::NotFinite { row, column, value, .. } => {
                CompensateError::NotFinite { what: self.described(), row, column, value }
            }
            other => other,
        })
    }

    /// Appends `count` labels from `first` on.
    pub(super) fn read_labels(&mut self, first: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        self.fetch(first, count)?;
        let bytes = &self.bytes;
        // Wide enough for every value, so that an error can show it.
        let wide: Vec<i128> = match self.dtype {
            Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
            Dtype::U16 => numbers(bytes).map(|b| u16::from_le_bytes(b).into()).collect(),
            Dtype::U32 => numbers(bytes).map(|b| u32::from_le_bytes(b).into()).collect(),
            Dtype::U64 => numbers(bytes).map(|b| u64::from_le_bytes(b).into()).collect(),
            Dtype::I8 => numbers(bytes).map(|b| i8::from_le_bytes(b).into()).collect(),
            Dtype::I16 => numbers(bytes).map(|b| i16::from_le_bytes(b).into()).collect(),
            Dtype::I32 => numbers(bytes).map(|b| i32::from_le_bytes(b).into()).collect(),
            Dtype::I64 => numbers(bytes).map(|b| i64::from_le_bytes(b).into()).collect(),
            _ => return Err(self.wrong_type("labels in an integer type").into()),
        };
        for (row, label) in (first..).zip(wide) {
            let wrong = |_| self.wrong_row(row, format!("label {label}, but labels are from 0 to 2^32 - 1"));
            out.push(label.try_into().map_err(wrong)?);
        }
        Ok(())
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
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
