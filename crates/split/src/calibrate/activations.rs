//! Stored inputs of layers.

use std::ops::Range;
use std::path::{Path, PathBuf};

use residua_format::file::{Checkpoint, FileError, NpyFile, TensorInfo};
use residua_memory::Budget;

use crate::SplitError;

/// Where an array `[rows, in_features]` is: floats or integers of any type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActivationsAt {
    /// A `.npy` file.
    Npy(PathBuf),
    /// A tensor of a checkpoint: the path of the checkpoint, and the tensor's name.
    Tensor(PathBuf, String),
}

impl ActivationsAt {
    /// The path of the file.
    pub fn path(&self) -> &Path {
        match self {
            Self::Npy(path) | Self::Tensor(path, _) => path,
        }
    }

    pub(super) fn open(&self, budget: &Budget) -> Result<Activations, SplitError> {
        let (place, shape) = match self {
            Self::Npy(path) => {
                let file = NpyFile::open(path)?;
                let shape = file.shape().to_vec();
                (Place::Npy(file), shape)
            }
            Self::Tensor(path, name) => {
                let file = Checkpoint::open_within(path, budget)?;
                let info = file.expect_tensor(name)?.clone();
                let shape = info.shape.clone();
                (Place::Tensor(Box::new(file), info), shape)
            }
        };
        match *shape {
            [rows, width] if width > 0 && u32::try_from(width).is_ok() => {
                Ok(Activations { place, rows, width })
            }
            _ => {
                let problem = format!("shape {shape:?}, but activations have [rows, in_features]");
                Err(match self {
                    Self::Npy(path) => FileError::malformed(path, problem).into(),
                    Self::Tensor(path, name) => SplitError::tensor(path, name, problem),
                })
            }
        }
    }
}

/// Some inputs of the layer with this weight.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerInputs {
    /// The name of the weight `[out_features, in_features]`.
    pub tensor: String,
    /// Its inputs, `[rows, in_features]`.
    pub activations: ActivationsAt,
}

impl LayerInputs {
    /// Inputs of the layer whose weight is `tensor`.
    pub fn new(tensor: impl Into<String>, activations: ActivationsAt) -> Self {
        Self { tensor: tensor.into(), activations }
    }
}

/// An open array of activations.
#[derive(Debug)]
pub(super) struct Activations {
    place: Place,
    pub(super) rows: usize,
    pub(super) width: usize,
}

#[derive(Debug)]
enum Place {
    Npy(NpyFile),
    Tensor(Box<Checkpoint>, TensorInfo),
}

impl Activations {
    /// Reads rows; all of them are finite. `tensor` is the layer's weight, for errors.
    pub(super) fn read(&self, rows: Range<usize>, tensor: &str, out: &mut [f64]) -> Result<(), SplitError> {
        match &self.place {
            Place::Npy(file) => file.read_rows(rows.clone(), out)?,
            Place::Tensor(file, info) => file.read_values(info, (rows.start * self.width) as u64, out)?,
        }
        let Some(at) = out.iter().position(|value| !value.is_finite()) else { return Ok(()) };
        let (file, tensor) = match &self.place {
            Place::Npy(file) => (file.path(), tensor),
            Place::Tensor(file, info) => (file.file_of(info), &*info.name),
        };
        Err(SplitError::NotFinite {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            row: rows.start + at / self.width,
            col: at % self.width,
            value: out[at],
        })
    }
}
