//! What a diff found and what a patch did.

use serde::{Deserialize, Serialize};

use super::DeltaOp;

/// How a delta holds a tensor of the new checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// It did not change; only its hash is there.
    Same,
    /// The elements that changed, and where they are.
    Sparse,
    /// Whole, because the changed elements and their places would take more.
    Replaced,
    /// Whole, because its shape or element type changed.
    Reshaped,
    /// Whole, because the old checkpoint does not have it.
    Added,
}

impl Stored {
    /// Whether the delta holds all of the tensor's bytes.
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
    /// Its elements; its bytes, where elements are smaller than that (F4, F6).
    pub elements: u64,
    /// Those that changed; all of them in a tensor that was reshaped or added.
    pub changed: u64,
    /// How the delta holds it.
    pub stored: Stored,
    /// Bytes of the delta's tensors that hold it, padding left out.
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

    /// Bytes of the file, everything counted, for each changed element; 0 when nothing changed.
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
    /// Bytes of the file written.
    pub output_bytes: u64,
}
