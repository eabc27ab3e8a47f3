//! A size is shared out among tensors.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use std::path::{Path, PathBuf};

use residua_format::file::Dtype;
use residua_format::{BaseKind, ValueType};
use residua_memory::Budget;
use residua_split::{NoProgress, Output, SplitError, SplitOptions, SplitReport, split};
use split_support::{Bench, Dense, bytes, weights};

fn layers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/minilm-layers.safetensors")
}

fn split_layers(bench: &Bench, options: &SplitOptions) -> Result<SplitReport, SplitError> {
    split(layers(), Output(bench.path("split")), options, &Budget::unlimited(), &NoProgress)
}

fn bits(report: &SplitReport) -> f64 {
    8.0 * (report.base_bytes() + report.residual_bytes()) as f64 / report.parameters() as f64
}

/// The sum that the allocation minimises.
fn cost(report: &SplitReport) -> f64 {
    report.tensors.iter().map(|t| t.error.powi(2) * (t.shape[0] * t.shape[1]) as f64).sum()
}

/// As many bits as asked for, hardly fewer, and no choice that is the same for all tensors and takes no more is better.
#[test]
fn bits_are_kept_and_no_common_choice_is_better() {
    let bench = Bench::new();
    let kinds = [BaseKind::Lut2, BaseKind::Lut3, BaseKind::Lut4, BaseKind::Lut5];
    let common: Vec<(f64, f64, String)> = kinds
        .into_iter()
        .flat_map(|kind| [0.0, 0.01, 0.03, 0.08].map(|density| (kind, density)))
        .map(|(kind, density)| {
            let report = split_layers(&bench, &SplitOptions::default().base(kind).density(density)).unwrap();
            (bits(&report), cost(&report), format!("{kind} and {density}"))
        })
        .collect();
    let mut last = f64::INFINITY;
    for asked in [2.5, 3.3, 3.8, 4.3, 4.8, 5.3, 6.0] {
        let report = split_layers(&bench, &SplitOptions::default().bits(asked)).unwrap();
        let (found, cost) = (bits(&report), cost(&report));
        assert!((0.985 * asked..=1.003 * asked).contains(&found), "{asked}: {found}");
        assert!(cost < last, "{asked}: {cost} after {last}");
        last = cost;
        for (other, common, what) in &common {
            assert!(
                *other > found || cost <= common * 1.02,
                "{asked}: {cost}, {common} for {what} in {other}"
            );
        }
    }
}

/// Neither threads nor budget change a bit of the file.
#[test]
fn the_choice_depends_on_nothing_else() {
    let bench = Bench::new();
    let options = SplitOptions::default().bits(4.2);
    split_layers(&bench, &options).unwrap();
    let expected = std::fs::read(bench.path("split")).unwrap();
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let budget = Budget::new(12 << 20);
        pool.install(|| split(layers(), Output(bench.path("other")), &options, &budget, &NoProgress))
            .unwrap();
        assert!(std::fs::read(bench.path("other")).unwrap() == expected, "{threads} threads");
    }
}

/// The size of the file counts everything in it.
#[test]
fn a_size_is_that_of_the_file() {
    let bench = Bench::new();
    for size in [1_200_000, 2_000_000] {
        let report = split_layers(&bench, &SplitOptions::default().size(size)).unwrap();
        let length = std::fs::metadata(bench.path("split")).unwrap().len();
        assert_eq!(length, report.output_bytes);
        assert!((size * 97 / 100..=size).contains(&length), "{size}: {length}");
    }
}

/// What a pattern fixes stays; the others share what is left.
#[test]
fn patterns_fix_kinds() {
    let bench = Bench::new();
    let options = SplitOptions::default()
        .bits(4.5)
        .base_for("*query*", BaseKind::Int8)
        .base_for("*key*", BaseKind::Lut3);
    let report = split_layers(&bench, &options).unwrap();
    for tensor in &report.tensors {
        let base = tensor.base.unwrap();
        match &*tensor.name {
            name if name.contains("query") => assert_eq!((base, tensor.nnz), (BaseKind::Int8, 0)),
            name if name.contains("key") => assert_eq!(base, BaseKind::Lut3),
            _ => assert!(base.is_codebook()),
        }
    }
    assert!((4.4..=4.515).contains(&bits(&report)), "{}", bits(&report));
}

#[test]
fn impossible_sizes_are_refused_and_the_stated_minimum_works() {
    let bench = Bench::new();
    let error = |options: &SplitOptions| split_layers(&bench, options).unwrap_err().to_string();
    let text = error(&SplitOptions::default().bits(1.5));
    let minimum = text.rsplit_once("at least ").unwrap().1;
    assert!(text.starts_with("1.500 bits per weight are too few"), "{text}");
    split_layers(&bench, &SplitOptions::default().bits(minimum.parse::<f64>().unwrap() + 0.001)).unwrap();
    assert!(error(&SplitOptions::default().size(1000)).contains("take more than this size"));
    assert!(error(&SplitOptions::default().size(100_000)).contains("bits per weight are too few"));
    assert!(error(&SplitOptions::default().bits(f64::NAN)).contains("not a finite number above 0"));
    bench.write("base", &[Dense::new("w", Dtype::F32, &[4, 8], &weights(4, 8, 1))]);
    let over = SplitOptions::default().bits(4.0).base(bench.path("base"));
    assert!(error(&over).contains("the base is another checkpoint"));
    assert_eq!(bench.files(), ["base", "split"]);
}

/// More than there is: the largest kinds and many entries, not an error.
#[test]
fn too_many_bits_are_not_used_up() {
    let bench = Bench::new();
    bench.write("w", &[Dense::new("w", Dtype::F32, &[64, 96], &weights(64, 96, 1))]);
    let report = bench.split("w", &SplitOptions::default().values(ValueType::F32).bits(40.0)).unwrap();
    assert!(report.error() < 1e-2 && bits(&report) < 40.0, "{} {}", report.error(), bits(&report));
    let whole = bytes(&bench.path("w"), "w").len() as u64;
    assert!(report.base_bytes() + report.residual_bytes() < 2 * whole);
}
