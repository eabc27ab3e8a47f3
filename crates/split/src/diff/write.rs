//! Writing the delta.

use std::path::Path;

use residua_format::file::{
    Checkpoint, ContainerKind, ContainerWriter, Dtype, FileError, MatrixMeta, Plane, SafetensorsWriter,
    TensorInfo, hash_bytes,
};
use residua_memory::ALIGNMENT;

use super::scan::{Planes, Sparse};
use crate::delta::file::{BASE_HASH, Entry, HEADER, OP, Removed, TABLE, TARGET_HASH, Table};
use crate::delta::row::Layout;
use crate::delta::workers::advance;
use crate::passed::copy;
use crate::progress::check_stop;
use crate::{DeltaOp, Progress, SplitError};

/// The result for a tensor of the new checkpoint.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) tensor: &'a TensorInfo,
    pub(super) entry: Entry,
    /// The matrix, if the tensor is stored sparse. Its long planes are in the spools, in the order of the tensors.
    pub(super) matrix: Option<(MatrixMeta, Sparse)>,
}

impl<'a> Found<'a> {
    /// A tensor that is not stored sparse.
    pub(super) fn whole(tensor: &'a TensorInfo, entry: Entry) -> Self {
        Self { tensor, entry, matrix: None }
    }
}

/// A delta that is ready to be written.
pub(super) struct Draft<'a> {
    pub(super) op: DeltaOp,
    pub(super) new: &'a Checkpoint,
    /// The header of the file that a patch writes.
    pub(super) header: String,
    pub(super) base_hash: String,
    pub(super) target_hash: String,
    /// Every tensor of the header, in its order.
    pub(super) found: Vec<Found<'a>>,
    pub(super) removed: Vec<Removed>,
    pub(super) planes: Planes,
}

/// Bytes that a matrix takes in the file, header and padding included.
pub(super) fn sparse_bytes(name: &str, meta: &MatrixMeta) -> u64 {
    let size = Layout::new(meta.dtype, 0).size as u64;
    let planes = Plane::ALL.into_iter().filter(|plane| plane.belongs(meta)).map(|plane| {
        let size = match plane {
            Plane::Values => size,
            Plane::RowPtr | Plane::IndexPtr => 4,
            _ => 1,
        };
        (plane.elements(meta).unwrap_or(0) * size).next_multiple_of(ALIGNMENT as u64)
    });
    planes.sum::<u64>() + matrix_header_bytes(name, meta)
}

/// Bytes that a whole tensor takes in the file.
pub(super) fn dense_bytes(tensor: &TensorInfo) -> u64 {
    tensor.bytes + SafetensorsWriter::header_bytes(&tensor.name, tensor.shape.len())
}

/// As [`ContainerWriter::matrix_header_bytes`], but for metadata that is complete.
fn matrix_header_bytes(name: &str, meta: &MatrixMeta) -> u64 {
    let planes = Plane::ALL.into_iter().filter(|plane| plane.belongs(meta));
    let tensors: u64 = planes.map(|plane| SafetensorsWriter::header_bytes(&plane.tensor(name), 1)).sum();
    let json = serde_json::to_string(meta).unwrap_or_default();
    tensors + entry_bytes(&format!("matrix:{name}"), &json)
}

/// Bytes of a metadata entry in the header.
fn entry_bytes(key: &str, value: &str) -> u64 {
    let escaped = |text| serde_json::to_string(text).map_or(0, |json| json.len() as u64);
    escaped(key) + escaped(value) + 2
}

impl Draft<'_> {
    /// Writes the file.
    pub(super) fn write(mut self, path: &Path, progress: &dyn Progress) -> Result<(), SplitError> {
        let metadata = self.metadata(path)?;
        let whole = whole(&self.found);
        let matrices = self.found.iter().filter_map(|Found { tensor, matrix, .. }| {
            matrix.as_ref().map(|(meta, _)| matrix_header_bytes(&tensor.name, meta))
        });
        let header_bytes = matrices.sum::<u64>()
            + whole.iter().map(|t| SafetensorsWriter::header_bytes(&t.name, t.shape.len())).sum::<u64>()
            + metadata.iter().map(|(key, value)| entry_bytes(key, value)).sum::<u64>();
        let (index, values) = self.planes.lengths();
        progress.begin("writing", index + values + whole.iter().map(|tensor| tensor.bytes).sum::<u64>());

        let mut writer = ContainerWriter::create(path, ContainerKind::Delta, header_bytes)?;
        for (key, value) in metadata {
            writer.metadata(key, value);
        }
        self.planes.index.rewind()?;
        self.planes.values.rewind()?;
        for Found { tensor, matrix, .. } in &self.found {
            if let Some((meta, sparse)) = matrix {
                write_matrix(&mut writer, &mut self.planes, &tensor.name, meta, sparse, progress)?;
            }
        }
        for tensor in whole {
            progress.tensor(&tensor.name);
            writer.begin_dense(&tensor.name, tensor.dtype, &tensor.shape)?;
            copy(self.new, tensor, progress, |bytes| writer.write(bytes))?;
            writer.end_dense()?;
        }
        check_stop(progress)?;
        writer.finish()?;
        progress.end();
        Ok(())
    }

    fn metadata(&mut self, path: &Path) -> Result<[(&'static str, String); 5], SplitError> {
        let header = std::mem::take(&mut self.header);
        let table = Table {
            header_hash: hash_bytes(header.as_bytes()),
            tensors: self.found.iter().map(|found| found.entry.clone()).collect(),
            removed: std::mem::take(&mut self.removed),
        };
        let table = serde_json::to_string(&table)
            .map_err(|error| FileError::malformed(path, format!("table of tensors: {error}")))?;
        Ok([
            (OP, self.op.name().to_owned()),
            (BASE_HASH, std::mem::take(&mut self.base_hash)),
            (TARGET_HASH, std::mem::take(&mut self.target_hash)),
            (TABLE, table),
            (HEADER, header),
        ])
    }
}

/// The tensors that are stored whole, widest elements first. The container demands this order.
fn whole<'a>(found: &[Found<'a>]) -> Vec<&'a TensorInfo> {
    let whole = found.iter().filter(|found| found.entry.stored.is_whole());
    let mut whole: Vec<_> = whole.map(|found| found.tensor).collect();
    whole.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    whole
}

/// Writes a sparse matrix. Its long planes come next in the spools.
fn write_matrix(
    writer: &mut ContainerWriter,
    planes: &mut Planes,
    name: &str,
    meta: &MatrixMeta,
    sparse: &Sparse,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    writer.plane(name, Plane::RowPtr, Dtype::U32, sparse.row_ptr.as_bytes())?;
    if let Some((row_modes, index_ptr)) = &sparse.modes {
        writer.plane(name, Plane::RowModes, Dtype::U8, row_modes)?;
        writer.plane(name, Plane::IndexPtr, Dtype::U32, index_ptr.as_bytes())?;
    }
    let layout = Layout::new(meta.dtype, 0);
    let value_bytes = sparse.entries * layout.size as u64;
    for (plane, dtype, spool, length) in [
        (Plane::Gaps, Dtype::U8, &mut planes.index, sparse.index_bytes),
        (Plane::Values, layout.plane_dtype(), &mut planes.values, value_bytes),
    ] {
        writer.begin_plane(name, plane, dtype)?;
        spool.drain(length, |bytes| {
            check_stop(progress)?;
            advance(progress, bytes);
            Ok(writer.write(bytes)?)
        })?;
        writer.end_plane()?;
    }
    writer.matrix(name, meta.clone());
    Ok(())
}
