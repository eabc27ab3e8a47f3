//! Dense arrays, from and to safetensors.

use std::io::{self, Read};
use std::path::Path;

use residua_memory::{Budget, Reservation};

use super::number::{Number, Trouble};
use super::{Checkpoint, FileError, Held, Result, SafetensorsWriter, TensorInfo};
use crate::{FormatError, Value};

/// A dense array of one or two dimensions, row-major.
///
/// Invariants, always checked: there are one or two dimensions, and one value per place.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense<V> {
    shape: Vec<usize>,
    values: Vec<V>,
}

impl<V: Value> Dense<V> {
    /// An array from its values, row-major.
    ///
    /// # Errors
    /// When the shape does not have one or two dimensions, or does not match the number of values.
    pub fn new(shape: Vec<usize>, values: Vec<V>) -> Result<Self, FormatError> {
        let (1 | 2) = shape.len() else {
            return Err(FormatError::Length { what: "dimensions", found: shape.len(), expected: 2 });
        };
        let expected = shape.iter().fold(1usize, |product, &size| product.saturating_mul(size));
        if values.len() != expected {
            return Err(FormatError::Length { what: "values", found: values.len(), expected });
        }
        Ok(Self { shape, values })
    }

    /// One or two dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of rows; 1 for a vector.
    pub fn rows(&self) -> usize {
        if self.shape.len() == 2 { self.shape[0] } else { 1 }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// The values, row-major.
    pub fn values(&self) -> &[V] {
        &self.values
    }

    /// The values, row-major.
    pub fn into_values(self) -> Vec<V> {
        self.values
    }
}

impl Checkpoint {
    /// The two-dimensional tensors.
    pub fn matrices(&self) -> impl Iterator<Item = &TensorInfo> {
        self.tensors().iter().filter(|tensor| tensor.shape.len() == 2)
    }

    /// Reads a tensor of one or two dimensions, of any element type that has a number in every byte. Floats are
    /// rounded to `V`, integers are exact.
    ///
    /// # Errors
    /// When there is no such tensor, its element type or number of dimensions is another, a finite number
    /// is too large for `V`, `V` cannot hold an integer exactly, or the budget does not allow its bytes.
    pub fn read_dense<V: Value>(&self, name: &str, budget: &Budget) -> Result<Held<Dense<V>>> {
        let tensor = self.expect_tensor(name)?;
        let path = self.file_of(tensor);
        self.number_of(tensor)?;
        if !matches!(tensor.shape.len(), 1 | 2) {
            let problem = format!("shape {:?}, but one or two dimensions are needed", tensor.shape);
            return Err(FileError::tensor(path, name, problem));
        }
        let elements = tensor.elements() as usize;
        let held = reserve::<V>(budget, path, name, elements)?;
        let mut values = vec![V::default(); elements];
        self.read_values(tensor, 0, &mut values)?;
        let dense = Dense::new(tensor.shape.clone(), values).map_err(FileError::matrix(path, name))?;
        Ok(Held::new(dense, held))
    }

    /// Reads elements of a tensor of this checkpoint, from element `first` on in row-major order, as many as `out`
    /// has places: floats rounded to `V` (f64 as f64 is exact), integers and booleans exactly. May be called from
    /// several threads at once.
    ///
    /// # Errors
    /// When the tensor's element type is none of a number in every byte, the elements pass the end of the tensor, the
    /// file cannot be read, a finite number is too large for `V`, or `V` cannot hold an integer exactly; the error
    /// names element and number.
    pub fn read_values<V: Value>(&self, tensor: &TensorInfo, first: u64, out: &mut [V]) -> Result<()> {
        let number = self.number_of(tensor)?;
        let mut reader = TensorReader::new(self, tensor, first, number);
        number.fill(&mut reader, false, out).map_err(|trouble| self.error(tensor, first, trouble))
    }

    /// Reads elements of a tensor of this checkpoint as integers of type `T`, exactly; floats without a fraction and
    /// booleans (0, 1) count as integers. Otherwise as [`read_values`](Self::read_values).
    ///
    /// # Errors
    /// When the tensor's element type is none of a number in every byte, the elements pass the end of the tensor, the
    /// file cannot be read, or an element is not an integer or outside the range of `T`; the error names element and
    /// number.
    pub fn read_integers<T: TryFrom<i128>>(
        &self,
        tensor: &TensorInfo,
        first: u64,
        out: &mut [T],
    ) -> Result<()> {
        let number = self.number_of(tensor)?;
        let mut reader = TensorReader::new(self, tensor, first, number);
        number.fill_integers(&mut reader, false, out).map_err(|trouble| self.error(tensor, first, trouble))
    }

    fn number_of(&self, tensor: &TensorInfo) -> Result<Number> {
        Number::from_dtype(tensor.dtype).ok_or_else(|| FileError::Dtype {
            path: self.file_of(tensor).into(),
            tensor: tensor.name.clone(),
            dtype: tensor.dtype.to_string(),
            wanted: "an integer, F16, BF16, F32 or F64 is needed".into(),
        })
    }

    /// About elements from `first` on.
    fn error(&self, tensor: &TensorInfo, first: u64, trouble: Trouble) -> FileError {
        let path = self.file_of(tensor);
        match trouble {
            Trouble::At { position, problem } => {
                let element = first + position as u64;
                FileError::tensor(path, &tensor.name, format!("element {element}: {problem}"))
            }
            trouble => trouble.at(path, &tensor.name),
        }
    }
}

/// Reserves memory for `count` elements of `V`.
pub(super) fn reserve<V>(budget: &Budget, path: &Path, what: &str, count: usize) -> Result<Reservation> {
    let bytes = (count as u64).saturating_mul(size_of::<V>() as u64);
    budget.reserve(bytes, what).map_err(FileError::budget(path))
}

/// Reserves more memory, for `count` elements of `V`.
pub(super) fn grow<V>(held: &mut Reservation, path: &Path, what: &str, count: usize) -> Result<()> {
    let bytes = (count as u64).saturating_mul(size_of::<V>() as u64);
    held.grow(bytes, what).map_err(FileError::budget(path))
}

/// Reads a tensor from an element on.
struct TensorReader<'a> {
    file: &'a Checkpoint,
    tensor: &'a TensorInfo,
    offset: u64,
}

impl<'a> TensorReader<'a> {
    fn new(file: &'a Checkpoint, tensor: &'a TensorInfo, first: u64, number: Number) -> Self {
        // A product that would pass 2⁶⁴ lies behind every tensor's end.
        Self { file, tensor, offset: first.saturating_mul(number.bytes() as u64) }
    }
}

impl Read for TensorReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_exact(out).map(|()| out.len())
    }

    fn read_exact(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.file.read_at(self.tensor, self.offset, out).map_err(io::Error::other)?;
        self.offset += out.len() as u64;
        Ok(())
    }
}

/// Writes a safetensors file with one dense tensor and returns the bytes of the file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_dense<V: Value>(path: impl AsRef<Path>, name: &str, dense: &Dense<V>) -> Result<u64> {
    let mut writer = SafetensorsWriter::create(path, SafetensorsWriter::header_bytes(name, 2))?;
    let dtype = Number::of::<V>().dtype();
    writer.tensor(name, dtype, dense.shape(), bytemuck::cast_slice(dense.values()))?;
    writer.finish()
}
