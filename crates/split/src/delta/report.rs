//! Reports of diff and patch.

use serde::{Deserialize, Serialize};

use super::DeltaOp;

/// How a delta holds a tensor of the new checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// Unchanged: the delta holds its hash alone.
    Same,
    /// The elements that changed, with their positions.
    Sparse,
    /// Whole, because the changed elements and their positions would take more bytes.
    Replaced,
    /// Whole, because its shape or element type changed.
    Reshaped,
    /// Whole, because the old checkpoint does not have it.
    Added,
}

impl Stored {
    /// Whether the delta holds the tensor whole.
    pub fn is_whole(self) -> bool {
        matches!(self, Self::Replaced | Self::Reshaped | Self::Added)
    }
}

/// A tensor of the new checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiffTensor {
    /// Its name.
    pub name: String,
    /// Its dtype, as safetensors spells it.
    pub dtype: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Number of elements; of bytes, for elements of less than a byte (F4, F6).
    pub elements: u64,
    /// Number of changed elements; all of them in a tensor that was reshaped or added.
    pub changed: u64,
    /// How the delta holds it.
    pub stored: Stored,
    /// Bytes that hold it in the delta, without padding.
    pub bytes: u64,
}

/// What [`diff`](crate::diff()) found, or [`read_delta`](crate::read_delta) read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DiffReport {
    /// How changed elements are stored.
    pub op: DeltaOp,
    /// Every tensor of the new checkpoint, in the order of its data.
    pub tensors: Vec<DiffTensor>,
    /// Tensors of the old checkpoint that the new one does not have.
    pub removed: Vec<String>,
    /// Hash of the old checkpoint, see [`Checkpoint::hash`](residua_format::file::Checkpoint::hash).
    pub base_hash: String,
    /// Hash of the new checkpoint.
    pub target_hash: String,
    /// Bytes of the new checkpoint's tensors.
    pub target_bytes: u64,
    /// Bytes of the delta's file.
    pub delta_bytes: u64,
}

impl DiffReport {
    /// Elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.elements).sum()
    }

    /// Changed elements of all tensors.
    pub fn changed(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.changed).sum()
    }

    /// Bytes of the delta file per changed element; 0 when nothing changed.
    pub fn bytes_per_change(&self) -> f64 {
        if self.changed() == 0 { 0.0 } else { self.delta_bytes as f64 / self.changed() as f64 }
    }
}

/// A tensor that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PatchedTensor {
    /// Its name.
    pub name: String,
    /// How the delta held it.
    pub stored: Stored,
    /// Its bytes.
    pub bytes: u64,
}

/// What [`patch`](crate::patch()) did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PatchReport {
    /// Every tensor of the new checkpoint, in the order of its data.
    pub tensors: Vec<PatchedTensor>,
    /// Tensors of the old checkpoint that were left out.
    pub removed: Vec<String>,
    /// Bytes of the output file.
    pub output_bytes: u64,
}
