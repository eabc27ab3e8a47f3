//! Sparse products without processor-specific instructions. Every path uses them where `x` is not finite.

use super::{Factor, Output};
use crate::layout::{Gap, LANES, Planes, Stored};

/// One value of `x` per column, all finite: the eight lanes of a slice side by side.
pub(super) fn lanes<V: Stored, G: Gap>(
    planes: &Planes<V, G>,
    factor: Factor<'_>,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let (mut gaps, _) = planes.gaps.as_chunks::<LANES>();
    let (mut values, _) = planes.values.as_chunks::<LANES>();
    for slice in &planes.slices {
        let (slice_gaps, slice_values);
        (slice_gaps, gaps) = gaps.split_at(slice.steps as usize);
        (slice_values, values) = values.split_at(slice.steps as usize);
        let mut columns = slice.starts;
        let mut sums = [0.0; LANES];
        for (gaps, values) in slice_gaps.iter().zip(slice_values) {
            for lane in 0..LANES {
                columns[lane] += gaps[lane].get();
                sums[lane] += values[lane].to_f32() * x[columns[lane] as usize];
            }
        }
        for lane in (0..LANES).filter(|&lane| slice.lens[lane] > 0) {
            let row = usize::from(slice.rows[lane]);
            y.add(row, factor.of(row), &sums[lane..=lane]);
        }
    }
}

/// `N` values of `x` per column, of any kind: lane after lane, fillers and padding left out.
pub(super) fn rows<V: Stored, G: Gap, const N: usize>(
    planes: &Planes<V, G>,
    factor: Factor<'_>,
    x: &[f32],
    y: &mut Output<'_>,
) {
    let (x, _) = x.as_chunks::<N>();
    let mut first = 0;
    for slice in &planes.slices {
        for lane in (0..LANES).filter(|&lane| slice.lens[lane] > 0) {
            let mut column = slice.starts[lane];
            let mut sums = [0.0; N];
            for step in 0..usize::from(slice.lens[lane]) {
                let at = first + step * LANES + lane;
                let (gap, value) = (planes.gaps[at].get(), planes.values[at]);
                column += gap;
                if gap == G::MAX && value.is_zero() {
                    continue;
                }
                let value = value.to_f32();
                for (sum, x) in sums.iter_mut().zip(&x[column as usize]) {
                    *sum += value * x;
                }
            }
            let row = usize::from(slice.rows[lane]);
            y.add(row, factor.of(row), &sums);
        }
        first += slice.steps as usize * LANES;
    }
}
