//! The device's memory.

use std::sync::PoisonError;

use residua_backend::BackendError;
use residua_memory::{Budget, Reservation};

use super::Gpu;
use crate::NAME;

/// The use of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// The host writes it once, kernels read it.
    Operand,
    /// The host and kernels write it, the host copies it back.
    Vector,
    /// A copy that the host reads.
    Staging,
}

/// A buffer in the device's memory, with its reservation in a budget.
#[derive(Debug)]
pub(crate) struct DeviceBuffer {
    pub(crate) buffer: wgpu::Buffer,
    _held: Reservation,
}

impl DeviceBuffer {
    pub(crate) fn bytes(&self) -> u64 {
        self.buffer.size()
    }
}

/// Words that the host fills at a time.
pub(crate) const PIECE: usize = 1 << 20;

/// The end of a piece that may end anywhere.
pub(crate) fn piece_end(first: usize) -> usize {
    first + PIECE
}

/// Memory of the host for one piece after the other, taken from a budget.
struct Pieces {
    piece: Vec<u32>,
    held: Reservation,
    next: usize,
    words: usize,
}

impl Pieces {
    fn new(budget: &Budget, words: usize, what: &str) -> Result<Self, BackendError> {
        Ok(Self { piece: Vec::new(), held: budget.reserve(0, what)?, next: 0, words })
    }

    /// The first word of the next piece, and its words: zeros.
    fn next(&mut self, cut: impl Fn(usize) -> usize) -> Result<Option<(usize, &mut [u32])>, BackendError> {
        let first = self.next;
        if first == self.words {
            return Ok(None);
        }
        self.next = cut(first).clamp(first + 1, self.words);
        let bytes = 4 * (self.next - first) as u64;
        if bytes > self.held.bytes() {
            self.held.grow(bytes - self.held.bytes(), "a piece on its way to the device")?;
        }
        self.piece.clear();
        self.piece.resize(self.next - first, 0);
        Ok(Some((first, &mut self.piece)))
    }
}

/// Memory for sums of segments. All products share it, and it only grows.
#[derive(Debug, Default)]
pub(super) struct Scratch(Option<DeviceBuffer>);

impl Gpu {
    /// A buffer of zeros, at least `bytes` long.
    pub(crate) fn allocate(
        &self,
        budget: &Budget,
        bytes: u64,
        usage: Usage,
        what: &str,
    ) -> Result<DeviceBuffer, BackendError> {
        self.create(budget, bytes, usage, what, false)
    }

    /// A buffer of `words` words, filled a piece at a time. `cut(first)` is the end of the piece that starts at word
    /// `first`; `fill(first, words)` gets the piece as zeros.
    pub(crate) fn upload(
        &self,
        budget: &Budget,
        words: usize,
        what: &str,
        usage: Usage,
        cut: impl Fn(usize) -> usize,
        mut fill: impl FnMut(usize, &mut [u32]),
    ) -> Result<DeviceBuffer, BackendError> {
        let device_buffer = self.create(budget, 4 * words as u64, usage, what, true)?;
        let failed = |error: wgpu::MapRangeError| BackendError::Device {
            backend: NAME,
            message: format!("{what}: {error}"),
        };
        let view = self.scoped(what, 0, || device_buffer.buffer.slice(..).get_mapped_range_mut())?;
        let mut view = view.map_err(failed)?;
        let mut pieces = Pieces::new(budget, words, what)?;
        while let Some((first, piece)) = pieces.next(&cut)? {
            fill(first, piece);
            view.slice(4 * first..4 * (first + piece.len())).copy_from_slice(bytemuck::cast_slice(piece));
        }
        drop(view);
        self.scoped(what, 0, || device_buffer.buffer.unmap())?;
        Ok(device_buffer)
    }

    /// A buffer that holds `words`.
    pub(crate) fn upload_words(
        &self,
        budget: &Budget,
        words: &[u32],
        what: &str,
    ) -> Result<DeviceBuffer, BackendError> {
        self.upload(budget, words.len(), what, Usage::Operand, piece_end, |first, piece| {
            piece.copy_from_slice(&words[first..first + piece.len()]);
        })
    }

    /// Overwrites the first `words` words of a buffer. Kernels that were queued before still read the old ones. `cut`
    /// and `fill` are those of [`upload`](Self::upload).
    pub(crate) fn write(
        &self,
        budget: &Budget,
        buffer: &wgpu::Buffer,
        words: usize,
        what: &str,
        cut: impl Fn(usize) -> usize,
        mut fill: impl FnMut(usize, &mut [u32]),
    ) -> Result<(), BackendError> {
        self.submit()?;
        let mut pieces = Pieces::new(budget, words, what)?;
        while let Some((first, piece)) = pieces.next(&cut)? {
            fill(first, piece);
            let end = first + piece.len();
            self.scoped(what, 4 * piece.len() as u64, || {
                self.queue.write_buffer(buffer, 4 * first as u64, bytemuck::cast_slice(piece));
                // The queue keeps a copy of each piece until it is submitted.
                if end < words {
                    self.queue.submit([]);
                }
            })?;
        }
        Ok(())
    }

    fn create(
        &self,
        budget: &Budget,
        bytes: u64,
        usage: Usage,
        what: &str,
        mapped: bool,
    ) -> Result<DeviceBuffer, BackendError> {
        self.check()?;
        // A binding cannot be empty, and the largest element has 16 bytes.
        let size = bytes.max(1).next_multiple_of(16);
        let held = budget.reserve(size, what)?;
        let usage = match usage {
            Usage::Operand => wgpu::BufferUsages::STORAGE,
            Usage::Vector => {
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST
            }
            Usage::Staging => wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        };
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: mapped };
        let buffer = self.scoped(what, size, || self.device.create_buffer(&descriptor))?;
        Ok(DeviceBuffer { buffer, _held: held })
    }

    /// A buffer of at least `bytes` for sums of segments. Kernels that use it run one after the other, so they share
    /// it.
    pub(crate) fn scratch(&self, budget: &Budget, bytes: u64) -> Result<wgpu::Buffer, BackendError> {
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        match &scratch.0 {
            Some(held) if held.bytes() >= bytes => Ok(held.buffer.clone()),
            _ => {
                let new = self.allocate(budget, bytes, Usage::Operand, "sums of segments")?;
                Ok(scratch.0.insert(new).buffer.clone())
            }
        }
    }

    /// Reads rows of `row_bytes` each from the start of a buffer, a piece at a time: `take(first, bytes)` gets the rows
    /// from row `first` on. Waits for everything that was queued.
    pub(crate) fn read(
        &self,
        buffer: &wgpu::Buffer,
        [rows, row_bytes]: [usize; 2],
        mut take: impl FnMut(usize, &[u8]),
    ) -> Result<(), BackendError> {
        self.submit()?;
        let rows = if row_bytes == 0 { 0 } else { rows };
        let piece = (4 * PIECE / row_bytes.max(1)).clamp(1, rows.max(1));
        let size = (piece * row_bytes) as u64;
        let staging = self.allocate(&Budget::unlimited(), size, Usage::Staging, "a download")?.buffer;
        for first in (0..rows).step_by(piece) {
            let (at, count) = ((first * row_bytes) as u64, (piece.min(rows - first) * row_bytes) as u64);
            self.scoped("download", count, || {
                let mut encoder = self.device.create_command_encoder(&Default::default());
                encoder.copy_buffer_to_buffer(buffer, at, &staging, 0, count);
                self.queue.submit([encoder.finish()]);
                staging.slice(..count).map_async(wgpu::MapMode::Read, |_| {});
            })?;
            self.wait()?;
            let view = self.scoped("download", count, || staging.slice(..count).get_mapped_range())?;
            let view =
                view.map_err(|error| BackendError::Device { backend: NAME, message: error.to_string() })?;
            take(first, &view);
            drop(view);
            staging.unmap();
        }
        Ok(())
    }
}
