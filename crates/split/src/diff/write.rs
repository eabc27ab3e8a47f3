//! Writing the delta.

use std::path::Path;

use residua_format::file::{
    Checkpoint, ContainerKind, ContainerWriter, Dtype, FileError, MatrixMeta, Plane, SafetensorsWriter,
    TensorInfo, hash_bytes,
};
use residua_memory::ALIGNMENT;

use super::scan::{Planes, Sparse};
use crate::delta::file::{
    BASE_HASH, Entry, HEADER, HEADER_TENSOR, OP, Removed, TABLE, TABLE_TENSOR, TARGET_HASH, Table,
};
use crate::delta::row::Layout;
use crate::delta::workers::advance;
use crate::passed::copy;
use crate::progress::check_stop;
use crate::{DeltaOp, DiffReport, Progress, SplitError};

/// Bytes of the header for everything but the tensors.
const METADATA: u64 = 1 << 10;
/// The fewest bytes that a sparse matrix takes in the header, without its name: three planes and its metadata.
pub(super) const MATRIX: u64 = 500;

/// The result for a tensor of the new checkpoint.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) tensor: &'a TensorInfo,
    pub(super) entry: Entry,
    /// The matrix, if the tensor is stored sparse. Its long planes are in the spools, in the order of the tensors.
    pub(super) matrix: Option<Box<(MatrixMeta, Sparse)>>,
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

/// Bytes of each plane of a matrix, without padding.
fn plane_bytes(meta: &MatrixMeta) -> impl Iterator<Item = u64> {
    let size = Layout::new(meta.dtype, 0).size as u64;
    Plane::ALL.into_iter().filter(|plane| plane.belongs(meta)).map(move |plane| {
        let size = match plane {
            Plane::Values => size,
            Plane::RowPtr | Plane::IndexPtr => 4,
            _ => 1,
        };
        plane.elements(meta).unwrap_or(0) * size
    })
}

/// Bytes that a matrix takes in the file, header and padding included.
pub(super) fn sparse_bytes(name: &str, meta: &MatrixMeta) -> u64 {
    let planes = plane_bytes(meta).map(|bytes| bytes.next_multiple_of(ALIGNMENT as u64));
    planes.sum::<u64>() + matrix_header_bytes(name, meta)
}

/// Bytes that a whole tensor takes in the file.
pub(super) fn dense_bytes(tensor: &TensorInfo) -> u64 {
    tensor.bytes + SafetensorsWriter::header_bytes(&tensor.name, tensor.shape.len())
}

/// Whether a sparse matrix can be smaller than the tensor. It has a header and at least three padded planes.
pub(super) fn may_be_sparse(tensor: &TensorInfo) -> bool {
    dense_bytes(tensor) > 3 * ALIGNMENT as u64 + MATRIX + 4 * tensor.name.len() as u64
}

/// As [`ContainerWriter::matrix_header_bytes`], but for metadata that is complete.
fn matrix_header_bytes(name: &str, meta: &MatrixMeta) -> u64 {
    let planes = Plane::ALL.into_iter().filter(|plane| plane.belongs(meta));
    let tensors: u64 = planes.map(|plane| SafetensorsWriter::header_bytes(&plane.tensor(name), 1)).sum();
    let json = serde_json::to_string(meta).unwrap_or_default();
    tensors + SafetensorsWriter::metadata_bytes(&format!("matrix:{name}"), &json)
}

impl Draft<'_> {
    /// Writes the file; what it holds.
    pub(super) fn write(mut self, path: &Path, progress: &dyn Progress) -> Result<DiffReport, SplitError> {
        let mut report = self.report();
        let whole = whole(&self.found);
        let table = self.table(path)?;
        let [table_name, header_name] = [TABLE_TENSOR, HEADER_TENSOR].map(|name| free_name(self.new, name));
        let matrices = self.found.iter().filter_map(|Found { tensor, matrix, .. }| {
            matrix.as_ref().map(|matrix| matrix_header_bytes(&tensor.name, &matrix.0))
        });
        let header_bytes = matrices.sum::<u64>()
            + whole.iter().map(|t| SafetensorsWriter::header_bytes(&t.name, t.shape.len())).sum::<u64>()
            + METADATA;
        let (index, values) = self.planes.lengths();
        progress.begin("writing", index + values + whole.iter().map(|tensor| tensor.bytes).sum::<u64>());
        let metadata = [
            (OP, self.op.name()),
            (BASE_HASH, &self.base_hash),
            (TARGET_HASH, &self.target_hash),
            (TABLE, &table_name),
            (HEADER, &header_name),
        ];

        let mut writer = ContainerWriter::create(path, ContainerKind::Delta, header_bytes)?;
        for (key, value) in metadata {
            writer.metadata(key, value);
        }
        self.planes.index.rewind()?;
        self.planes.values.rewind()?;
        for Found { tensor, matrix, .. } in &self.found {
            if let Some(matrix) = matrix {
                write_matrix(&mut writer, &mut self.planes, &tensor.name, matrix, progress)?;
            }
        }
        let copy_all = |tensors: &[&TensorInfo], writer: &mut ContainerWriter| {
            tensors.iter().try_for_each(|tensor| {
                progress.tensor(&tensor.name);
                writer.begin_dense(&tensor.name, tensor.dtype, &tensor.shape)?;
                copy(self.new, tensor, progress, |bytes| writer.write(bytes))?;
                Ok::<_, SplitError>(writer.end_dense()?)
            })
        };
        // Widest elements first: the tables are bytes.
        let (wide, narrow) = whole.split_at(whole.partition_point(|tensor| tensor.dtype.bitsize() >= 8));
        copy_all(wide, &mut writer)?;
        for (name, text) in [(&table_name, &table), (&header_name, &self.header)] {
            writer.begin_dense(name, Dtype::U8, &[text.len()])?;
            writer.write(text.as_bytes())?;
            writer.end_dense()?;
        }
        copy_all(narrow, &mut writer)?;
        check_stop(progress)?;
        // A header that no longer describes the tensors would make a delta that readers refuse.
        self.new.expect_same_headers()?;
        report.delta_bytes = writer.finish()?;
        progress.end();
        Ok(report)
    }

    /// As [`read_delta`](crate::read_delta) reads it from the file, which has no length yet.
    fn report(&self) -> DiffReport {
        let sparse = |matrix: &(MatrixMeta, Sparse)| (matrix.0.nnz, plane_bytes(&matrix.0).sum());
        let tensor =
            |found: &Found<'_>| found.entry.report(found.tensor, found.matrix.as_deref().map(sparse));
        DiffReport {
            op: self.op,
            tensors: self.found.iter().map(tensor).collect(),
            removed: self.removed.iter().map(|removed| removed.name.clone()).collect(),
            base_hash: self.base_hash.clone(),
            target_hash: self.target_hash.clone(),
            target_bytes: self.found.iter().map(|found| found.tensor.bytes).sum(),
            delta_bytes: 0,
        }
    }

    /// The table's JSON; takes the entries.
    fn table(&mut self, path: &Path) -> Result<String, SplitError> {
        let table = Table {
            header_hash: hash_bytes(self.header.as_bytes()),
            tensors: self.found.iter_mut().map(|found| found.entry.take()).collect(),
            removed: std::mem::take(&mut self.removed),
        };
        Ok(serde_json::to_string(&table)
            .map_err(|error| FileError::malformed(path, format!("table of tensors: {error}")))?)
    }
}

/// The name of a table that no tensor of the new checkpoint has.
fn free_name(new: &Checkpoint, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    while new.tensor(&name).is_some() {
        name.push('_');
    }
    name
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
    (meta, sparse): &(MatrixMeta, Sparse),
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
