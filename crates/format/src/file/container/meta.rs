//! The metadata of a container.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::{BaseKind, GapPattern, QuantizedBase, ValueType};

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerKind {
    /// A checkpoint split into base and residual.
    Split,
    /// Single sparse matrices.
    Matrix,
    /// The difference between two checkpoints.
    Delta,
}

impl ContainerKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Split, Self::Matrix, Self::Delta];

    /// Its name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Matrix => "matrix",
            Self::Delta => "delta",
        }
    }
}

/// How the entries of a sparse matrix apply to its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// `w = base + alpha · value`.
    #[default]
    Add,
    /// The bits of the entry replace the bits of the base.
    Overwrite,
    /// The bits of the entry are xor-ed into the bits of the base.
    Xor,
}

impl Op {
    /// Every op.
    pub const ALL: [Self; 3] = [Self::Add, Self::Overwrite, Self::Xor];

    /// Its name, as files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Overwrite => "overwrite",
            Self::Xor => "xor",
        }
    }
}

impl std::fmt::Display for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// One matrix of a container: the JSON under the key `matrix:{name}`. The planes of the matrix follow from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixMeta {
    /// `[rows, cols]` = `[out_features, in_features]`.
    pub shape: [usize; 2],
    /// The shape of the tensor, if it is not two-dimensional. `shape` has the same number of elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_shape: Option<Vec<usize>>,
    /// Element type of the dense tensor.
    pub dtype: Dtype,
    /// How entries apply.
    pub op: Op,
    /// Non-zeros.
    pub nnz: u64,
    /// Length of the value plane: non-zeros and fillers.
    pub entries: u64,
    /// Length of the index plane.
    pub index_bytes: u64,
    /// Whether the matrix has mode planes, because some row is not in gap mode.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub row_modes: bool,
    /// How values are stored; `None` for raw bits, as wide as the unsigned element type of the value plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<ValueType>,
    /// How the base is quantised, if the container holds a base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseKind>,
    /// BLAKE3 hash of the bytes of the dense tensor that the entries apply to, if the container does not hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_hash: Option<String>,
    /// BLAKE3 hashes (hexadecimal) of the planes without padding, by [`Plane::suffix`](super::Plane::suffix). A writer
    /// sets them; empty if it was not asked to ([`ContainerWriter::hash_planes`](super::ContainerWriter::hash_planes)).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hashes: BTreeMap<String, String>,
    /// All other keys.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

impl MatrixMeta {
    /// A matrix without entries, op `add`, raw values, no base.
    pub fn new(shape: [usize; 2], dtype: Dtype) -> Self {
        Self {
            shape,
            tensor_shape: None,
            dtype,
            op: Op::Add,
            nnz: 0,
            entries: 0,
            index_bytes: 0,
            row_modes: false,
            values: None,
            base: None,
            base_hash: None,
            hashes: BTreeMap::new(),
            extra: BTreeMap::new(),
        }
    }

    /// Non-zeros divided by `rows · cols`; 0 for an empty matrix.
    pub fn density(&self) -> f64 {
        self.nnz as f64 / (self.shape[0] as f64 * self.shape[1] as f64).max(1.0)
    }

    /// Sets shape and counts from a pattern.
    pub fn set_pattern(&mut self, pattern: &GapPattern) {
        self.shape = [pattern.rows(), pattern.cols()];
        self.nnz = pattern.nnz() as u64;
        self.entries = pattern.entries() as u64;
        self.index_bytes = pattern.index().len() as u64;
        self.row_modes = pattern.modes().is_some();
    }

    /// Sets shape and base kind from a base.
    pub fn set_base(&mut self, base: &QuantizedBase) {
        self.shape = [base.rows(), base.cols()];
        self.base = Some(base.kind());
    }
}
