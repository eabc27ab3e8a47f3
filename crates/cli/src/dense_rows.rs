//! Rows of dense tensors as f32.

use residua::format::Value;
use residua::format::file::{Checkpoint, Dtype, FileError, TensorInfo};

/// Reads `count` rows of a `[rows, cols]` tensor of floats into `out`, from row `first` on.
///
/// # Errors
/// When the elements are not floats of 16 to 64 bits, or the file cannot be read.
pub(crate) fn read_rows(
    file: &Checkpoint,
    tensor: &TensorInfo,
    first: usize,
    count: usize,
    out: &mut Vec<f32>,
) -> Result<(), FileError> {
    let cols = tensor.shape.last().copied().unwrap_or(1);
    let size = tensor.dtype.bitsize() / 8;
    let mut bytes = vec![0; count * cols * size];
    file.read_at(tensor, (first * cols * size) as u64, &mut bytes)?;
    out.clear();
    match tensor.dtype {
        Dtype::F32 => convert::<f32, 4>(&bytes, f32::from_le_bytes, out),
        Dtype::F16 => convert::<half::f16, 2>(&bytes, half::f16::from_le_bytes, out),
        Dtype::BF16 => convert::<half::bf16, 2>(&bytes, half::bf16::from_le_bytes, out),
        Dtype::F64 => convert::<f64, 8>(&bytes, f64::from_le_bytes, out),
        other => {
            let wanted = "F64, F32, F16 or BF16 is needed".to_owned();
            let (path, tensor) = (file.file_of(tensor).to_owned(), tensor.name.clone());
            return Err(FileError::Dtype { path, tensor, dtype: other.to_string(), wanted });
        }
    }
    Ok(())
}

/// Bytes that [`read_rows`] takes for one row, its result included.
pub(crate) fn row_bytes(tensor: &TensorInfo) -> u64 {
    let cols = tensor.shape.last().copied().unwrap_or(1) as u64;
    cols * (4 + tensor.dtype.bitsize() as u64 / 8)
}

fn convert<V: Value, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> V, out: &mut Vec<f32>) {
    let (elements, _) = bytes.as_chunks::<N>();
    out.extend(elements.iter().map(|&element| read(element).to_f32()));
}
