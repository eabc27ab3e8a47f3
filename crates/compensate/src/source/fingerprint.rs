//! Fingerprints of the arrays that a source reads.

use super::FeatureBlock;

/// Bytes of a fingerprint.
const BYTES: usize = 16;

/// Identifies the arrays of a source by their numbers, rounded to f32: the same features give the same text in any
/// file, and under any name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of features before the task, or of the only ones.
    pub before: String,
    /// Of features after the task, if there are any.
    pub after: Option<String>,
}

/// Takes the fingerprint of a source in its first full pass.
#[derive(Debug, Clone, Default)]
pub struct Fingerprinter {
    before: blake3::Hasher,
    after: blake3::Hasher,
    has_after: bool,
    done: Option<Fingerprint>,
}

impl Fingerprinter {
    /// The source goes back to its first sample.
    pub fn rewind(&mut self) {
        if self.done.is_none() {
            *self = Self::default();
        }
    }

    /// The source has appended the last `count` samples of a block; 0 is the end of the source.
    pub fn read(&mut self, block: &FeatureBlock, count: usize) {
        if self.done.is_some() {
            return;
        }
        if count == 0 {
            self.done = Some(Fingerprint {
                before: text(&self.before),
                after: self.has_after.then(|| text(&self.after)),
            });
            return;
        }
        let last = |values: &[f32]| values.len().saturating_sub(count * block.dim());
        let before = block.before();
        self.before.update(bytemuck::cast_slice(&before[last(before)..]));
        if let Ok(after) = block.after() {
            self.after.update(bytemuck::cast_slice(&after[last(after)..]));
            self.has_after = true;
        }
    }

    /// The fingerprint, once the source was read to its end.
    pub fn get(&self) -> Option<&Fingerprint> {
        self.done.as_ref()
    }
}

fn text(hasher: &blake3::Hasher) -> String {
    hasher.finalize().as_bytes()[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}
