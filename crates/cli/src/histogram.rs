//! How long the rows of a sparse matrix are.

use serde::Serialize;

/// Bars from empty to full, in eighths.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Row lengths in buckets of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Histogram {
    /// The shortest row.
    pub(crate) min: u32,
    /// The longest row.
    pub(crate) max: u32,
    /// The mean length.
    pub(crate) mean: f64,
    /// Lengths that fall into one bucket; bucket `i` starts at `min + i · width`.
    pub(crate) width: u32,
    /// Rows per bucket.
    pub(crate) rows: Vec<u64>,
}

impl Histogram {
    /// Of the given row lengths, in at most `buckets` (at least 1) buckets.
    pub(crate) fn new(lengths: &[u32], buckets: u32) -> Self {
        let (min, max) = lengths.iter().fold((u32::MAX, 0), |(min, max), &n| (min.min(n), max.max(n)));
        let min = min.min(max);
        let width = (max - min + 1).div_ceil(buckets.max(1));
        let mut rows = vec![0; (max - min + 1).div_ceil(width) as usize];
        for length in lengths {
            rows[((length - min) / width) as usize] += 1;
        }
        let sum: u64 = lengths.iter().map(|&n| u64::from(n)).sum();
        Self { min, max, mean: sum as f64 / lengths.len().max(1) as f64, width, rows }
    }

    /// One bar per bucket, a blank for a bucket without rows. The scale is logarithmic because a few rows may be far
    /// longer than all others.
    pub(crate) fn bars(&self) -> String {
        let log = |rows: u64| (rows as f64 + 1.0).ln();
        let most = log(self.rows.iter().copied().max().unwrap_or(0)).max(f64::MIN_POSITIVE);
        let bar = |&rows: &u64| match rows {
            0 => ' ',
            _ => BARS[((log(rows) / most * 8.0) as usize).min(7)],
        };
        self.rows.iter().map(bar).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_bucket() {
        let lengths: Vec<u32> = (0..1000).map(|i| i * i % 97).collect();
        for buckets in [1, 2, 7, 96, 97, 500] {
            let histogram = Histogram::new(&lengths, buckets);
            assert_eq!(histogram.rows.iter().sum::<u64>(), 1000);
            assert!(histogram.rows.len() <= buckets as usize);
            assert!(histogram.min + histogram.width * histogram.rows.len() as u32 > histogram.max);
        }
    }

    #[test]
    fn bars_show_the_shape() {
        assert_eq!(Histogram::new(&[1, 1, 1, 1, 1, 1, 1, 1, 2, 4], 4).bars(), "█▃ ▃");
        assert_eq!(Histogram::new(&[], 4).bars(), " ");
        assert_eq!(Histogram::new(&[5; 3], 4).rows, [3]);
    }
}
