//! The k-th highest score, found by counting.
//!
//! A sample of the rows gives a window in which it probably lies. One scan counts the scores above the window and,
//! float by float, inside it. Scores are non-negative floats, and such floats order as their bits do.

use super::histogram::{Histogram, Place};

/// Bits of infinity: above those of every score.
const INFINITE: u32 = 0x7F80_0000;
/// Enough for a wrong guess and a search bit by bit.
const MOST_SCANS: usize = 2 + 32;

/// Which weights are kept: all with a comparable score above `score`, and the first `ties` of those with exactly this
/// score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cut {
    pub(super) score: f32,
    pub(super) ties: u64,
}

/// A window in which the cut probably lies, in bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guess {
    low: u32,
    high: u32,
}

impl Guess {
    /// Every score.
    pub(super) const NONE: Self = Self { low: 0, high: INFINITE };

    /// The window for a `share` of all scores, from a sample: `cols` scores of each of some rows, as comparable bits.
    /// The window is wide enough to be wrong only if the sample does not represent the matrix. A wrong guess costs
    /// time; the result is still right. `scratch` is as long as `scores`.
    pub(super) fn from_rows(share: f64, scores: &[f32], cols: usize, scratch: &mut [f32]) -> Self {
        let (count, rows) = (scores.len(), scores.len() / cols.max(1));
        if rows < 8 {
            return Self::NONE;
        }
        scratch.copy_from_slice(scores);
        // The score above which a share of the sample lies.
        let mut highest = |share: f64| {
            let rank = (share * count as f64).round();
            if rank >= count as f64 {
                return 0.0;
            } else if rank < 1.0 {
                return f32::from_bits(INFINITE);
            }
            *scratch.select_nth_unstable_by(rank as usize, |a, b| b.total_cmp(a)).1
        };
        // Rows differ more than by chance, so the margin follows from the spread between rows.
        let middle = highest(share);
        let (sum, squares) = scores.chunks_exact(cols).fold((0.0, 0.0), |(sum, squares), row| {
            let above = row.iter().filter(|&&s| s > middle).count() as f64 / cols as f64;
            (sum + above, squares + above * above)
        });
        let (rows, count) = (rows as f64, count as f64);
        let variance = (squares / rows - (sum / rows).powi(2)).max(0.0) / rows;
        let margin = 4.0 * variance.max(share * (1.0 - share) / count).sqrt() + 8.0 / count;
        let (low, high) = (highest(share + margin).to_bits(), highest(share - margin).to_bits());
        Self { low, high: high.saturating_add(1).clamp(low + 1, INFINITE) }
    }
}

/// Finds the cut that keeps exactly the `kept` highest scores, between 1 and all. `scan` adds all scores to its
/// histogram of at most `bins` bins (a power of two, at least 2). Usually one scan is enough. `None` if scans
/// contradict each other because the scores change meanwhile.
pub(super) fn find_cut<E>(
    kept: u64,
    guess: Guess,
    bins: usize,
    histogram: &mut Histogram,
    mut scan: impl FnMut(&Histogram) -> Result<(), E>,
) -> Result<Option<Cut>, E> {
    let Guess { mut low, mut high } = guess;
    for _ in 0..MOST_SCANS {
        histogram.reset(low, high, bins);
        scan(histogram)?;
        (low, high) = match histogram.place(kept) {
            Place::Above => (high, INFINITE),
            Place::Below => (0, low),
            Place::Bin { low, high, above } if high - low == 1 => {
                return Ok(Some(Cut { score: f32::from_bits(low), ties: kept - above }));
            }
            Place::Bin { low, high, .. } => (low, high),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule, word for word: sorted, highest first.
    fn sorted(scores: &[f32], kept: u64) -> Cut {
        let mut sorted = scores.to_vec();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let score = sorted[kept as usize - 1];
        let above = sorted.iter().filter(|&&s| s > score).count() as u64;
        Cut { score, ties: kept - above }
    }

    fn counted(scores: &[f32], cols: usize, kept: u64, guess: Guess, bins: usize) -> (Cut, u32) {
        let (ones, mut scans) = (vec![1.0; cols], 0);
        let cut = find_cut(kept, guess, bins, &mut Histogram::default(), |histogram| {
            scans += 1;
            scores.chunks(cols).for_each(|row| histogram.add(row, &ones[..row.len()]));
            Ok::<_, ()>(())
        });
        (cut.unwrap().unwrap(), scans)
    }

    fn score() -> impl Strategy<Value = f32> {
        prop_oneof![
            (0u8..4).prop_map(f32::from),
            0.0f32..1.0,
            (0u32..INFINITE).prop_map(f32::from_bits),
            Just(f32::MAX),
            Just(f32::from_bits(1)),
        ]
    }

    proptest! {
        /// However wrong the guess and however few the bins.
        #[test]
        fn any_guess_finds_the_same_cut(
            scores in prop::collection::vec(score(), 1..400),
            cols in 1usize..100, kept in any::<prop::sample::Index>(),
            (a, b) in (0u32..INFINITE, 0u32..INFINITE), bins in 0u32..12,
        ) {
            let kept = kept.index(scores.len()) as u64 + 1;
            let expected = sorted(&scores, kept);
            let guess = Guess { low: a.min(b), high: a.max(b) + 1 };
            for guess in [guess, Guess::NONE] {
                prop_assert_eq!(counted(&scores, cols, kept, guess, 1 << bins.max(1)).0, expected);
            }
        }

        /// A guess from the scores' own rows.
        #[test]
        fn a_guess_from_rows_finds_the_cut(
            scores in prop::collection::vec(score(), 64..65), kept in 1u64..64,
        ) {
            let mut scratch = vec![0.0; scores.len()];
            let guess = Guess::from_rows(kept as f64 / 64.0, &scores, 8, &mut scratch);
            prop_assert!(guess.low < guess.high && guess.high <= INFINITE);
            prop_assert_eq!(counted(&scores, 8, kept, guess, 1 << 10).0, sorted(&scores, kept));
        }
    }

    #[test]
    fn scores_that_change_between_scans_end_the_search() {
        let mut scans = 0;
        let cut = find_cut(5, Guess::NONE, 2, &mut Histogram::default(), |histogram| {
            scans += 1;
            histogram.add(&[1.0; 6][..6 - 2 * (scans % 2)], &[1.0; 6][..6 - 2 * (scans % 2)]);
            Ok::<_, ()>(())
        });
        assert_eq!((cut, scans), (Ok(None), MOST_SCANS));
    }

    /// What the sample is for.
    #[test]
    fn one_scan_does_for_scores_without_order() {
        let mut state = 1u64;
        let scores: Vec<f32> = (0..1 << 20)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                ((state >> 40) as f32 / (1 << 24) as f32).powi(2)
            })
            .collect();
        let kept = scores.len() as u64 / 20;
        let sample = &scores[..1 << 17];
        let guess = Guess::from_rows(0.05, sample, 1 << 10, &mut vec![0.0; sample.len()]);
        let (cut, scans) = counted(&scores, 1 << 10, kept, guess, 1 << 19);
        assert_eq!((cut, scans), (sorted(&scores, kept), 1));
    }
}
