//! AVX-512 F, BW and VNNI, for what gains from them; the AVX2 path does the rest.
//!
//! A lane of a wider vector computes what a lane of the AVX2 kernels does, in the same order. So results have the same bits.
//! As there, functions are `unsafe` because of their instructions, and a value of [`Avx512`] proves that they are present.

#![allow(clippy::needless_range_loop)]

mod codes;
mod gemm;
mod integer_batch;
mod integer_rows;
mod spmm;

use super::Factor;
use super::avx2::{Avx2, DenseRows, LoadGaps, LoadValues, check, spmv};
use super::output::{Output, Rows};
use crate::base::PackedView;
use crate::base::packed::Order;
use crate::layout::{Gap, Planes};
use crate::quantized::{Part, Quantized, round};
use crate::tile::{LANE_WIDTH, MOST, Tile};

/// Proof that the processor has AVX-512 F, BW and VNNI, and what the AVX2 path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx512(Avx2);

/// With fewer vectors, lanes are rows.
const LEAST_IN_LANES: usize = 13;

impl Avx512 {
    /// The proof, where the processor has them.
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni");
        Avx2::detect().filter(|_| has).map(Self)
    }

    pub(super) fn avx2(self) -> Avx2 {
        self.0
    }

    /// Adds `factor · (planes · x)` to `y`, for finite `x`.
    pub(super) fn product<V: LoadValues, G: Gap + LoadGaps>(
        self,
        planes: &Planes<V, G>,
        factor: Factor<'_>,
        x: &Tile<'_>,
        y: &mut Output<'_>,
    ) {
        const HALF: usize = MOST / 2;
        check(planes, x);
        // SAFETY: `self` proves the instructions; `check` and `Planes` give the rest. Columns below 2³¹ are positive i32.
        unsafe {
            match x.width {
                1 if planes.cols <= 1 << 31 => spmv::spmv::<V, G, true>(planes, factor, &x.x, y),
                HALF => spmm::spmm::<V, G, 1, 8>(planes, factor, &x.x, y),
                MOST => spmm::spmm::<V, G, 2, 4>(planes, factor, &x.x, y),
                _ => self.0.product(planes, factor, x, y),
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
        // Only the last tile may be narrow.
        let wide = tiles.partition_point(|tile| tile.width > LANE_WIDTH);
        let [rows, cols] = base.shape();
        assert!(first + y.count() <= rows);
        assert!(tiles[..wide].iter().all(|tile| tile.x.len() >= cols * tile.width));
        if wide > 0 {
            // SAFETY: `self` proves the instructions; the rows exist and x covers the columns, as checked.
            unsafe { gemm::gemm(base, first, &tiles[..wide], y) };
        }
        self.0.dense_product(base, first, &tiles[wide..], y);
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
        // SAFETY: `self` proves the instructions; the rows exist, and x has the blocks of the base, as checked. The order
        // of the codes is the base's.
        unsafe {
            match (base.order, x.width < LEAST_IN_LANES) {
                (Order::Nibbles, true) => integer_rows::product(codes::Nibbles, base, first, x, at, y),
                (Order::Nibbles, false) => integer_batch::product(codes::Nibbles, base, first, x, at, y),
                (Order::Levels(levels), true) => {
                    integer_rows::product(codes::Levels::new(levels), base, first, x, at, y);
                }
                (Order::Levels(levels), false) => {
                    integer_batch::product(codes::Levels::new(levels), base, first, x, at, y);
                }
                (Order::Bytes, true) => integer_rows::product(codes::Bytes, base, first, x, at, y),
                (Order::Bytes, false) => integer_batch::product(codes::Bytes, base, first, x, at, y),
            }
        }
    }

    /// Rounds inputs to integers.
    pub(super) fn round(self, part: Part<'_>) {
        #[target_feature(enable = "avx2,avx512f,avx512bw")]
        fn with_avx512(part: Part<'_>) {
            round(part);
        }
        // SAFETY: `self` proves the instructions.
        unsafe { with_avx512(part) }
    }
}
