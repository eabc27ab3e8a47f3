//! The error of the layers' outputs against plain sums in f64, whatever the budget.

#![allow(clippy::unwrap_used, reason = "only tests use it")]

mod split_support;

use residua_format::BaseKind;
use residua_format::file::Dtype;
use residua_memory::{Budget, ErrorKind};
use residua_split::{
    ActivationsAt, CalibrateOptions, LayerInputs, NoProgress, Output, SplitError, SplitOptions, Statistic,
    VerifyOptions, VerifyReport, calibrate, verify,
};
use split_support::{Bench, Dense, base, entries, weights};

const ROWS: usize = 90;
const COLS: usize = 300;

/// Splits `a.w` and `b.w`, and measures the inputs of `a.w`, which hang together.
fn bench(statistic: Statistic) -> (Bench, Vec<f64>) {
    let bench = Bench::new();
    let tensor = |name: &str, seed| Dense::new(name, Dtype::BF16, &[ROWS, COLS], &weights(ROWS, COLS, seed));
    bench.write("w", &[tensor("a.w", 1), tensor("b.w", 2)]);
    bench.split("w", &SplitOptions::default().base(BaseKind::Int4G64)).unwrap();
    let mut x = weights(400, COLS, 3);
    for row in x.chunks_mut(COLS) {
        (1..COLS).for_each(|col| row[col] += 0.9 * row[col - 1]);
    }
    let inputs = bench.write("x", &[Dense::new("x", Dtype::F32, &[400, COLS], &x)]);
    let layer = LayerInputs::new("a.w", ActivationsAt::Tensor(inputs, "x".into()));
    let options = CalibrateOptions::default().statistic(statistic);
    calibrate(&[layer], Output(bench.path("cal")), &options, &Budget::unlimited(), &NoProgress).unwrap();
    (bench, x.into_iter().map(f64::from).collect())
}

fn measure(bench: &Bench, budget: &Budget) -> Result<VerifyReport, SplitError> {
    let options = VerifyOptions::default().against(bench.path("w")).calibration(bench.path("cal"));
    verify(bench.split_path("w"), &options, budget, &NoProgress)
}

/// ‖X·Eᵀ‖ / ‖X·Wᵀ‖, with products between features of different blocks left out.
fn expected(bench: &Bench, x: &[f64], block: usize) -> f64 {
    let original = split_support::widen(Dtype::BF16, &split_support::bytes(&bench.path("w"), "a.w"));
    let container = bench.container("w");
    let mut rebuilt = base(&container, "a.w");
    entries(&container, "a.w").into_iter().for_each(|(at, value)| rebuilt[at] += value);
    let (mut outputs, mut errors) = (0.0, 0.0);
    for (w, r) in original.chunks(COLS).zip(rebuilt.chunks(COLS)) {
        for x in x.chunks(COLS) {
            for first in (0..COLS).step_by(block) {
                let part = first..COLS.min(first + block);
                let y: f64 = part.clone().map(|i| x[i] * f64::from(w[i])).sum();
                let e: f64 = part.map(|i| x[i] * (f64::from(w[i]) - f64::from(r[i]))).sum();
                (outputs, errors) = (outputs + y * y, errors + e * e);
            }
        }
    }
    (errors / outputs).sqrt()
}

#[test]
fn outputs_are_measured_as_defined_within_any_budget() {
    let moments = |block| Statistic::SecondMoments { block: Some(block) };
    for (statistic, block) in [(Statistic::MeanSquares, 1), (moments(128), 128), (moments(COLS), COLS)] {
        let (bench, x) = bench(statistic);
        let report = measure(&bench, &Budget::unlimited()).unwrap();
        let of = |report: &VerifyReport, name: &str| {
            report.tensors.iter().find(|t| t.name == name).unwrap().output_error
        };
        let (found, expected) = (of(&report, "a.w").unwrap(), expected(&bench, &x, block));
        assert!((found - expected).abs() < 1e-6 * expected, "{block}: {found} {expected}");
        assert_eq!((of(&report, "b.w"), report.output_error()), (None, Some(found)));
        // The error of the weights says something else.
        assert!((found - report.error().unwrap()).abs() > 1e-3 * found, "{found}");

        let Err(SplitError::Budget(error)) = measure(&bench, &Budget::new(1000)) else { panic!("too small") };
        let mut limit = error.minimum;
        // Each step of the job states its own need.
        let small = loop {
            match measure(&bench, &Budget::new(limit)) {
                Ok(report) => break report,
                Err(SplitError::Budget(error)) => limit = error.minimum,
                Err(error) => panic!("{error}"),
            }
        };
        assert!(limit < 600_000, "{limit}");
        assert!((of(&small, "a.w").unwrap() - found).abs() < 1e-12, "{limit}");
    }
}

#[test]
fn a_calibration_that_says_nothing_is_refused() {
    let (bench, _) = bench(Statistic::MeanSquares);
    let verify =
        |options: VerifyOptions| verify(bench.split_path("w"), &options, &Budget::unlimited(), &NoProgress);
    let error = verify(VerifyOptions::default().calibration(bench.path("cal"))).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Usage && error.to_string().contains("checkpoint to compare"),
        "{error}"
    );
    let against = || VerifyOptions::default().against(bench.path("w"));
    let error = verify(against().calibration(bench.path("x"))).unwrap_err();
    assert!(error.to_string().contains("no calibration for any layer"), "{error}");
    for (values, part) in
        [(&[1.0; 7][..], "F32 [7]"), (&[f32::NAN; COLS], "mean square NaN of input feature 0")]
    {
        bench.write("cal", &[Dense::new("a.w", Dtype::F32, &[values.len()], values)]);
        let error = verify(against().calibration(bench.path("cal"))).unwrap_err();
        assert!(error.to_string().contains(part) && error.kind() == ErrorKind::Input, "{error}");
    }
}
