//! Dense arrays, from and to safetensors.

use std::io::{self, Read};
use std::path::Path;

use residua_memory::{Budget, Reservation};

use super::number::Number;
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

    /// Reads a tensor of one or two dimensions and rounds its values to `V`. The element type is an integer, F16,
    /// BF16, F32 or F64.
    ///
    /// # Errors
    /// When there is no such tensor, its element type or number of dimensions is not supported, a finite number is
    /// too large for `V`, or the budget does not allow its bytes.
    pub fn read_dense<V: Value>(&self, name: &str, budget: &Budget) -> Result<Held<Dense<V>>> {
        let tensor = self.expect_tensor(name)?;
        let path = self.file_of(tensor);
        let Some(number) = Number::from_dtype(tensor.dtype) else {
            return Err(FileError::Dtype {
                path: path.into(),
                tensor: name.into(),
                dtype: tensor.dtype.to_string(),
                wanted: "an integer, F16, BF16, F32 or F64 is needed".into(),
            });
        };
        if !matches!(tensor.shape.len(), 1 | 2) {
            let problem = format!("shape {:?}, but one or two dimensions are needed", tensor.shape);
            return Err(FileError::tensor(path, name, problem));
        }
        let elements = tensor.elements() as usize;
        let held = reserve::<V>(budget, path, name, elements)?;
        let mut values = Vec::with_capacity(elements);
        let mut reader = TensorReader { file: self, tensor, offset: 0 };
        number
            .read(&mut reader, false, elements, |value| values.push(value))
            .map_err(|trouble| trouble.at(path, name))?;
        let dense = Dense::new(tensor.shape.clone(), values).map_err(FileError::matrix(path, name))?;
        Ok(Held::new(dense, held))
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

/// Reads a tensor front to back.
struct TensorReader<'a> {
    file: &'a Checkpoint,
    tensor: &'a TensorInfo,
    offset: u64,
}

impl Read for TensorReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let size = (out.len() as u64).min(self.tensor.bytes - self.offset) as usize;
        self.file.read_at(self.tensor, self.offset, &mut out[..size]).map_err(io::Error::other)?;
        self.offset += size as u64;
        Ok(size)
    }
}

/// Writes a safetensors file with one dense tensor and returns the bytes of the file.
///
/// # Errors
/// When the file cannot be written.
pub fn write_dense<V: Value>(path: impl AsRef<Path>, name: &str, dense: &Dense<V>) -> Result<u64> {
    let mut writer = SafetensorsWriter::create(path, SafetensorsWriter::header_bytes(name, 2))?;
    let dtype = Number::of::<V>().float_dtype();
    writer.tensor(name, dtype, dense.shape(), bytemuck::cast_slice(dense.values()))?;
    writer.finish()
}
