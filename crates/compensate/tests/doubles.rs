//! Features in double precision: statistics and classifiers keep it, and methods refuse what f32 cannot hold.
#![allow(clippy::unwrap_used)]

mod common;

use common::{normal, npy};
use residua_compensate::source::NpySource;
use residua_compensate::*;
use residua_memory::Budget;

const DIM: usize = 3;
const MEAN: f64 = 1e6;

/// `n` samples around `mean`, a hundredth apart, and the same ones around 0.
fn samples(n: usize, mean: f64, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let centred: Vec<f64> = normal(n * DIM, seed).into_iter().map(|v| 0.01 * f64::from(v)).collect();
    (centred.iter().map(|v| mean + v).collect(), centred)
}

fn write(path: &std::path::Path, values: &[f64]) {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    npy(path, "<f8", &format!("({}, {DIM})", values.len() / DIM), &bytes);
}

/// Mean and covariance the plain way, of values around 0.
fn moments(values: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = (values.len() / DIM) as f64;
    let mean: Vec<f64> = (0..DIM).map(|i| values.iter().skip(i).step_by(DIM).sum::<f64>() / n).collect();
    let covariance = (0..DIM * DIM).map(|at| {
        let (i, j) = (at / DIM, at % DIM);
        values.chunks(DIM).map(|row| (row[i] - mean[i]) * (row[j] - mean[j])).sum::<f64>() / (n - 1.0)
    });
    (mean.clone(), covariance.collect())
}

/// Few samples stay samples; many are folded into a scatter.
#[test]
fn statistics_keep_doubles() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for count in [2, 3, 700] {
        let (far, near) = samples(count, MEAN, 1);
        write(&path("x.npy"), &far);
        npy(&path("y.npy"), "<u4", &format!("({count},)"), &vec![0; 4 * count]);
        let mut source = NpySource::labelled(path("x.npy"), path("y.npy")).unwrap();
        let options = StatisticsOptions::default().with_precision(Precision::F64);
        let budget = Budget::new(64 << 20);
        let found = ClassStatistics::collect(&mut source, &options, &budget).unwrap();
        let class = found.get(0).unwrap();
        let (mean, covariance) = moments(&near);
        let dense = class.covariance().to_dense();
        for i in 0..DIM {
            assert!((class.mean()[i] - MEAN - mean[i]).abs() < 1e-9);
            for j in 0..DIM {
                assert!((dense[(i, j)] - covariance[i * DIM + j]).abs() < 1e-10, "{count}: {dense}");
            }
        }
    }
}

/// Classes that f32 cannot tell apart.
#[test]
fn classifiers_keep_doubles() {
    let budget = Budget::new(64 << 20);
    let mut builder = StatisticsBuilder::new(DIM, &budget);
    for (label, shift) in [(0, 0.0), (1, 0.06)] {
        let (far, _) = samples(50, MEAN + shift, label.into());
        // In single precision first: the class becomes double on the way.
        builder.add(&[MEAN as f32; DIM], &[label]).unwrap();
        builder.add_floats(Floats::F64(&far), &[label; 50]).unwrap();
    }
    let statistics = builder.finish(Storage::Smallest, Precision::F64).unwrap();
    let test: Vec<f64> = [0.0, 0.06].iter().flat_map(|shift| [MEAN + shift; DIM]).collect();
    let classifiers: [Box<dyn Classifier>; 3] = [
        Box::new(Lda::new(&statistics, Default::default(), &budget).unwrap()),
        Box::new(Qda::new(&statistics, Default::default(), &budget).unwrap()),
        Box::new(
            Ncm::new(
                &statistics,
                classify::NcmOptions::default().with_metric(classify::Metric::Euclidean),
                &budget,
            )
            .unwrap(),
        ),
    ];
    for classifier in classifiers {
        assert_eq!(classifier.predict_floats(Floats::F64(&test), &budget).unwrap(), [0, 1]);
    }
}

#[test]
fn methods_refuse_what_f32_cannot_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let budget = Budget::new(256 << 20);
    let fit = |before: &[f64], after: &[f64]| {
        write(&path("before.npy"), before);
        write(&path("after.npy"), after);
        let mut pairs = NpySource::pairs(path("before.npy"), path("after.npy")).unwrap();
        for variant in Variant::ALL {
            for mode in [Mode::Exact, Mode::Compat] {
                // A few steps suffice for an error.
                let method: Option<Box<dyn Method>> = match (variant, mode) {
                    (Variant::WeakNonlinear, Mode::Compat) => {
                        Some(Box::new(WeakNonlinear::new(mode).with_steps(1)))
                    }
                    _ => variant.method_in(mode),
                };
                let Some(method) = method else { continue };
                method.fit(&mut pairs, &budget).map_err(|error| error.to_string())?;
            }
        }
        Ok::<_, String>(())
    };
    let (far, near) = samples(300, MEAN, 3);
    let error = fit(&near, &far).unwrap_err();
    assert!(error.contains("before.npy: features after the task: column 0: its values near 1"), "{error}");
    assert!(error.contains("subtract"), "{error}");
    fit(&near, &near).unwrap();
    // Widened f32 loses nothing; a constant stays one.
    let single: Vec<f64> = far.iter().map(|&v| f64::from(v as f32)).collect();
    fit(&single, &single).unwrap();
    let constant: Vec<f64> = near.chunks(DIM).flat_map(|row| [row[0], 0.1, row[2]]).collect();
    fit(&constant, &constant).unwrap();
    let large: Vec<f64> = near.iter().enumerate().map(|(at, &v)| if at == 7 { 1e300 } else { v }).collect();
    let error = fit(&large, &near).unwrap_err();
    assert!(
        error.contains("features before the task: row 2, column 1: 1e300 is too large for f32"),
        "{error}"
    );
}

#[test]
fn integers_are_exact_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let budget = Budget::new(64 << 20);
    let collect = |values: [i64; 2]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        npy(&path("x.npy"), "<i8", "(2, 1)", &bytes);
        npy(&path("y.npy"), "<u4", "(2,)", &[0; 8]);
        let mut source = NpySource::labelled(path("x.npy"), path("y.npy")).unwrap();
        let options = StatisticsOptions::default().with_precision(Precision::F64);
        ClassStatistics::collect(&mut source, &options, &budget)
    };
    let edge = 1i64 << 53;
    let found = collect([edge, edge - 4]).unwrap();
    let class = found.get(0).unwrap();
    assert_eq!((class.mean()[0], class.covariance().to_dense()[(0, 0)]), ((edge - 2) as f64, 8.0));
    let error = collect([0, edge + 1]).unwrap_err().to_string();
    assert!(error.contains("x.npy") && error.contains("element 1: 9007199254740993 is too large"), "{error}");
}

#[test]
fn underflow_is_told_as_overflow_is() {
    let budget = Budget::new(64 << 20);
    let collect = |scale: f64, offset: f64, precision| {
        let (_, values) = samples(10, 0.0, 5);
        let values: Vec<f64> = values.iter().map(|v| scale * v + offset).collect();
        let mut builder = StatisticsBuilder::new(DIM, &budget);
        builder.add_floats(Floats::F64(&values), &[4; 10]).unwrap();
        builder
            .finish(Storage::Packed, precision)
            .map(|statistics| statistics.get(4).unwrap().covariance().trace())
    };
    for (scale, words) in [(1e-21, "variance 0 is"), (1e25, "is inf")] {
        let error = collect(scale, 0.0, Precision::F32).unwrap_err().to_string();
        assert!(
            error.contains("class 4") && error.contains(words) && error.contains("higher precision"),
            "{error}"
        );
        assert!(collect(scale, 0.0, Precision::F64).unwrap() > 0.0);
    }
    // What rounding leaves of a constant may vanish.
    assert!(collect(0.0, 1e-7, Precision::F32).is_ok());
}
