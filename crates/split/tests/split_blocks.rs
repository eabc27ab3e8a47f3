//! Codebooks with multipliers of blocks, and codebooks with the level 0.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use residua_format::BaseKind;
use residua_format::file::Dtype;
use residua_memory::Budget;
use residua_split::{SplitOptions, SplitReport};
use split_support::{Bench, Dense, base, weights};

const SHAPE: [usize; 2] = [96, 320];

fn bytes(report: &SplitReport) -> u64 {
    report.base_bytes() + report.residual_bytes()
}

/// Where blocks of columns differ in size, a multiplier for each is worth more than as many bytes of residual, and a split
/// for a size takes it.
#[test]
fn multipliers_pay_where_blocks_differ() {
    let bench = Bench::new();
    let mut values = weights(SHAPE[0], SHAPE[1], 1);
    for (block, values) in values.chunks_mut(32).enumerate() {
        let size = [1.0, 0.3, 0.6, 0.45][block * block % 11 % 4];
        values.iter_mut().for_each(|weight| *weight *= size);
    }
    bench.write("w", &[Dense::new("w", Dtype::F32, &SHAPE, &values)]);
    for (plain, small, large) in [
        (BaseKind::Lut3, BaseKind::Lut3G32, BaseKind::Lut3G16),
        (BaseKind::Lut4, BaseKind::Lut4G32, BaseKind::Lut4G16),
        (BaseKind::Lut5, BaseKind::Lut5G32, BaseKind::Lut5G16),
    ] {
        for (kind, density) in [(small, 0.012), (large, 0.02)] {
            let other = bench.split("w", &SplitOptions::default().base(plain).density(density)).unwrap();
            let found = bench.split("w", &SplitOptions::default().base(kind).density(0.002)).unwrap();
            assert!(bytes(&found) < bytes(&other), "{kind}: {} {}", bytes(&found), bytes(&other));
            assert!(found.error() < other.error(), "{kind}: {} {}", found.error(), other.error());
            assert!(bench.verify("w").is_valid());
        }
    }
    for bits in [3.5, 4.5, 5.5] {
        let report = bench.split("w", &SplitOptions::default().bits(bits)).unwrap();
        let kind = report.tensors[0].base.unwrap();
        assert!(kind.block().is_some(), "{bits}: {kind}");
    }
}

/// Weights far smaller than the others become 0 at most, whatever the size of the others' errors.
#[test]
fn small_columns_keep_small_errors() {
    let bench = Bench::new();
    let mut values = weights(SHAPE[0], SHAPE[1], 2);
    let small = |at: usize| (at % SHAPE[1]).is_multiple_of(8);
    (0..values.len()).filter(|&at| small(at)).for_each(|at| values[at] *= 0.01);
    bench.write("w", &[Dense::new("w", Dtype::F32, &SHAPE, &values)]);
    for kind in BaseKind::ALL.into_iter().filter(|kind| kind.is_codebook() && kind.bits() > 2) {
        bench.split("w", &SplitOptions::default().base(kind).density(0.0)).unwrap();
        let container = bench.container("w");
        let grid = *container.read_base("w", &Budget::unlimited()).unwrap().grid();
        assert!(grid.levels().contains(&0), "{kind}: {:?}", grid.levels());
        let found = base(&container, "w");
        let squares = |of: &dyn Fn(usize) -> f32| {
            (0..values.len()).filter(|&at| small(at)).map(|at| f64::from(of(at)).powi(2)).sum::<f64>()
        };
        let (error, own) = (squares(&|at| found[at] - values[at]), squares(&|at| values[at]));
        assert!(error <= own, "{kind}: {error} {own}");
    }
}
