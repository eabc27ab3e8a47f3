//! The file of a delta: a container of sparse matrices and whole tensors, with a table of hashes.

use std::path::Path;

use residua_format::file::{Container, ContainerKind, Dtype, FileError, Held, Plane, hash_bytes};
use residua_memory::Reservation;
use serde::{Deserialize, Serialize};

use super::report::{DiffReport, DiffTensor, Stored};
use super::row::Layout;
use super::target::{Target, tensors_of};
use super::{DeltaOp, ParseDeltaOpError};
use crate::SplitError;
use crate::report::reserve_report;

/// Metadata keys of the whole file. Two of them name a tensor that holds a text: the file's own header has a limit.
pub(crate) const OP: &str = "op";
pub(crate) const TABLE: &str = "delta";
pub(crate) const HEADER: &str = "target_header";
/// The names of these tensors, where no tensor of the new checkpoint has them.
pub(crate) const TABLE_TENSOR: &str = "delta.table";
pub(crate) const HEADER_TENSOR: &str = "delta.target_header";
pub(crate) const BASE_HASH: &str = "base_hash";
pub(crate) const TARGET_HASH: &str = "target_hash";

/// The JSON in the tensor that [`TABLE`] names.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Table {
    /// Hash of the text that [`HEADER`] names.
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

    /// Takes its texts out.
    pub(crate) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.stored, String::new()))
    }

    /// What a report says about this tensor. `sparse` has the changed elements and the bytes of its sparse matrix.
    pub(crate) fn report(&self, target: &Target, sparse: Option<(u64, u64)>) -> DiffTensor {
        let layout = Layout::new(target.dtype, target.bytes);
        let whole = || (self.changed.unwrap_or(layout.elements), target.bytes);
        let (changed, bytes) = match self.stored {
            Stored::Same => (0, 0),
            Stored::Sparse => sparse.unwrap_or_default(),
            Stored::Replaced | Stored::Reshaped | Stored::Added => whole(),
        };
        DiffTensor {
            name: target.name.clone(),
            dtype: target.dtype.to_string(),
            shape: target.shape.clone(),
            elements: layout.elements,
            changed,
            stored: self.stored,
            bytes,
        }
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
pub(crate) struct DeltaFile<'a> {
    pub(crate) container: &'a Container,
    targets: Held<Vec<Target>>,
    /// One for each target.
    entries: Vec<Entry>,
    pub(crate) removed: Vec<Removed>,
    /// The header of the file that a patch writes.
    pub(crate) header: Held<String>,
    _held: Reservation,
}

/// Memory of an entry of the table, of a tensor that stays or is gone, without the bytes of its texts.
pub(crate) const ENTRY: u64 = size_of::<Entry>() as u64 + 128;

impl<'a> DeltaFile<'a> {
    /// The delta in a container. The memory of its tables comes from the container's budget.
    pub(crate) fn new(container: &'a Container) -> Result<Self, SplitError> {
        let (path, budget) = (container.path(), container.file().budget());
        let malformed = |problem: String| SplitError::from(FileError::malformed(path, problem));
        if container.kind() != ContainerKind::Delta {
            return Err(malformed(format!("is no delta: its kind is {:?}", container.kind().name())));
        }
        let (header, table) = (text(container, HEADER)?, text(container, TABLE)?);
        let entries = table.bytes().filter(|&byte| byte == b'{').count() as u64;
        let held = budget.reserve_table(table.len() as u64 + entries * ENTRY, "the table of the delta")?;
        let table: Table = serde_json::from_str(&table)
            .map_err(|error| malformed(format!("metadata {TABLE:?}: {error}")))?;
        let found = hash_bytes(header.as_bytes());
        if found != table.header_hash {
            let (path, what) = (path.to_owned(), "the header of the new checkpoint".to_owned());
            return Err(FileError::Hash { path, what, expected: table.header_hash, found }.into());
        }
        let targets = tensors_of(&header, path, budget)?;
        if targets.len() != table.tensors.len() {
            let (has, listed) = (targets.len(), table.tensors.len());
            return Err(malformed(format!(
                "the new checkpoint has {has} tensors, but the table lists {listed}"
            )));
        }
        for (target, entry) in targets.iter().zip(&table.tensors) {
            if let Some(problem) = problem(container, target, entry) {
                return Err(FileError::tensor(path, &target.name, problem).into());
            }
        }
        let Table { tensors, removed, .. } = table;
        Ok(Self { container, targets, entries: tensors, removed, header, _held: held })
    }

    /// Every tensor of the new checkpoint, and how it is stored.
    pub(crate) fn tensors(&self) -> impl ExactSizeIterator<Item = (&Target, &Entry)> {
        self.targets.iter().zip(&self.entries)
    }

    /// The hash of a tensor in the old checkpoint; `None` for a new tensor.
    pub(crate) fn base_hash<'t>(&'t self, target: &Target, entry: &'t Entry) -> Option<&'t str> {
        match entry.stored {
            Stored::Same => Some(&entry.hash),
            Stored::Sparse => self.container.matrix(&target.name)?.base_hash.as_deref(),
            Stored::Replaced | Stored::Reshaped => entry.base_hash.as_deref(),
            Stored::Added => None,
        }
    }
}

/// The text in the tensor that a metadata key names.
fn text(container: &Container, key: &str) -> Result<Held<String>, SplitError> {
    let path = container.path();
    let malformed = |problem: String| FileError::malformed(path, format!("is no delta: {problem}"));
    let Some(name) = container.metadata(key) else {
        return Err(malformed(format!("its metadata has no {key:?}")).into());
    };
    let Some(tensor) = container.dense_tensor(name).filter(|tensor| tensor.dtype == Dtype::U8) else {
        return Err(malformed(format!(
            "its metadata names a tensor {name:?} of bytes for {key:?}, which is not there"
        ))
        .into());
    };
    let held = container.file().budget().reserve_table(tensor.bytes, &format!("tensor {name}"))?;
    let mut bytes = vec![0; tensor.bytes as usize];
    container.file().read_at(tensor, 0, &mut bytes)?;
    let text = String::from_utf8(bytes)
        .map_err(|error| FileError::tensor(path, name, format!("is no text: {error}")))?;
    Ok(Held::new(text, held))
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
            let whole = container.dense_tensor(&target.name);
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
    report_delta(&Container::open(path)?)
}

/// As [`read_delta`], of an open container. The memory of the delta's tables comes from the container's budget.
///
/// # Errors
/// As [`read_delta`], and when the budget does not hold the tables.
pub fn report_delta(container: &Container) -> Result<DiffReport, SplitError> {
    let (delta, path) = (DeltaFile::new(container)?, container.path());
    let names = delta.tensors().map(|(target, _)| &*target.name);
    let _report = reserve_report::<DiffTensor>(names, container.file().budget())?;
    let text = |key| container.metadata(key).unwrap_or_default();
    let op =
        text(OP).parse().map_err(|error: ParseDeltaOpError| FileError::malformed(path, error.to_string()))?;
    let mut tensors = Vec::new();
    for (target, entry) in delta.tensors() {
        let sparse = match entry.stored {
            Stored::Sparse => {
                let nnz = container.matrix(&target.name).map_or(0, |matrix| matrix.nnz);
                Some((nnz, container.gap_bytes(&target.name)?))
            }
            _ => None,
        };
        tensors.push(entry.report(target, sparse));
    }
    let file = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
    Ok(DiffReport {
        op,
        tensors,
        removed: delta.removed.iter().map(|removed| removed.name.clone()).collect(),
        base_hash: text(BASE_HASH).to_owned(),
        target_hash: text(TARGET_HASH).to_owned(),
        target_bytes: delta.targets.iter().map(|target| target.bytes).sum(),
        delta_bytes: file.len(),
    })
}
