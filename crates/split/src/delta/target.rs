//! The header of the file that a patch writes. It is stored verbatim, so that the patched file equals the new one
//! byte by byte.

use std::fmt::Write as _;
use std::path::Path;

use residua_format::file::{Checkpoint, FileError, Held, SafetensorsWriter, TensorInfo, header_tensors};
use residua_memory::{ALIGNMENT, Budget};

use crate::SplitError;

/// A tensor of the file that a patch writes.
pub(crate) type Target = TensorInfo;

/// Bytes that [`header_of`] takes, at most.
pub(crate) fn header_bytes(checkpoint: &Checkpoint) -> Result<u64, SplitError> {
    if let Some(path) = checkpoint.whole_file() {
        let file = std::fs::metadata(path).map_err(FileError::io(path, "read"))?;
        return Ok(file.len().saturating_sub(checkpoint.bytes()));
    }
    let tensors =
        checkpoint.tensors().iter().map(|t| SafetensorsWriter::header_bytes(&t.name, t.shape.len()));
    let metadata =
        checkpoint.metadata().iter().map(|(key, value)| SafetensorsWriter::metadata_bytes(key, value));
    Ok(tensors.sum::<u64>() + metadata.sum::<u64>() + ALIGNMENT as u64)
}

/// The header of a checkpoint. For a sharded checkpoint it is the header of one file with all tensors in their order
/// and the metadata of the shards.
pub(crate) fn header_of(checkpoint: &Checkpoint) -> Result<String, SplitError> {
    if let Some(header) = checkpoint.whole_header()? {
        return Ok(header);
    }
    let broken = |error: serde_json::Error| FileError::malformed(checkpoint.path(), error.to_string());
    let json = |name: &str| serde_json::to_string(name).map_err(broken);
    let mut header = String::from("{");
    if !checkpoint.metadata().is_empty() {
        let metadata = serde_json::to_string(checkpoint.metadata()).map_err(broken)?;
        _ = write!(header, "\"__metadata__\":{metadata},");
    }
    let mut start = 0;
    for tensor in checkpoint.tensors() {
        let (name, end) = (json(&tensor.name)?, start + tensor.bytes);
        let (dtype, shape) = (tensor.dtype, &tensor.shape);
        let shape = serde_json::to_string(shape).map_err(broken)?;
        let dtype = serde_json::to_string(&dtype).map_err(broken)?;
        _ = write!(
            header,
            "{name}:{{\"dtype\":{dtype},\"shape\":{shape},\"data_offsets\":[{start},{end}]}},"
        );
        start = end;
    }
    if header.ends_with(',') {
        header.pop();
    }
    header.push('}');
    let padded = (header.len() + 8).next_multiple_of(ALIGNMENT) - 8;
    header.extend(std::iter::repeat_n(' ', padded - header.len()));
    Ok(header)
}

/// The tensors in the order in which a reader of [`header_of`] finds them: of their data, empty ones by name. They are
/// places in the checkpoint's list.
pub(crate) fn target_order(checkpoint: &Checkpoint) -> Vec<usize> {
    let tensors = checkpoint.tensors();
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    if checkpoint.whole_file().is_none() {
        let starts = tensors.iter().scan(0, |end, tensor| Some(std::mem::replace(end, *end + tensor.bytes)));
        let starts: Vec<u64> = starts.collect();
        order.sort_by(|&a, &b| {
            let key = |i: usize| (starts[i], tensors[i].bytes, &tensors[i].name);
            key(a).cmp(&key(b))
        });
    }
    order
}

/// The tensors that the header of a new checkpoint describes, see [`header_tensors`].
pub(crate) fn tensors_of(
    header: &str,
    path: &Path,
    budget: &Budget,
) -> Result<Held<Vec<Target>>, SplitError> {
    Ok(header_tensors(path, header, "header of the new checkpoint", budget)?)
}
