//! Quantised bases in the device's memory.

use std::ops::Range;
use std::sync::Arc;

use residua_backend::{BackendError, Shaped};
use residua_format::{BaseKind, QuantizedBase};
use residua_memory::Budget;

use crate::NAME;
use crate::gpu::{DeviceBuffer, Gpu, PIECE, Usage};

/// A dense matrix of 4- or 8-bit codes, each row in whole 32-bit words.
#[derive(Debug)]
pub struct WgpuBase {
    pub(crate) gpu: Arc<Gpu>,
    shape: [usize; 2],
    kind: BaseKind,
    pub(crate) parts: Vec<BasePart>,
}

/// A run of rows that fits the bindings of the device.
#[derive(Debug)]
pub(crate) struct BasePart {
    pub(crate) rows: Range<usize>,
    pub(crate) codes: DeviceBuffer,
    pub(crate) scales: DeviceBuffer,
}

impl WgpuBase {
    pub(crate) fn new(gpu: &Arc<Gpu>, budget: &Budget, base: &QuantizedBase) -> Result<Self, BackendError> {
        let (rows, cols, kind) = (base.rows(), base.cols(), base.kind());
        let (row_bytes, groups) = (kind.row_bytes(cols), kind.groups(cols));
        let words = row_bytes.div_ceil(4);
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
            let codes = gpu.upload(
                budget,
                words * rows.len(),
                "codes of a base",
                Usage::Operand,
                |first| first + piece,
                |first, piece| {
                    let row = rows.start + first / words;
                    let from = base.codes()[row * row_bytes..].chunks_exact(row_bytes);
                    for (to, from) in piece.chunks_exact_mut(words).zip(from) {
                        for (word, bytes) in to.iter_mut().zip(from.chunks(4)) {
                            let byte = |i: usize| u32::from(bytes.get(i).copied().unwrap_or(0)) << (8 * i);
                            *word = byte(0) | byte(1) | byte(2) | byte(3);
                        }
                    }
                },
            )?;
            let scales = &base.scales()[rows.start * groups..rows.end * groups];
            let scales = gpu.upload_words(budget, bytemuck::cast_slice(scales), "scales of a base")?;
            Ok(BasePart { rows, codes, scales })
        };
        let parts = (0..rows).step_by(most).map(part).collect::<Result<_, BackendError>>()?;
        Ok(Self { gpu: gpu.clone(), shape: [rows, cols], kind, parts })
    }

    /// Words of codes of a row, scales of a row, and words that share a scale.
    pub(crate) fn strides(&self) -> [u32; 3] {
        let cols = self.shape[1];
        let (words, per_word) = (self.kind.row_bytes(cols).div_ceil(4), 32 / self.code_bits() as usize);
        let group_words = match self.kind {
            // One scale, whatever the padding.
            BaseKind::Int4 | BaseKind::Int8 => words.max(1),
            kind => kind.group(cols) / per_word,
        };
        [words as u32, self.kind.groups(cols) as u32, group_words as u32]
    }

    /// Bits of a code.
    pub(crate) fn code_bits(&self) -> u32 {
        if self.kind == BaseKind::Int8 { 8 } else { 4 }
    }

    /// Bytes that it takes in the device's memory.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.codes.bytes() + part.scales.bytes()).sum::<u64>() as usize
    }

    /// Runs of rows that it was split into, so that each fits a binding of the device.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }
}

impl Shaped for WgpuBase {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
}
