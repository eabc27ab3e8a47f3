//! The file of a delta: a container of sparse matrices and whole tensors, with a table of hashes.

use std::path::Path;

use residua_format::file::{Container, ContainerKind, Dtype, FileError, Plane, hash_bytes};
use serde::{Deserialize, Serialize};

use super::report::{DiffReport, DiffTensor, Stored};
use super::row::Layout;
use super::target::{Target, tensors_of};
use super::{DeltaOp, ParseDeltaOpError};
use crate::SplitError;

/// Metadata keys of the whole file.
pub(crate) const OP: &str = "op";
pub(crate) const TABLE: &str = "delta";
pub(crate) const HEADER: &str = "target_header";
pub(crate) const BASE_HASH: &str = "base_hash";
pub(crate) const TARGET_HASH: &str = "target_hash";

/// The JSON under [`TABLE`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Hash of the text under [`HEADER`].
    pub(crate) header_hash: String,
    /// One for each tensor of that header, in the order of the data; empty tensors by name.
    pub(crate) tensors: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) removed: Vec<Removed>,
}

/// How a tensor is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) stored: Stored,
    /// Hash of its bytes in the new checkpoint.
    pub(crate) hash: String,
    /// Hash of its bytes in the old checkpoint, if it was replaced or reshaped. A sparse tensor has it in its
    /// metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_hash: Option<String>,
    /// Elements that changed, if it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changed: Option<u64>,
    /// Its old element type and shape, if it was reshaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<(Dtype, Vec<usize>)>,
}

impl Entry {
    pub(crate) fn new(stored: Stored, hash: String) -> Self {
        Self { stored, hash, base_hash: None, changed: None, base: None }
    }
}

/// A tensor that only the old checkpoint has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Removed {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) hash: String,
}

/// A delta, open for positioned reads. Invariant, always checked: every tensor of the new checkpoint is stored as the
/// table says, with its element type and shape.
#[derive(Debug)]
pub(crate) struct DeltaFile {
    pub(crate) container: Container,
    pub(crate) header: String,
    pub(crate) tensors: Vec<(Target, Entry)>,
    pub(crate) removed: Vec<Removed>,
}

impl DeltaFile {
    pub(crate) fn open(path: &Path) -> Result<Self, SplitError> {
        let container = Container::open(path)?;
        let malformed = |problem: String| SplitError::from(FileError::malformed(path, problem));
        if container.kind() != ContainerKind::Delta {
            return Err(malformed(format!("is no delta: its kind is {:?}", container.kind().name())));
        }
        let entry = |key| {
            let missing = || malformed(format!("is no delta: its metadata has no {key:?}"));
            container.metadata(key).ok_or_else(missing)
        };
        let header = entry(HEADER)?.to_owned();
        let table: Table = serde_json::from_str(entry(TABLE)?)
            .map_err(|error| malformed(format!("metadata {TABLE:?}: {error}")))?;
        let found = hash_bytes(header.as_bytes());
        if found != table.header_hash {
            let (path, what) = (path.to_owned(), "the header of the new checkpoint".to_owned());
            return Err(FileError::Hash { path, what, expected: table.header_hash, found }.into());
        }
        let targets = tensors_of(&header, path)?;
        if targets.len() != table.tensors.len() {
            let (has, listed) = (targets.len(), table.tensors.len());
            return Err(malformed(format!(
                "the new checkpoint has {has} tensors, but the table lists {listed}"
            )));
        }
        let tensors: Vec<_> = targets.into_iter().zip(table.tensors).collect();
        for (target, entry) in &tensors {
            if let Some(problem) = problem(&container, target, entry) {
                return Err(FileError::tensor(path, &target.name, problem).into());
            }
        }
        Ok(Self { container, header, tensors, removed: table.removed })
    }

    /// The hash of a tensor in the old checkpoint; `None` for a new tensor.
    pub(crate) fn base_hash<'a>(&'a self, target: &Target, entry: &'a Entry) -> Option<&'a str> {
        match entry.stored {
            Stored::Same => Some(&entry.hash),
            Stored::Sparse => self.container.matrix(&target.name)?.base_hash.as_deref(),
            Stored::Replaced | Stored::Reshaped => entry.base_hash.as_deref(),
            Stored::Added => None,
        }
    }
}

/// What is wrong with the way a tensor is stored, if anything.
fn problem(container: &Container, target: &Target, entry: &Entry) -> Option<String> {
    let (dtype, shape) = (target.dtype, &target.shape);
    match entry.stored {
        Stored::Same => return None,
        Stored::Sparse => {
            let Some(matrix) = container.matrix(&target.name) else {
                return Some("the table says that it is sparse, but there is no such matrix".to_owned());
            };
            let layout = Layout::new(dtype, target.bytes);
            if matrix.shape != layout.shape() || matrix.dtype != dtype {
                let ([rows, cols], wanted) = (matrix.shape, layout.shape());
                let found = matrix.dtype;
                let problem =
                    format!("a [{rows}, {cols}] matrix of {found}, but {wanted:?} of {dtype} is needed");
                return Some(problem);
            }
            if delta_op(matrix.op).is_none() {
                return Some(format!("op {} does not occur in a delta", matrix.op));
            }
            let plane = container.plane(&target.name, Plane::Values).ok()?.dtype;
            if matrix.values.is_some() || plane != layout.plane_dtype() {
                return Some(format!(
                    "values of {plane}, but raw bits in {} are needed",
                    layout.plane_dtype()
                ));
            }
            if matrix.base_hash.is_none() {
                return Some("no hash of its base".to_owned());
            }
        }
        Stored::Replaced | Stored::Reshaped | Stored::Added => {
            let whole = container.dense().iter().find(|tensor| tensor.name == target.name);
            if whole.is_none_or(|whole| whole.dtype != dtype || whole.shape != *shape) {
                return Some(format!(
                    "the table says that it is stored whole, as {dtype} {shape:?}; it is not"
                ));
            }
            if entry.stored != Stored::Added && entry.base_hash.is_none() {
                return Some("no hash of its base".to_owned());
            }
            if entry.stored == Stored::Reshaped && entry.base.is_none() {
                return Some("no shape of its base".to_owned());
            }
        }
    }
    None
}

/// The op of a matrix as the op of a delta.
pub(crate) fn delta_op(op: residua_format::file::Op) -> Option<DeltaOp> {
    DeltaOp::ALL.into_iter().find(|delta| delta.op() == op)
}

/// Reads what a delta holds, without applying it.
///
/// # Errors
/// When the file cannot be read or is no valid delta. The content of its planes is checked by
/// [`patch`](crate::patch()).
pub fn read_delta(path: impl AsRef<Path>) -> Result<DiffReport, SplitError> {
    report(path.as_ref())
}

fn report(path: &Path) -> Result<DiffReport, SplitError> {
    let delta = DeltaFile::open(path)?;
    let container = &delta.container;
    let text = |key| container.metadata(key).unwrap_or_default();
    let op =
        text(OP).parse().map_err(|error: ParseDeltaOpError| FileError::malformed(path, error.to_string()))?;
    let mut tensors = Vec::new();
    for (target, entry) in &delta.tensors {
        let layout = Layout::new(target.dtype, target.bytes);
        let (changed, bytes) = match entry.stored {
            Stored::Same => (0, 0),
            Stored::Sparse => {
                let nnz = container.matrix(&target.name).map_or(0, |matrix| matrix.nnz);
                (nnz, container.gap_bytes(&target.name)?)
            }
            _ => (entry.changed.unwrap_or(layout.elements), target.bytes),
        };
        tensors.push(DiffTensor {
            name: target.name.clone(),
            dtype: target.dtype.to_string(),
            shape: target.shape.clone(),
            elements: layout.elements,
            changed,
            stored: entry.stored,
            bytes,
        });
    }
    let file = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
    Ok(DiffReport {
        op,
        tensors,
        removed: delta.removed.iter().map(|removed| removed.name.clone()).collect(),
        base_hash: text(BASE_HASH).to_owned(),
        target_hash: text(TARGET_HASH).to_owned(),
        target_bytes: delta.tensors.iter().map(|(target, _)| target.bytes).sum(),
        delta_bytes: file.len(),
    })
}
