//! Rows of floats times a tile of vectors, without processor-specific instructions.

use super::Output;
use crate::base::FloatsView;
use crate::layout::Stored;
use crate::tile::{LANE_WIDTH, Tile};

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
pub(super) fn product<V: Stored>(base: FloatsView<'_, V>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    match x.width {
        1 => single(base, first, &x.by_vector, y),
        8 => tile::<V, 8>(base, first, x, y),
        16 => tile::<V, 16>(base, first, x, y),
        24 => tile::<V, 24>(base, first, x, y),
        _ => tile::<V, 32>(base, first, x, y),
    }
}

/// One vector: eight sums side by side. `x` has a value for every column, padding included.
fn single<V: Stored>(base: FloatsView<'_, V>, first: usize, x: &[f32], y: &mut Output<'_>) {
    let (x, _) = x[..base.padded_cols()].as_chunks::<LANE_WIDTH>();
    for row in 0..y.rows() {
        let (weights, _) = base.row(first + row).as_chunks::<LANE_WIDTH>();
        let mut sums = [0.0; LANE_WIDTH];
        for (weights, x) in weights.iter().zip(x) {
            for lane in 0..LANE_WIDTH {
                sums[lane] += weights[lane].to_f32() * x[lane];
            }
        }
        y.row(row)[0] = sums.iter().sum();
    }
}

/// `N` vectors: every weight is multiplied with the contiguous values of its column.
fn tile<V: Stored, const N: usize>(base: FloatsView<'_, V>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    let (x, _) = x.x.as_chunks::<N>();
    for row in 0..y.rows() {
        let mut sums = [0.0; N];
        for (weight, x) in base.row(first + row).iter().zip(&x[..base.cols()]) {
            let weight = weight.to_f32();
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
        }
        y.row(row).iter_mut().zip(sums).for_each(|(y, sum)| *y = sum);
    }
}
