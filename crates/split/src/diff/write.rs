//! The delta on its way to the disk.

use std::path::Path;

use residua_format::file::{
    Checkpoint, ContainerWriter, Dtype, FileError, Kind, MatrixMeta, Plane, SafetensorsWriter, TensorInfo,
    hash_bytes,
};
use residua_memory::ALIGNMENT;

use super::DeltaOp;
use super::delta::{BASE_HASH, Entry, HEADER, OP, Removed, TABLE, TARGET_HASH, Table};
use super::row::Layout;
use super::scan::{Planes, Sparse};
use super::workers::advance;
use crate::{Progress, SplitError};

/// Bytes of a whole tensor that are copied at a time.
const BLOCK: usize = 256 << 10;

/// What was found out about a tensor of the new checkpoint.
#[derive(Debug)]
pub(super) struct Found<'a> {
    pub(super) tensor: &'a TensorInfo,
    pub(super) entry: Entry,
    /// Where the tensor is stored sparse. The long planes are in the spools, in the order of the tensors.
    pub(super) matrix: Option<(MatrixMeta, Sparse)>,
}

impl<'a> Found<'a> {
    /// A tensor that is not stored sparse.
    pub(super) fn whole(tensor: &'a TensorInfo, entry: Entry) -> Self {
        Self { tensor, entry, matrix: None }
    }
}

/// Hashes of the checkpoints.
pub(super) struct Hashes {
    pub(super) base: String,
    pub(super) target: String,
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

/// Writes the file.
#[expect(clippy::too_many_arguments, reason = "the pieces of one file, put together here and nowhere else")]
pub(super) fn write(
    path: &Path,
    new: &Checkpoint,
    op: DeltaOp,
    header: String,
    found: Vec<Found<'_>>,
    removed: Vec<Removed>,
    hashes: Hashes,
    mut planes: Planes,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    let mut whole: Vec<&TensorInfo> =
        found.iter().filter(|found| found.entry.stored.is_whole()).map(|found| found.tensor).collect();
    // As the container asks for; the sort keeps the order among equals.
    whole.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.bitsize()));
    let table = Table {
        header_hash: hash_bytes(header.as_bytes()),
        tensors: found.iter().map(|found| found.entry.clone()).collect(),
        removed,
    };
    let table = serde_json::to_string(&table).map_err(|e| FileError::malformed(path, e.to_string()))?;
    let metadata = [
        (OP, op.name().to_owned()),
        (BASE_HASH, hashes.base),
        (TARGET_HASH, hashes.target),
        (TABLE, table),
        (HEADER, header),
    ];
    let matrices =
        || found.iter().filter_map(|found| found.matrix.as_ref().map(|m| (&*found.tensor.name, m)));
    let room = matrices().map(|(name, (meta, _))| matrix_header_bytes(name, meta)).sum::<u64>()
        + whole.iter().map(|t| SafetensorsWriter::header_bytes(&t.name, t.shape.len())).sum::<u64>()
        + metadata.iter().map(|(key, value)| entry_bytes(key, value)).sum::<u64>();

    let spooled = planes.index.length() + planes.values.length();
    progress.begin("writing", spooled + whole.iter().map(|tensor| tensor.bytes).sum::<u64>());
    let mut writer = ContainerWriter::create(path, Kind::Delta, room)?;
    for (key, value) in metadata {
        writer.metadata(key, value);
    }
    planes.index.rewind()?;
    planes.values.rewind()?;
    for (name, (meta, sparse)) in matrices() {
        let dtype = Layout::new(meta.dtype, 0).plane_dtype();
        writer.plane(name, Plane::RowPtr, Dtype::U32, sparse.row_ptr.as_bytes())?;
        if let Some((row_modes, index_ptr)) = &sparse.modes {
            writer.plane(name, Plane::RowModes, Dtype::U8, row_modes)?;
            writer.plane(name, Plane::IndexPtr, Dtype::U32, index_ptr.as_bytes())?;
        }
        let value_bytes = sparse.entries * (dtype.bitsize() as u64 / 8);
        let long = [
            (Plane::Gaps, Dtype::U8, &mut planes.index, sparse.index_bytes),
            (Plane::Values, dtype, &mut planes.values, value_bytes),
        ];
        for (plane, dtype, spool, length) in long {
            writer.begin_plane(name, plane, dtype)?;
            spool.drain(length, |bytes| {
                advance(progress, bytes);
                writer.write(bytes)
            })?;
            writer.end_plane()?;
        }
        writer.matrix(name, meta.clone());
    }
    let mut block = vec![0; BLOCK];
    for tensor in whole {
        progress.tensor(&tensor.name);
        writer.begin_dense(&tensor.name, tensor.dtype, &tensor.shape)?;
        let mut offset = 0;
        while offset < tensor.bytes {
            let piece = &mut block[..(tensor.bytes - offset).min(BLOCK as u64) as usize];
            new.read_at(tensor, offset, piece)?;
            writer.write(piece)?;
            advance(progress, piece);
            offset += piece.len() as u64;
        }
        writer.end_dense()?;
    }
    writer.finish()?;
    progress.end();
    Ok(())
}
