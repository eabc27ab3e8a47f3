//! The evaluation protocol on real feature drift, `common::real`.
//!
//! The expected rows were measured with NumPy on the same file. Its linear algebra rounds differently: a sample or two of
//! 1,200 may move.
#![allow(clippy::unwrap_used)]

mod common;

use common::real::{Accuracy, Drift};
use residua_compensate::*;

fn assert_row(name: &str, found: [Accuracy; 4], expected: [Accuracy; 4]) {
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= 0.21, "{name}: {found:.2}, expected {expected}");
    }
}

/// Ridge regression of raw rows without centring, the published baseline that compat mode is not.
fn ridge_on_raw_rows(drift: &Drift) -> ClassStatistics {
    use nalgebra::{DMatrix, DVector};
    use residua_compensate::compensator::AffineMap;
    let pairs = drift.samples("cur_before", Some("cur_after"), "y_cur");
    let columns = |rows: &[f32]| DMatrix::from_column_slice(384, rows.len() / 384, rows).map(f64::from);
    let (x, y) = (columns(&pairs.before), columns(&pairs.after));
    let gram = &x * x.transpose() + DMatrix::identity(384, 384) * 0.1;
    let matrix = gram.cholesky().unwrap().solve(&(x * y.transpose())).transpose();
    let map = AffineMap::new(matrix, DVector::zeros(384), &drift.budget).unwrap();
    map.apply(&drift.stale(), &drift.budget).unwrap()
}

#[test]
fn published_rows_on_the_full_fine_tune() {
    let drift = Drift::open("full");
    let stale = drift.row("stale", &drift.stale());
    assert_row(
        "stale",
        stale,
        [[68.3, 57.5, 79.2], [60.8, 36.8, 84.8], [63.6, 43.2, 83.9], [68.4, 52.3, 84.5]],
    );
    let truth = drift.row("true", &drift.truth());
    assert_row(
        "true",
        truth,
        [[71.5, 67.9, 75.1], [74.3, 72.2, 76.5], [74.5, 71.6, 77.3], [75.7, 73.0, 78.4]],
    );
    let reference = drift.row("linear (compat)", &drift.moved(&Linear::new(Mode::Compat)));
    assert_row(
        "compat",
        reference,
        [[71.1, 67.5, 74.8], [73.4, 71.8, 74.9], [73.9, 71.9, 75.9], [73.3, 63.9, 82.7]],
    );
    let ridge = drift.row("ridge on raw rows", &ridge_on_raw_rows(&drift));
    assert_row(
        "ridge",
        ridge,
        [[71.2, 68.2, 74.2], [73.8, 72.2, 75.5], [73.8, 72.0, 75.6], [74.6, 68.6, 80.6]],
    );
}

#[test]
fn exact_methods_are_as_good_as_promised() {
    let drift = Drift::open("full");
    let linear = drift.row("linear", &drift.moved(&Linear::default()));
    let rff = drift.row("rff", &drift.moved(&Rff::default()));
    let weak = drift.row("weak-nonlinear", &drift.moved(&WeakNonlinear::default()));
    // All classes: LDA with the shared covariance, and QDA. A sample or two for rounding.
    for (name, row) in [("linear", linear), ("rff", rff), ("weak", weak)] {
        assert!(row[1][0] >= 73.8 - 0.1 && row[3][0] >= 74.6 - 0.1, "{name}: {row:?}");
    }
    let drift = Drift::open("lora");
    let truth = drift.row("true", &drift.truth());
    let rff = drift.row("rff", &drift.moved(&Rff::default()));
    // Within half a point of the truth.
    assert!(rff[1][0] >= truth[1][0] - 0.5 && rff[3][0] >= truth[3][0] - 0.5, "{rff:?}");
}
