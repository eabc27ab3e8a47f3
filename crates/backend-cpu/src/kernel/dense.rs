//! Dense base times a tile of vectors.

use super::{Output, Path};
use crate::base::{CpuBase, block_codes};
use crate::tile::Tile;
use crate::vector::BLOCK;

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
pub(crate) fn base_product(path: Path, base: &CpuBase, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    match path {
        Path::Portable => match x.width {
            1 => portable::<1>(base, first, x, y),
            8 => portable::<8>(base, first, x, y),
            16 => portable::<16>(base, first, x, y),
            24 => portable::<24>(base, first, x, y),
            _ => portable::<32>(base, first, x, y),
        },
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.base_product(base, first, x, y),
    }
}

/// Row by row; a group's sum is multiplied by its scale once.
fn portable<const N: usize>(base: &CpuBase, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    let (x, _) = x.x.as_chunks::<N>();
    let x = &x[..base.cols()];
    for row in 0..y.rows() {
        let (codes, scales) = (base.row_codes(first + row), base.row_scales(first + row));
        let mut total = [0.0; N];
        let mut sums = [0.0; N];
        for (block, x) in x.chunks(BLOCK).enumerate() {
            for (i, (x, code)) in x.iter().zip(block_codes(base.kind(), codes, block)).enumerate() {
                let column = block * BLOCK + i;
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += f32::from(code) * x;
                }
                if (column + 1).is_multiple_of(base.group()) || column + 1 == base.cols() {
                    let scale = scales[column / base.group()];
                    for (total, sum) in total.iter_mut().zip(&mut sums) {
                        *total += scale * std::mem::take(sum);
                    }
                }
            }
        }
        y.row(row).iter_mut().zip(total).for_each(|(y, total)| *y = total);
    }
}
