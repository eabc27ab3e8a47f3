//! Seconds of one launch, from many in a row.

use std::time::Instant;

/// A sequence of launches, and how to start and await it.
pub(crate) struct Sequence<'a> {
    /// Launches in it.
    pub(crate) launches: usize,
    /// Starts all of them; returns when they are over.
    pub(crate) run: Box<dyn FnMut() -> super::Result + 'a>,
}

/// Median seconds of one launch of each sequence. Sequences take turns, so that a change of clocks meets all.
pub(crate) fn medians(sequences: &mut [Sequence<'_>], rounds: usize) -> super::Result<Vec<f64>> {
    let mut seconds = vec![Vec::new(); sequences.len()];
    for round in 0..rounds + 1 {
        for (sequence, seconds) in sequences.iter_mut().zip(&mut seconds) {
            // As often as it takes for waiting not to weigh.
            let (start, mut times) = (Instant::now(), 0);
            while times == 0 || start.elapsed().as_secs_f64() < 0.002 {
                (sequence.run)()?;
                times += 1;
            }
            // The first round warms up.
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64() / (times * sequence.launches) as f64);
            }
        }
    }
    Ok(seconds.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
