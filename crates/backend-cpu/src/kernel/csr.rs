//! Compressed sparse rows times a tile of vectors.

use super::{Output, Path};
use crate::borrowed::BorrowedCsr;
use crate::tile::Tile;

/// Adds `alpha · (a · x)` for the rows from `first` on, as many as `y` has. `y` holds a tile alone.
pub(crate) fn csr_product(
    path: Path,
    a: &BorrowedCsr<'_>,
    first: usize,
    alpha: f32,
    x: &Tile<'_>,
    y: &mut Output<'_>,
) {
    match path {
        Path::Portable => match x.width {
            1 => rows::<1>(a, first, alpha, &x.x, y),
            8 => rows::<8>(a, first, alpha, &x.x, y),
            16 => rows::<16>(a, first, alpha, &x.x, y),
            24 => rows::<24>(a, first, alpha, &x.x, y),
            _ => rows::<32>(a, first, alpha, &x.x, y),
        },
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.csr_product(a, first, alpha, x, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512(avx512) => avx512.avx2().csr_product(a, first, alpha, x, y),
    }
}

fn rows<const N: usize>(a: &BorrowedCsr<'_>, first: usize, alpha: f32, x: &[f32], y: &mut Output<'_>) {
    let (x, _) = x.as_chunks::<N>();
    for row in 0..y.rows() {
        let (columns, values) = a.row(first + row);
        let mut sums = [0.0; N];
        for (&column, &value) in columns.iter().zip(values) {
            sums.iter_mut().zip(&x[column as usize]).for_each(|(sum, x)| *sum += value * x);
        }
        y.add(row, alpha, &sums);
    }
}
