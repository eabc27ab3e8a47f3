//! How a sequence recognises samples that it has already.

use crate::statistics::ClassStatistics;
use crate::{CompensateError, Result};

/// Bytes of a fingerprint.
const BYTES: usize = 16;

/// Identifies the samples of a task by the statistics of their classes: the same samples give the same bits.
pub(super) fn fingerprint(statistics: &ClassStatistics) -> String {
    let mut hasher = blake3::Hasher::new();
    for (label, class) in statistics.iter() {
        hasher.update(&label.to_le_bytes());
        hasher.update(&class.count().to_le_bytes());
        for value in class.mean().iter().chain([&class.covariance().trace()]) {
            hasher.update(&value.to_bits().to_le_bytes());
        }
    }
    hasher.finalize().as_bytes()[..BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An error if one of the finished tasks had these samples. Tasks that an older program finished have no fingerprint;
/// they are the first ones.
pub(super) fn expect_new(fingerprint: &str, known: &[String], tasks: u64) -> Result<()> {
    let Some(index) = known.iter().position(|known| known == fingerprint) else { return Ok(()) };
    let task = tasks.saturating_sub(known.len() as u64) + index as u64 + 1;
    Err(CompensateError::Repeated { task })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_counted_from_the_end() {
        let known = ["a".to_owned(), "b".to_owned()];
        assert!(expect_new("c", &known, 2).is_ok());
        for (tasks, expected) in [(2, 2), (5, 5), (0, 2)] {
            let error = expect_new("b", &known, tasks).err();
            assert!(matches!(error, Some(CompensateError::Repeated { task }) if task == expected));
        }
    }
}
