//! Bases in the device's memory: dense matrices, quantised or of floats.

use std::ops::Range;
use std::sync::Arc;

use residua_backend::{BackendError, Shaped};
use residua_format::{BaseKind, DenseMatrix, QuantizedBase, ValueType};
use residua_memory::Budget;

use crate::NAME;
use crate::gpu::{DeviceBuffer, Gpu, PIECE, Usage};
use crate::kernels::{Kernel, value_code};

/// A dense matrix, quantised or of floats. Each row has whole 32-bit words.
#[derive(Debug)]
pub struct WgpuBase {
    pub(crate) gpu: Arc<Gpu>,
    shape: [usize; 2],
    stored: Stored,
    pub(crate) parts: Vec<BasePart>,
}

/// How values are stored.
#[derive(Debug, Clone, Copy)]
enum Stored {
    /// Codes and their scales.
    Codes(BaseKind),
    /// f32, f16 or bf16.
    Floats(ValueType),
}

/// A run of rows that fits the bindings of the device.
#[derive(Debug)]
pub(crate) struct BasePart {
    pub(crate) rows: Range<usize>,
    values: DeviceBuffer,
    /// Scales of codes; floats have none.
    scales: Option<DeviceBuffer>,
}

impl WgpuBase {
    /// Uploads a quantised base.
    pub(crate) fn quantized(
        gpu: &Arc<Gpu>,
        budget: &Budget,
        base: &QuantizedBase,
    ) -> Result<Self, BackendError> {
        let (shape @ [rows, cols], kind) = ([base.rows(), base.cols()], base.kind().expanded());
        let scales = Some((base.scales(), kind.groups(cols)));
        let parts = if base.kind().is_codebook() {
            let _held = budget.reserve(rows as u64 * cols as u64, "the levels of a base")?;
            let mut multiples = vec![0i8; rows * cols];
            multiples.chunks_mut(cols.max(1)).enumerate().for_each(|(row, out)| base.multiples(row, out));
            upload(gpu, budget, shape, bytemuck::cast_slice(&multiples), scales)?
        } else {
            upload(gpu, budget, shape, base.codes(), scales)?
        };
        Ok(Self { gpu: gpu.clone(), shape, stored: Stored::Codes(kind), parts })
    }

    /// Uploads a dense base; values keep their stored type.
    pub(crate) fn dense(gpu: &Arc<Gpu>, budget: &Budget, base: &DenseMatrix) -> Result<Self, BackendError> {
        let (shape, stored) = ([base.rows(), base.cols()], Stored::Floats(base.values().value_type()));
        let parts = upload(gpu, budget, shape, base.values().as_bytes(), None)?;
        Ok(Self { gpu: gpu.clone(), shape, stored, parts })
    }

    /// Bytes of a row.
    fn row_bytes(&self) -> usize {
        match self.stored {
            Stored::Codes(kind) => kind.row_bytes(self.shape[1]),
            Stored::Floats(value_type) => value_type.bytes() * self.shape[1],
        }
    }

    /// Words of a row, scales of a row, and words that share a scale.
    pub(crate) fn strides(&self) -> [u32; 3] {
        let (cols, words) = (self.shape[1], self.row_bytes().div_ceil(4));
        let (groups, group_words) = match self.stored {
            // One scale for a whole row, with its padding.
            Stored::Codes(kind @ (BaseKind::Int4 | BaseKind::Int8)) => (kind.groups(cols), words.max(1)),
            Stored::Codes(kind) => (kind.groups(cols), kind.group(cols) * code_bits(kind) as usize / 32),
            Stored::Floats(_) => (0, words.max(1)),
        };
        [words, groups, group_words].map(|count| count as u32)
    }

    /// The kernel of a layer with this base, and the pipeline constant that says how values are stored.
    pub(crate) fn kernel(&self) -> (Kernel, (&'static str, u32)) {
        match self.stored {
            Stored::Codes(kind) => (Kernel::GapForward, ("CODE_BITS", code_bits(kind))),
            Stored::Floats(value_type) => (Kernel::GapForwardDense, ("BASE_VALUES", value_code(value_type))),
        }
    }

    /// Bytes that it takes in the device's memory.
    pub fn bytes(&self) -> usize {
        let buffers = self.parts.iter().flat_map(|part| std::iter::once(&part.values).chain(&part.scales));
        buffers.map(DeviceBuffer::bytes).sum::<u64>() as usize
    }

    /// Number of parts: runs of rows, each small enough for a binding of the device.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl BasePart {
    /// Its buffers, in the order of the kernel's bindings.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &wgpu::Buffer> {
        std::iter::once(&self.values).chain(&self.scales).map(|held| &held.buffer)
    }
}

/// Bits of a code.
fn code_bits(kind: BaseKind) -> u32 {
    if kind == BaseKind::Int8 { 8 } else { 4 }
}

/// Uploads rows of `bytes`, and their scales with the number of scales of a row.
fn upload(
    gpu: &Gpu,
    budget: &Budget,
    [rows, cols]: [usize; 2],
    bytes: &[u8],
    scales: Option<(&[f32], usize)>,
) -> Result<Vec<BasePart>, BackendError> {
    let row_bytes = bytes.len() / rows.max(1);
    let (words, groups) = (row_bytes.div_ceil(4), scales.map_or(0, |(_, groups)| groups));
    let row_needs = 4 * words.max(groups).max(1) as u64;
    if row_needs > gpu.binding_limit || words >= 1 << 28 {
        return Err(BackendError::DeviceLimit {
            backend: NAME,
            what: format!("a row of {cols} columns of a base"),
            needed: row_needs,
            limit: gpu.binding_limit.min(1 << 30),
            name: "bytes in one binding",
        });
    }
    let most = (gpu.binding_limit / row_needs) as usize;
    let part = |first: usize| {
        let rows = first..rows.min(first + most);
        let piece = (PIECE / words.max(1)).max(1) * words.max(1);
        let own = &bytes[rows.start * row_bytes..];
        let values = gpu.upload(
            budget,
            words * rows.len(),
            "values of a base",
            Usage::Operand,
            |first| first + piece,
            |first, piece| {
                let from = own[first / words * row_bytes..].chunks_exact(row_bytes);
                piece.chunks_exact_mut(words).zip(from).for_each(|(words, bytes)| pack(words, bytes));
            },
        )?;
        let scales = scales.map(|(scales, groups)| {
            let own = &scales[rows.start * groups..rows.end * groups];
            gpu.upload_words(budget, bytemuck::cast_slice(own), "scales of a base")
        });
        Ok(BasePart { rows, values, scales: scales.transpose()? })
    };
    (0..rows).step_by(most).map(part).collect()
}

/// Puts bytes into words of zeros, the first byte lowest.
fn pack(words: &mut [u32], bytes: &[u8]) {
    let (whole, rest) = bytes.as_chunks();
    words.iter_mut().zip(whole).for_each(|(word, &bytes)| *word = u32::from_le_bytes(bytes));
    if let Some(word) = words.get_mut(whole.len()) {
        let byte = |(i, &byte): (usize, &u8)| u32::from(byte) << (8 * i);
        *word = rest.iter().enumerate().map(byte).sum();
    }
}

impl Shaped for WgpuBase {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}

#[cfg(test)]
mod tests {
    use super::pack;

    #[test]
    fn a_row_fills_whole_words() {
        let mut words = [0; 3];
        pack(&mut words, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(words, [0x0403_0201, 0x0605, 0]);
        let mut words = [0; 1];
        pack(&mut words, &[1, 2, 3, 4]);
        assert_eq!(words, [0x0403_0201]);
    }
}
