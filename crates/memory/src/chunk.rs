//! How many items to work on at once.

use crate::Budget;

/// How many items a job takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChunkPolicy {
    /// By how full the budget is: 32 items above 80 %, 128 below 50 %, else 64.
    Steps,
    /// As many items as fit in half of what is left, at least one. The other half has room for a second buffer of the
    /// same size: the next chunk, or the result.
    #[default]
    Computed,
}

impl ChunkPolicy {
    /// Items per chunk, between 1 and `most` (a `most` of 0 counts as 1), for items of `item_bytes` each.
    pub fn chunk(self, budget: &Budget, item_bytes: u64, most: usize) -> usize {
        let chunk = match self {
            Self::Steps => match budget.usage() {
                usage if usage > 0.8 => 32,
                usage if usage < 0.5 => 128,
                _ => 64,
            },
            Self::Computed => {
                usize::try_from(budget.available() / 2 / item_bytes.max(1)).unwrap_or(usize::MAX)
            }
        };
        chunk.clamp(1, most.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_usage() {
        let budget = Budget::new(1000);
        let chunk = |used| {
            let _held = budget.reserve(used, "held").unwrap();
            ChunkPolicy::Steps.chunk(&budget, 1, usize::MAX)
        };
        let by_usage = [0, 499, 500, 800, 801, 1000].map(chunk);
        assert_eq!(by_usage, [128, 128, 64, 64, 32, 32]);
    }

    #[test]
    fn computed_fills_half_of_what_is_left() {
        let budget = Budget::new(1000);
        assert_eq!(ChunkPolicy::Computed.chunk(&budget, 10, 1000), 50);
        assert_eq!(ChunkPolicy::Computed.chunk(&budget, 10, 7), 7);
        let _held = budget.reserve(1000, "all").unwrap();
        assert_eq!(ChunkPolicy::Computed.chunk(&budget, 10, 1000), 1);
        assert_eq!(ChunkPolicy::Computed.chunk(&budget, 0, 0), 1);
    }
}
