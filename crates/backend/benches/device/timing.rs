//! Seconds of one launch, from many in a row.

use super::Result;

/// A sequence of launches, and how to time it.
pub(crate) struct Sequence<'a> {
    /// Launches in it.
    pub(crate) launches: usize,
    /// Runs all of them the given number of times, waits once at the end, and returns the seconds.
    pub(crate) run: Run<'a>,
}

pub(crate) type Run<'a> = Box<dyn FnMut(usize) -> Result<f64> + 'a>;

/// At most this many launches before a wait: a device's timestamps count no more.
const MOST_LAUNCHES: usize = 16 << 10;

/// Median seconds of one launch of each sequence, over rounds of about `round` seconds. Sequences take turns, so that a
/// change of clocks affects all.
pub(crate) fn medians(sequences: &mut [Sequence<'_>], rounds: usize, round: f64) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for sequence in sequences.iter_mut() {
        // Warms up, then finds how many repetitions make the wait negligible.
        (sequence.run)(1)?;
        let once = (sequence.run)(1)?;
        let most = (MOST_LAUNCHES / sequence.launches).max(1);
        times.push(((round / once.max(1e-9)) as usize).clamp(1, most));
    }
    let mut seconds = vec![Vec::new(); sequences.len()];
    for _ in 0..rounds {
        for ((sequence, &times), seconds) in sequences.iter_mut().zip(&times).zip(&mut seconds) {
            seconds.push((sequence.run)(times)? / (times * sequence.launches) as f64);
        }
    }
    Ok(seconds.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
