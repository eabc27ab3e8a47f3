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
        let (mut first, mut piece, mut held) = (0, Vec::new(), budget.reserve(0, what)?);
        while first < words {
            let end = cut(first).clamp(first + 1, words);
            let bytes = 4 * (end - first) as u64;
            if bytes > held.bytes() {
                held.grow(bytes - held.bytes(), "a piece on its way to the device")?;
            }
            piece.clear();
            piece.resize(end - first, 0u32);
            fill(first, &mut piece);
            view.slice(4 * first..4 * end).copy_from_slice(bytemuck::cast_slice(&piece));
            first = end;
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

    /// Overwrites the first `words` words of a buffer, filled a piece at a time from zeros. What was queued before
    /// still sees the old ones.
    pub(crate) fn write(
        &self,
        budget: &Budget,
        buffer: &wgpu::Buffer,
        words: usize,
        what: &str,
        mut fill: impl FnMut(usize, &mut [u32]),
    ) -> Result<(), BackendError> {
        let _held = budget.reserve(4 * words.min(PIECE) as u64, what)?;
        self.submit()?;
        let mut piece = Vec::new();
        for first in (0..words).step_by(PIECE) {
            piece.clear();
            piece.resize(PIECE.min(words - first), 0u32);
            fill(first, &mut piece);
            self.scoped(what, 4 * piece.len() as u64, || {
                self.queue.write_buffer(buffer, 4 * first as u64, bytemuck::cast_slice(&piece));
                // The queue keeps a copy of each piece until it is submitted.
                if first + piece.len() < words {
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

    /// The first `bytes` of a buffer. Waits for everything that was queued.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<f32>, BackendError> {
        self.submit()?;
        let mut values = Vec::with_capacity(bytes as usize / 4);
        let chunk = bytes.min(4 * PIECE as u64);
        let staging = self.allocate(&Budget::unlimited(), chunk, Usage::Staging, "a download")?.buffer;
        let mut at = 0;
        while at < bytes {
            let count = chunk.min(bytes - at);
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
            values.extend(view.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])));
            drop(view);
            staging.unmap();
            at += count;
        }
        Ok(values)
    }
}
