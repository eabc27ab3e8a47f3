//! The header of the file that a patch writes. It is stored verbatim, so that the patched file equals the new one
//! byte by byte.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use residua_format::file::{Checkpoint, Dtype, FileError};
use residua_memory::ALIGNMENT;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::SplitError;

/// A tensor of the file that a patch writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: u64,
}

/// The header of a checkpoint. For a sharded checkpoint it is the header of one file with all tensors in their order
/// and the metadata of the shards.
pub(crate) fn header_of(checkpoint: &Checkpoint) -> Result<String, SplitError> {
    if let Some(path) = checkpoint.whole_file() {
        let read = || {
            let mut file = File::open(path)?;
            let mut length = [0; 8];
            file.read_exact(&mut length)?;
            let mut header = String::new();
            file.take(u64::from_le_bytes(length)).read_to_string(&mut header)?;
            Ok(header)
        };
        return Ok(read().map_err(FileError::io(path, "read"))?);
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

/// The tensors that a header describes, in the order of their data; empty tensors by name. Checks that they lie end
/// to end and that their bytes match element type and shape.
pub(crate) fn tensors_of(header: &str, path: &Path) -> Result<Vec<Target>, SplitError> {
    let broken = |problem: &dyn std::fmt::Display| {
        FileError::malformed(path, format!("header of the new checkpoint: {problem}"))
    };
    let metadata: Metadata = serde_json::from_str(header).map_err(|error| broken(&error))?;
    let mut tensors: Vec<(String, TensorInfo)> =
        metadata.tensors().into_iter().map(|(name, info)| (name, info.clone())).collect();
    tensors.sort_by(|(a, x), (b, y)| (x.data_offsets, a).cmp(&(y.data_offsets, b)));
    Metadata::new(None, tensors.clone()).map_err(|error| broken(&error))?;
    let target = |(name, TensorInfo { dtype, shape, data_offsets: (from, to) })| Target {
        name,
        dtype,
        shape,
        bytes: (to - from) as u64,
    };
    Ok(tensors.into_iter().map(target).collect())
}
