//! Codes times a tile of vectors, without processor-specific instructions.

use super::Output;
use crate::base::{CodesView, eight_codes};
use crate::tile::Tile;

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
pub(super) fn product(base: CodesView<'_>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    match x.width {
        1 => single(base, first, &x.by_vector, y),
        8 => tile::<8>(base, first, x, y),
        16 => tile::<16>(base, first, x, y),
        24 => tile::<24>(base, first, x, y),
        _ => tile::<32>(base, first, x, y),
    }
}

/// One vector: eight sums side by side, multiplied by a group's scale where the group ends. `x` has a value for every
/// column, padding included.
fn single(base: CodesView<'_>, first: usize, x: &[f32], y: &mut Output<'_>) {
    let (x, _) = x[..base.padded_cols()].as_chunks::<8>();
    let eights = base.group() / 8;
    for row in 0..y.rows() {
        let (codes, scales) = (base.row_codes(first + row), base.row_scales(first + row));
        let mut total = [0.0; 8];
        // A row's padding may start a group that it has no scale for; its codes and its x are 0.
        for (group, (x, scale)) in x.chunks(eights).zip(scales).enumerate() {
            let mut sums = [0.0; 8];
            for (i, x) in x.iter().enumerate() {
                let at = group * eights + i;
                let codes = eight_codes(base.order, codes, at / 8, at % 8);
                for lane in 0..8 {
                    sums[lane] += codes[lane] * x[lane];
                }
            }
            total.iter_mut().zip(sums).for_each(|(total, sum)| *total += scale * sum);
        }
        y.row(row)[0] = total.iter().sum();
    }
}

/// `N` vectors: every weight is multiplied with the contiguous values of its column.
fn tile<const N: usize>(base: CodesView<'_>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    let (x, _) = x.x.as_chunks::<N>();
    for row in 0..y.rows() {
        let (codes, scales) = (base.row_codes(first + row), base.row_scales(first + row));
        let mut sums = [0.0; N];
        for (at, x) in x[..base.cols()].chunks(8).enumerate() {
            let codes = eight_codes(base.order, codes, at / 8, at % 8);
            let scale = scales[at * 8 / base.group()];
            for (code, x) in codes.into_iter().zip(x) {
                let weight = code * scale;
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += weight * x);
            }
        }
        y.row(row).iter_mut().zip(sums).for_each(|(y, sum)| *y = sum);
    }
}
