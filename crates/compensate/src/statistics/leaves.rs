//! How samples are cut into pieces that can be collected apart.

use std::ops::Range;

use crate::{CompensateError, Result};

/// How samples are cut into leaves: fixed ranges of rows, over all files in the order in which they are given.
///
/// Statistics of leaves merge to the same bits as a single pass, whoever collects them. So the number of rows is part of the
/// result, and the number of processes is not.
///
/// ```
/// use residua_compensate::statistics::Leaves;
///
/// let leaves = Leaves::new(1000).of_total(4500);
/// assert_eq!(leaves.count(), Some(5));
/// // The second of two parts: leaves 2, 3 and 4.
/// assert_eq!(leaves.part(1, 2), Some(2..5));
/// assert_eq!(leaves.rows_of(2..5), 2000..4500);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaves {
    rows: u64,
    total: Option<u64>,
}

impl Leaves {
    /// Rows of a leaf unless others are asked for.
    pub const ROWS: u64 = 65_536;
    /// The most rows of a leaf, and of all leaves.
    pub(super) const MOST: u64 = 1 << 48;

    /// Leaves of `rows` rows, from 1 to 2⁴⁸; only the last one may have fewer.
    pub fn new(rows: u64) -> Self {
        Self { rows: rows.clamp(1, Self::MOST), total: None }
    }

    /// With the number of all rows: a part that is missing is then an error.
    #[must_use]
    pub fn of_total(self, rows: u64) -> Self {
        Self { total: Some(rows), ..self }
    }

    /// Rows of a leaf.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The number of all rows, if it is known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }

    /// How many leaves there are, if the number of rows is known.
    pub fn count(&self) -> Option<u64> {
        self.total.map(|total| total.div_ceil(self.rows))
    }

    /// The leaves of part number `part`, from 0, of `parts` parts of about equal size. `None` if the number of rows is not
    /// known or there is no such part.
    pub fn part(&self, part: u64, parts: u64) -> Option<Range<u64>> {
        let count = u128::from(self.count()?);
        let start = |part: u64| (count * u128::from(part) / u128::from(parts)) as u64;
        (part < parts).then(|| start(part)..start(part + 1))
    }

    /// The rows of some leaves.
    pub fn rows_of(&self, leaves: Range<u64>) -> Range<u64> {
        let start = |leaf: u64| leaf.saturating_mul(self.rows).min(self.total.unwrap_or(u64::MAX));
        start(leaves.start)..start(leaves.end)
    }

    pub(super) fn expect_same(&self, other: &Self) -> Result<()> {
        if self == other {
            return Ok(());
        }
        let text = |leaves: &Self| match leaves.total {
            Some(total) => format!("{} of {total} rows", leaves.rows),
            None => format!("{} rows", leaves.rows),
        };
        let problem = format!("statistics of leaves of {} do not merge with {}", text(other), text(self));
        Err(CompensateError::Statistics { problem })
    }

    /// An error if `samples` from leaf `first` on are known not to be all.
    pub(super) fn expect_all(&self, first: u64, samples: u64) -> Result<()> {
        let Some(total) = self.total.filter(|&total| first > 0 || samples != total) else { return Ok(()) };
        let start = self.rows_of(first..first).start;
        let end = start + samples;
        let problem = format!(
            "these are the statistics of rows {start} to {end} of {total}; merge them with the others"
        );
        Err(CompensateError::Statistics { problem })
    }
}

impl Default for Leaves {
    fn default() -> Self {
        Self::new(Self::ROWS)
    }
}
