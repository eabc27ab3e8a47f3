//! The rows of a cache, in memory.

use half::{bf16, f16};

/// Rows of a block, unless the cache may hold fewer. Blocks never move, so growth needs no second copy.
pub(super) const BLOCK: usize = 64;

/// The precision of numbers in a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CachePrecision {
    /// 4 bytes, exact.
    F32,
    /// 2 bytes, 11 bits of mantissa, up to 65,504 (larger numbers become the largest).
    #[default]
    F16,
    /// 2 bytes, 8 bits of mantissa, the range of f32.
    Bf16,
}

impl CachePrecision {
    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    pub(super) fn encode(self, row: &[f32], bytes: &mut [u8]) {
        match self {
            Self::F32 => bytes.copy_from_slice(bytemuck::cast_slice(row)),
            Self::F16 => {
                let largest = f16::MAX.to_f32();
                for (out, v) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(row) {
                    *out = f16::from_f32(v.clamp(-largest, largest)).to_le_bytes();
                }
            }
            Self::Bf16 => {
                for (out, v) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(row) {
                    *out = bf16::from_f32(*v).to_le_bytes();
                }
            }
        }
    }

    pub(super) fn decode(self, bytes: &[u8], row: &mut [f32]) {
        match self {
            Self::F32 => bytemuck::cast_slice_mut(row).copy_from_slice(bytes),
            Self::F16 => {
                for (v, bytes) in row.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *v = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            Self::Bf16 => {
                for (v, bytes) in row.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *v = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    }
}

/// A row's key and step, and its neighbours in the order of use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) key: u64,
    pub(super) step: u64,
    pub(super) newer: u32,
    pub(super) older: u32,
}

/// Rows without gaps: the last row takes the place of a removed one.
#[derive(Debug)]
pub(super) struct Rows {
    row: usize,
    /// Number of rows of a block.
    block: usize,
    slots: Vec<Slot>,
    blocks: Vec<Box<[u8]>>,
}

impl Rows {
    pub(super) fn new(row: usize, block: usize) -> Self {
        Self { row, block, slots: Vec::new(), blocks: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    pub(super) fn bytes(&self, slot: u32) -> &[u8] {
        let (block, at) = (slot as usize / self.block, slot as usize % self.block * self.row);
        &self.blocks[block][at..at + self.row]
    }

    fn bytes_mut(&mut self, slot: usize) -> &mut [u8] {
        let (block, at) = (slot / self.block, slot % self.block * self.row);
        &mut self.blocks[block][at..at + self.row]
    }

    /// Bytes of a block if the next row needs a new one.
    pub(super) fn bytes_for_one_more(&self) -> u64 {
        if self.len() < self.blocks.len() * self.block { 0 } else { (self.block * self.row) as u64 }
    }

    pub(super) fn push(&mut self, key: u64, step: u64, fill: impl FnOnce(&mut [u8])) -> u32 {
        let slot = self.len();
        if slot == self.blocks.len() * self.block {
            self.blocks.push(vec![0; self.block * self.row].into_boxed_slice());
        }
        self.slots.push(Slot { key, step, newer: u32::MAX, older: u32::MAX });
        fill(self.bytes_mut(slot));
        slot as u32
    }

    /// Removes a row. Returns the bytes that it freed, and the row that took its place, if any.
    pub(super) fn swap_remove(&mut self, slot: u32) -> (u64, Option<Slot>) {
        let last = self.len() - 1;
        let moved = (last != slot as usize).then(|| self.slots[last]);
        if moved.is_some() {
            let row = self.bytes(last as u32).to_vec();
            self.bytes_mut(slot as usize).copy_from_slice(&row);
        }
        self.slots.swap_remove(slot as usize);
        // Free an empty block: rows that leave the cache leave memory.
        if self.len().is_multiple_of(self.block) && self.blocks.len() * self.block > self.len() {
            self.blocks.pop();
            return ((self.block * self.row) as u64, moved);
        }
        (0, moved)
    }
}
