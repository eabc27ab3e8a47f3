//! The fixed workloads of the compensators, measured: wall time, CPU seconds and peak memory as one line of JSON.
//!
//! ```sh
//! cargo run --release -p residua-compensate --example workload -- make L /tmp/workload   # features to files
//! cargo run --release -p residua-compensate --example workload -- run linear L /tmp/workload --budget 512MiB --threads 2
//! cargo run --release -p residua-compensate --example workload -- error M /tmp/workload --classes 3 --samples 120
//! ```
//!
//! Methods: `linear`, `attention`, `rff`, `weak-nonlinear` (add `-compat` for the reference's definition);
//! `linear-fixed` with a fixed ridge instead of a chosen one; `linear-plain` without a stretch of covariances, as in the
//! reference; and `rgda`, which builds the quadratic classifier and scores 1,000 features.
//! `xtask/peers/compensate_torch.py` does the same on the same files. `error` measures how far the moments of exact
//! attention, and of 2,000 plain draws, are from those of 131,072 points, for classes of that many samples.

mod accuracy;
mod generator;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use generator::{CLUSTERS, DIM, Generator};
use nalgebra::{DMatrix, DMatrixView};
use residua_compensate::classify::{Pooling, Qda, QdaOptions};
use residua_compensate::source::{SafetensorsSource, TensorNames};
use residua_compensate::*;
use residua_format::file::{Checkpoint, Dtype, SafetensorsWriter};
use residua_memory::{Budget, ByteSize, process};

type Outcome<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// A workload: samples, classes, samples a class, draws of the reference.
struct Size {
    samples: usize,
    classes: usize,
    each: usize,
    draws: usize,
}

fn size(name: &str) -> Outcome<Size> {
    let size = |samples, classes, each, draws| Ok(Size { samples, classes, each, draws });
    match name {
        "S" => size(2_048, 20, 50, 800),
        "M" => size(10_000, 100, 120, 2_000),
        "L" => size(50_000, 200, 120, 2_000),
        "rank-deficient" => size(10_000, 200, 30, 2_000),
        _ => Err(format!("no workload {name}; there are S, M, L and rank-deficient").into()),
    }
}

/// Writes `{name}.safetensors`: `before`, `after` of the task, and the old classes' `old` with `labels`.
fn make(name: &str, folder: &Path) -> Outcome {
    let size = size(name)?;
    std::fs::create_dir_all(folder)?;
    let mut generator = Generator::new();
    let mut after = tempfile::tempfile()?;
    let mut file = SafetensorsWriter::create(folder.join(format!("{name}.safetensors")), 1024)?;
    file.begin("before", Dtype::F32, &[size.samples, DIM])?;
    for first in (0..size.samples).step_by(1000) {
        let (x, y) = generator.samples(1000.min(size.samples - first), |i| first + i);
        file.write(bytemuck::cast_slice(x.as_slice()))?;
        after.write_all(bytemuck::cast_slice(y.as_slice()))?;
    }
    file.end()?;
    file.begin("after", Dtype::F32, &[size.samples, DIM])?;
    let mut buffer = vec![0; 4000 * DIM];
    std::io::Seek::rewind(&mut after)?;
    loop {
        let count = std::io::Read::read(&mut after, &mut buffer)?;
        if count == 0 {
            break;
        }
        file.write(&buffer[..count])?;
    }
    file.end()?;
    file.begin("old", Dtype::F32, &[size.classes * size.each, DIM])?;
    for class in 0..size.classes {
        let (x, _) = generator.samples(size.each, |_| class);
        file.write(bytemuck::cast_slice(x.as_slice()))?;
    }
    file.end()?;
    let labels: Vec<u32> = (0..size.classes * size.each).map(|i| (i / size.each) as u32).collect();
    file.tensor("labels", Dtype::U32, &[labels.len()], bytemuck::cast_slice(&labels))?;
    file.finish()?;
    Ok(())
}

fn method(name: &str, draws: usize) -> Outcome<Box<dyn Method>> {
    let mode = if name.ends_with("-compat") { Mode::Compat } else { Mode::Exact };
    let points = |exact: usize| if mode == Mode::Compat { draws } else { exact };
    Ok(match name.trim_end_matches("-compat") {
        "linear" => Box::new(Linear::new(mode)),
        "linear-fixed" => Box::new(Linear::new(mode).with_ridge(1e-4)),
        "linear-plain" => Box::new(Linear::new(mode).with_noise(0.0)),
        "attention" => {
            let default = Attention::new(mode);
            let points = points(default.points);
            Box::new(default.with_temperature(0.05).with_nearest(400).with_points(points))
        }
        "rff" => {
            let default = Rff::new(mode);
            let points = points(default.points);
            Box::new(default.with_points(points))
        }
        "weak-nonlinear" => Box::new(WeakNonlinear::new(mode)),
        _ => return Err(format!("no method {name}").into()),
    })
}

/// User and system seconds of this process so far.
fn cpu_seconds() -> f64 {
    // Fields 14 and 15, in hundredths; the second field may hold spaces, in parentheses.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or(f64::NAN);
    (ticks(11) + ticks(12)) / 100.0
}

fn run(name: &str, workload: &str, folder: &Path, limit: ByteSize, precision: Precision) -> Outcome {
    let size = size(workload)?;
    let budget = Budget::for_process(limit.0, 24 << 20)?;
    let file = std::sync::Arc::new(Checkpoint::open(folder.join(format!("{workload}.safetensors")))?);
    let mut old = SafetensorsSource::new(&file, &TensorNames::features("old").with_labels("labels"))?;
    let options = StatisticsOptions::default().with_precision(precision);
    let stale = ClassStatistics::collect(&mut old, &options, &budget)?;
    let loaded = process::current_rss().unwrap_or(0);
    process::reset_peak_rss();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let took = || (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let fit;
    let options = match name {
        "rgda" => Some(QdaOptions::reference()),
        "qda-pooled" | "qda-pooled-64" => Some(QdaOptions::pooled(Pooling::of(&stale))),
        _ => None,
    };
    let check = if let Some(options) = options {
        let whole = Qda::new(&stale, options, &budget)?;
        let classifier: Box<dyn Classifier> =
            if name.ends_with("64") { Box::new(whole.low_rank(64, &budget)?) } else { Box::new(whole) };
        fit = took();
        let mut block = FeatureBlock::new(DIM);
        let mut source = SafetensorsSource::new(&file, &TensorNames::features("before"))?;
        source.read(1000, &mut block)?;
        classifier.predict(block.before(), &budget)?.iter().map(|&label| f64::from(label)).sum::<f64>()
    } else {
        let mut source = SafetensorsSource::new(&file, &TensorNames::features("before").with_after("after"))?;
        let fitted = method(name, size.draws)?.fit(&mut source, &budget)?;
        fit = took();
        let moved = fitted.apply(&stale, &budget)?;
        moved.iter().map(|(_, class)| class.mean().norm()).sum::<f64>()
    };
    let all = took();
    let peak = process::peak_rss().unwrap_or(0);
    let report = serde_json::json!({
        "program": "residua", "method": name, "workload": workload, "threads": rayon::current_num_threads(),
        "budget_bytes": limit.0, "seconds": all.0, "fit_seconds": fit.0, "cpu_seconds": all.1, "fit_cpu_seconds": fit.1,
        "peak_bytes": peak, "peak_above_inputs": peak.saturating_sub(loaded), "check": check,
    });
    println!("{report}");
    Ok(())
}

/// Prints a line of JSON for each of the first classes. One of more samples than a class has gets those of other
/// classes of its cluster.
fn error(workload: &str, folder: &Path, classes: usize, samples: usize) -> Outcome {
    let each = size(workload)?.each;
    let budget = Budget::unlimited();
    let file = std::sync::Arc::new(Checkpoint::open(folder.join(format!("{workload}.safetensors")))?);
    let mut pairs = SafetensorsSource::new(&file, &TensorNames::features("before").with_after("after"))?;
    let exact = Attention::default().with_temperature(0.05).with_nearest(400);
    let precise = exact.clone().with_precision(Precision::F32);
    let (exact, precise) = (exact.fit(&mut pairs, &budget)?, precise.fit(&mut pairs, &budget)?);
    let mut old = SafetensorsSource::new(&file, &TensorNames::features("old"))?;
    let mut block = FeatureBlock::new(DIM);
    while old.read(4096, &mut block)? > 0 {}
    let all = DMatrixView::from_slice(block.before(), DIM, block.rows());
    for class in 0..classes {
        let row = |i: usize| (class + CLUSTERS * (i / each)) * each + i % each;
        if row(samples.max(1) - 1) >= all.ncols() {
            return Err(format!("workload {workload} has fewer than {samples} samples of a cluster").into());
        }
        let rows = DMatrix::from_fn(DIM, samples, |axis, i| f64::from(all[(axis, row(i))]));
        let found = accuracy::of_class(&*exact, &*precise, &rows, 65_536, 2_000, &budget)?;
        println!("{}", serde_json::json!({ "class": class, "samples": samples, "errors": found }));
    }
    Ok(())
}

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let positional: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Some(threads) = option("--threads") {
        rayon::ThreadPoolBuilder::new().num_threads(threads.parse()?).build_global()?;
    }
    let limit = option("--budget").map_or(Ok(ByteSize(512 << 20)), |text| text.parse())?;
    let precision = match option("--precision").map(String::as_str) {
        None | Some("f32") => Precision::F32,
        Some("bf16") => Precision::Bf16,
        Some(other) => return Err(format!("no precision {other}").into()),
    };
    match positional[..] {
        ["make", workload, folder, ..] => make(workload, Path::new(folder)),
        ["run", name, workload, folder, ..] => run(name, workload, &PathBuf::from(folder), limit, precision),
        ["error", workload, folder, ..] => {
            let number = |name: &str, default| option(name).map_or(Ok(default), |text| text.parse());
            error(workload, Path::new(folder), number("--classes", 3)?, number("--samples", 120)?)
        }
        _ => Err("usage: workload make SIZE FOLDER | run METHOD SIZE FOLDER [--budget B] [--threads N] [--precision f32|bf16] | error SIZE FOLDER [--classes N] [--samples N] [--threads N]".into()),
    }
}
