//! Fingerprints of the arrays that a source reads.

use super::{FeatureBlock, Floats};

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
            return self.end();
        }
        let last = |values: &[f32]| values.len().saturating_sub(count * block.dim());
        let before = block.before();
        self.before.update(bytemuck::cast_slice(&before[last(before)..]));
        if let Ok(after) = block.after() {
            self.after.update(bytemuck::cast_slice(&after[last(after)..]));
            self.has_after = true;
        }
    }

    /// Features that follow those so far, of a source without features after a task.
    pub fn add(&mut self, features: Floats<'_>) {
        match features {
            Floats::F32(values) => drop(self.before.update(bytemuck::cast_slice(values))),
            Floats::F64(values) => {
                for value in values {
                    self.before.update(bytemuck::bytes_of(&(*value as f32)));
                }
            }
        }
    }

    /// There are no more features.
    pub fn end(&mut self) {
        let after = self.has_after.then(|| text(&self.after));
        self.done = Some(Fingerprint { before: text(&self.before), after });
    }

    /// The fingerprint, once the source was read to its end.
    pub fn get(&self) -> Option<&Fingerprint> {
        self.done.as_ref()
    }
}

fn text(hasher: &blake3::Hasher) -> String {
    hasher.finalize().as_bytes()[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{FeatureSource, MemorySource};

    /// Of any blocks and precision; a pass that was cut short does not count.
    #[test]
    fn the_same_features_have_the_same_fingerprint() {
        let features: Vec<f32> = (0..60).map(|i| i as f32 * 0.25).collect();
        let wide: Vec<f64> = features.iter().map(|&value| value.into()).collect();
        let after = features.clone();
        let of = |most: usize| {
            let mut source = MemorySource::pairs(3, &features, &after).unwrap();
            let mut block = FeatureBlock::new(3);
            source.read(7, &mut block).unwrap();
            source.rewind().unwrap();
            assert!(source.fingerprints().is_empty());
            while source.read(most, &mut block).unwrap() > 0 {}
            source.fingerprints()[0].clone()
        };
        let one = of(1);
        assert_eq!(one, of(20));
        assert_eq!(Some(&one.before), one.after.as_ref());
        let mut collected = Fingerprinter::default();
        collected.add(Floats::F64(&wide[..30]));
        collected.add(Floats::F32(&features[30..]));
        collected.end();
        assert_eq!(collected.get().unwrap().before, one.before);
        let mut other = Fingerprinter::default();
        other.add(Floats::F32(&features[..57]));
        other.end();
        assert_ne!(other.get().unwrap().before, one.before);
    }
}
