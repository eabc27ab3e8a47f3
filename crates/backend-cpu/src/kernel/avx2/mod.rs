//! AVX2, FMA and F16C.
//!
//! Functions here are `unsafe` because of their instructions. [`Avx2`] calls them all; a value of that type proves that
//! the processor has the instructions.

// Small arrays are registers here, and indices name them. Loops fill them: a closure has other target features than the
// function of the standard library that calls it, and would not be inlined into it.
#![allow(clippy::needless_range_loop)]

mod codes;
mod csr;
mod dense;
mod floats;
mod gemm;
mod integer;
mod load;
mod order;
mod spmm;
pub(super) mod spmv;

use std::arch::x86_64::*;

pub(crate) use dense::DenseRows;
pub(super) use gemm::PANEL;
pub(crate) use load::{LoadGaps, LoadValues};

use super::Factor;
use super::output::{Output, Rows};
use crate::base::PackedView;
use crate::borrowed::BorrowedCsr;
use crate::layout::{Gap, LANES, Planes};
use crate::quantized::{Part, Quantized, round};
use crate::tile::{LANE_WIDTH, Tile};
use crate::vector::BLOCK;
use residua_backend::Shaped;

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, where the processor has them.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Self(()))
    }

    /// Adds `factor · (planes · x)` to `y`, for finite `x`.
    pub(super) fn product<V: LoadValues, G: Gap + LoadGaps>(
        self,
        planes: &Planes<V, G>,
        factor: Factor<'_>,
        x: &Tile<'_>,
        y: &mut Output<'_>,
    ) {
        check(planes, x);
        // SAFETY: `self` proves the instructions; `check` and `Planes` give the rest.
        unsafe {
            match x.width {
                1 => spmv::spmv::<V, G, false>(planes, factor, &x.x, y),
                8 => spmm::spmm::<V, G, 1, 4>(planes, factor, &x.x, y),
                16 => spmm::spmm::<V, G, 2, 2>(planes, factor, &x.x, y),
                24 => spmm::spmm::<V, G, 3, 2>(planes, factor, &x.x, y),
                _ => spmm::spmm::<V, G, 4, 1>(planes, factor, &x.x, y),
            }
        }
    }

    /// Writes `base · x` for the rows from `first` on, as many as `y` has.
    pub(super) fn dense_product(
        self,
        base: impl DenseRows,
        first: usize,
        tiles: &[Tile<'_>],
        y: &mut Rows<'_>,
    ) {
        let [rows, cols] = base.shape();
        assert!(first + y.count() <= rows);
        for x in tiles {
            assert!((1..=x.width).contains(&x.used));
            match x.width <= LANE_WIDTH {
                true => assert!(x.by_vector.len() >= x.vectors() * cols.next_multiple_of(BLOCK)),
                false => assert!(x.x.len() >= cols * x.width),
            }
        }
        // SAFETY: `self` proves the instructions; the rows exist and x covers the columns, as checked.
        unsafe { dense::product(base, first, tiles, y) }
    }

    /// Writes `base · x` for the rows from `first` on, as many as `y` has, to its columns from `at` on.
    pub(super) fn integer_product(
        self,
        base: PackedView<'_>,
        first: usize,
        x: &Quantized,
        at: usize,
        y: &mut Rows<'_>,
    ) {
        x.check(base, first, at, y);
        // SAFETY: `self` proves the instructions; the rows exist, and x has the blocks of the base, as checked.
        unsafe { integer::product(base, first, x, at, y) }
    }

    /// Rounds inputs to integers.
    pub(super) fn round(self, part: Part<'_>) {
        #[target_feature(enable = "avx2")]
        fn with_avx2(part: Part<'_>) {
            round(part);
        }
        // SAFETY: `self` proves the instructions.
        unsafe { with_avx2(part) }
    }

    /// Adds `alpha · (a · x)` for the rows from `first` on, as many as `y` has.
    pub(super) fn csr_product(
        self,
        a: &BorrowedCsr<'_>,
        first: usize,
        alpha: f32,
        x: &Tile<'_>,
        y: &mut Output<'_>,
    ) {
        let [rows, cols] = a.shape();
        assert!(first + y.rows() <= rows && x.x.len() >= cols * x.width);
        // SAFETY: `self` proves the instructions; the rows exist and x covers the columns, as checked; the columns of
        // a `BorrowedCsr` are below `cols`.
        unsafe {
            match x.width {
                1 => csr::spmv(a, first, alpha, &x.x, y),
                8 => csr::spmm::<1>(a, first, alpha, &x.x, y),
                16 => csr::spmm::<2>(a, first, alpha, &x.x, y),
                24 => csr::spmm::<3>(a, first, alpha, &x.x, y),
                _ => csr::spmm::<4>(a, first, alpha, &x.x, y),
            }
        }
    }
}

/// Checks that the planes hold what their slices say, and that `x` has `width` values for each column. Lanes stay below
/// `cols`, as [`Planes`] promises.
pub(super) fn check<V: LoadValues, G: Gap>(planes: &Planes<V, G>, x: &Tile<'_>) {
    let elements = planes.slices.iter().map(|slice| slice.steps as usize).sum::<usize>() * LANES;
    assert!(planes.gaps.len() == elements && planes.values.len() == elements);
    assert!(x.x.len() >= planes.cols * x.width);
}

/// The sum of eight lanes, always in the same order.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_lanes(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
