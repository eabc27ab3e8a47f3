//! The BLAKE3 hash of a tensor whose rows are hashed separately, in any order, on any thread.
//!
//! BLAKE3 is a binary tree over 1 KiB chunks. The bytes of a full row are a power of two, so each full row is a whole
//! subtree. Every thread hashes the rows that it reads, and only the 32-byte values are joined. The result is the
//! plain BLAKE3 hash of the tensor's bytes (`b3sum`); see section 2.1 of the BLAKE3 paper.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blake3::{Hash, Hasher};

/// The part of row `row` in the hash of its tensor. All rows but the last have `row_bytes` bytes, a power of two of
/// at least 1024. `only` says that the tensor has no other row; this row may then have any length.
pub(crate) fn hash_row(bytes: &[u8], row: u64, row_bytes: u64, only: bool) -> [u8; 32] {
    if only {
        return *blake3::hash(bytes).as_bytes();
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(row * row_bytes).update(bytes);
    hasher.finalize_non_root()
}

/// Joins the parts of the rows, in order.
#[derive(Debug, Default)]
pub(crate) struct TreeHash {
    /// Roots of finished subtrees, the largest first.
    subtrees: Vec<ChainingValue>,
    rows: u64,
}

impl TreeHash {
    /// Appends the next row's part.
    pub(crate) fn push(&mut self, part: [u8; 32]) {
        // A subtree is joined only when something follows it, because the last join of all is that of the root.
        while self.subtrees.len() > self.rows.count_ones() as usize {
            if let (Some(right), Some(left)) = (self.subtrees.pop(), self.subtrees.pop()) {
                self.subtrees.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
            }
        }
        self.subtrees.push(part);
        self.rows += 1;
    }

    /// The hash, in lower-case hexadecimal.
    pub(crate) fn finish(mut self) -> String {
        let hash = match self.subtrees.pop() {
            None => blake3::hash(&[]),
            // The part of a single row is the hash itself.
            Some(part) if self.subtrees.is_empty() => Hash::from_bytes(part),
            Some(mut right) => loop {
                match self.subtrees.pop() {
                    Some(left) if self.subtrees.is_empty() => {
                        break merge_subtrees_root(&left, &right, Mode::Hash);
                    }
                    Some(left) => right = merge_subtrees_non_root(&left, &right, Mode::Hash),
                    None => break Hash::from_bytes(right),
                }
            },
        };
        hash.to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_rows_hash_as_the_whole() {
        const ROW: usize = 2048;
        let bytes: Vec<u8> =
            (0..20 * ROW as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for length in (0..20 * ROW).step_by(509).chain((1..20).map(|rows| rows * ROW)) {
            let whole = &bytes[..length];
            let mut tree = TreeHash::default();
            for (row, part) in whole.chunks(ROW).enumerate() {
                tree.push(hash_row(part, row as u64, ROW as u64, length <= ROW));
            }
            assert_eq!(tree.finish(), blake3::hash(whole).to_hex().to_string(), "{length} bytes");
        }
    }
}
