//! Fitted compensators as safetensors files. `docs/format.md` describes them.

use std::path::Path;

use bytemuck::Pod;
use nalgebra::{DMatrix, DVector, Scalar};
use residua_format::file::{Checkpoint, Dtype, FileError, SafetensorsWriter, TensorInfo};
use residua_memory::{Budget, Reservation};
use serde::{Deserialize, Serialize};

use super::affine::AffineMap;
use super::attention::Attend;
use super::ridge::RidgeMap;
use super::transport::Transport;
use super::weak::Trained;
use super::{Compensator, Fitted};
use crate::Result;
use crate::error::Content;

/// The metadata entry.
pub(crate) const KEY: &str = "residua.compensator";
/// The version of this layout.
const VERSION: u32 = 1;
const READING: &str = "a fitted compensator";

#[derive(Debug, Serialize, Deserialize)]
struct Meta {
    version: u32,
    kind: Fitted,
    dim: usize,
    /// BLAKE3 of this object with an empty hash, and then of the data, in the order of the file.
    hash: String,
}

impl Meta {
    fn text(&self, path: &Path) -> Result<String> {
        Ok(serde_json::to_string(self)
            .map_err(|error| FileError::malformed(path, format!("metadata: {error}")))?)
    }
}

/// Element types of matrices.
pub(super) trait Number: Scalar + Pod + Default + Into<f64> {
    const DTYPE: Dtype;
}
impl Number for f32 {
    const DTYPE: Dtype = Dtype::F32;
}
impl Number for f64 {
    const DTYPE: Dtype = Dtype::F64;
}

/// Writes matrices one after the other.
pub(super) struct Writer {
    file: SafetensorsWriter,
    hasher: blake3::Hasher,
}

impl Writer {
    /// Writes a matrix, column after column: in the file it is `[columns, rows]`.
    pub(super) fn matrix<T: Number>(&mut self, name: &str, matrix: &DMatrix<T>) -> Result<()> {
        self.columns(name, matrix.shape(), [Ok(matrix.clone())])
    }

    /// The same for a matrix that comes in pieces of whole columns.
    pub(super) fn columns<T: Number>(
        &mut self,
        name: &str,
        (rows, columns): (usize, usize),
        pieces: impl IntoIterator<Item = Result<DMatrix<T>>>,
    ) -> Result<()> {
        self.file.begin(name, T::DTYPE, &[columns, rows])?;
        for piece in pieces {
            let piece = piece?;
            let bytes = bytemuck::cast_slice(piece.as_slice());
            self.file.write(bytes)?;
            self.hasher.update(bytes);
        }
        Ok(self.file.end()?)
    }

    /// Writes a vector, or a few numbers.
    pub(super) fn vector<T: Number>(&mut self, name: &str, vector: &[T]) -> Result<()> {
        self.matrix(name, &DMatrix::from_column_slice(vector.len(), 1, vector))
    }
}

/// Reads matrices in the order in which they were written.
pub(super) struct Reader<'a> {
    file: &'a Checkpoint,
    pub(super) dim: usize,
    hasher: blake3::Hasher,
    read: usize,
    held: Reservation,
}

impl Reader<'_> {
    /// An error about the file.
    pub(super) fn wrong(&self, problem: impl Into<String>) -> crate::CompensateError {
        FileError::malformed(self.file.path(), problem).into()
    }

    /// Whether the file has a matrix.
    pub(super) fn has(&self, name: &str) -> bool {
        self.file.tensor(name).is_some()
    }

    /// Rows and columns of a matrix.
    pub(super) fn shape(&self, name: &str) -> Result<(usize, usize)> {
        let tensor = self.file.expect_tensor(name)?;
        match *tensor.shape {
            [columns, rows] => Ok((rows, columns)),
            _ => Err(self.wrong(format!("tensor {name}: shape {:?}, expected two dimensions", tensor.shape))),
        }
    }

    /// An error unless the file has a matrix of this kind.
    pub(super) fn expect<T: Number>(&self, name: &str, rows: usize, columns: usize) -> Result<TensorInfo> {
        let tensor = self.file.expect_tensor(name)?;
        if tensor.dtype == T::DTYPE && tensor.shape == [columns, rows] {
            return Ok(tensor.clone());
        }
        let (found, expected) = (&tensor.shape, [columns, rows]);
        let problem = format!("{} {found:?}, expected {} {expected:?}", tensor.dtype, T::DTYPE);
        Err(FileError::tensor(self.file.file_of(tensor), name, problem).into())
    }

    /// Reads a matrix of finite numbers.
    pub(super) fn matrix<T: Number>(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<DMatrix<T>> {
        let mut whole = None;
        self.columns(name, rows, columns, columns, |piece| {
            whole = Some(piece);
            Ok(())
        })?;
        Ok(whole.unwrap_or_else(|| DMatrix::from_element(rows, columns, T::default())))
    }

    /// The same in pieces of at most `most` columns.
    pub(super) fn columns<T: Number>(
        &mut self,
        name: &str,
        rows: usize,
        columns: usize,
        most: usize,
        mut each: impl FnMut(DMatrix<T>) -> Result<()>,
    ) -> Result<()> {
        let tensor = self.expect::<T>(name, rows, columns)?;
        let mut first = 0;
        while first < columns {
            let count = most.min(columns - first);
            let bytes = (size_of::<T>() as u64).saturating_mul((rows as u64).saturating_mul(count as u64));
            self.held.grow(bytes, READING)?;
            let mut piece = DMatrix::from_element(rows, count, T::default());
            let offset = (size_of::<T>() * rows * first) as u64;
            let data: &mut [u8] = bytemuck::cast_slice_mut(piece.as_mut_slice());
            self.file.read_at(&tensor, offset, data)?;
            self.hasher.update(data);
            let finite = |number: &T| -> bool { Into::<f64>::into(*number).is_finite() };
            if let Some(at) = piece.iter().position(|number| !finite(number)) {
                let (row, column) = (at % rows.max(1), first + at / rows.max(1));
                return Err(self.wrong(format!("tensor {name}: number {row} of row {column} is not finite")));
            }
            each(piece)?;
            if count < columns {
                self.held.shrink(bytes);
            }
            first += count;
        }
        self.read += 1;
        Ok(())
    }

    /// Reads a vector, or a few numbers.
    pub(super) fn vector<T: Number>(&mut self, name: &str, count: usize) -> Result<DVector<T>> {
        Ok(self.matrix(name, count, 1)?.column(0).into_owned())
    }

    /// The room of all that was read.
    pub(super) fn take_held(&mut self) -> Result<Reservation> {
        let empty = self.held.budget().reserve(0, READING)?;
        Ok(std::mem::replace(&mut self.held, empty))
    }
}

/// Writes a compensator; `write` its matrices. Returns the bytes of the file.
pub(super) fn save(
    path: &Path,
    kind: Fitted,
    dim: usize,
    write: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<u64> {
    let file = SafetensorsWriter::create(path, 4096)?;
    let mut meta = Meta { version: VERSION, kind, dim, hash: String::new() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(meta.text(path)?.as_bytes());
    let mut writer = Writer { file, hasher };
    write(&mut writer)?;
    let Writer { mut file, hasher } = writer;
    meta.hash = hasher.finalize().to_hex().to_string();
    file.metadata(KEY, meta.text(path)?);
    Ok(file.finish()?)
}

/// Reads what [`Compensator::save`] wrote, and checks every number and the hash. It moves statistics to the same bits as the
/// compensator that was saved. Also tells which kind it is.
///
/// # Errors
/// When the file cannot be read, holds no compensator, or is damaged; when the budget has no room.
pub fn load(path: impl AsRef<Path>, budget: &Budget) -> Result<(Fitted, Box<dyn Compensator>)> {
    let path = path.as_ref();
    let file = Checkpoint::open_within(path, budget)?;
    let text = Content::Compensator.expect_in(&file)?;
    let wrong = |problem: String| FileError::malformed(path, format!("metadata entry {KEY}: {problem}"));
    let mut meta: Meta = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if meta.version != VERSION || meta.dim == 0 {
        let problem =
            format!("version {}, dimension {}; this program reads version {VERSION}", meta.version, meta.dim);
        return Err(wrong(problem).into());
    }
    let hash = std::mem::take(&mut meta.hash);
    let mut hasher = blake3::Hasher::new();
    hasher.update(meta.text(path)?.as_bytes());
    let held = budget.reserve(0, READING)?;
    let mut reader = Reader { file: &file, dim: meta.dim, hasher, read: 0, held };
    let loaded: Box<dyn Compensator> = match meta.kind {
        Fitted::Affine => Box::new(AffineMap::read(&mut reader)?),
        Fitted::Attention => Box::new(Transport::<Attend>::read(&mut reader, budget)?),
        Fitted::Ridge => Box::new(Transport::<RidgeMap>::read(&mut reader, budget)?),
        Fitted::Network => Box::new(Transport::<Trained>::read(&mut reader, budget)?),
    };
    if reader.read != file.tensors().len() {
        let problem =
            format!("{} tensors, but this kind of compensator has {}", file.tensors().len(), reader.read);
        return Err(reader.wrong(problem));
    }
    if reader.hasher.finalize().to_hex().as_str() != hash {
        return Err(reader.wrong("its content does not have the hash that it states"));
    }
    Ok((meta.kind, loaded))
}
