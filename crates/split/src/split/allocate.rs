//! A size is shared out: the kind of base and the density of each tensor.
//!
//! A sample of each tensor gives the error that every kind leaves at every density. The sum of the relative errors,
//! each weighted by the tensor's number of weights, is minimised under the size with a Lagrange multiplier (Shoham and
//! Gersho 1988). In language models, perplexity rises about in proportion to such a sum (Malinovskii et al. 2024).

use rayon::prelude::*;
use residua_format::BaseKind;
use residua_memory::Budget;

use super::inputs::{Job, Keep};
use super::levels;
use crate::{Importance, Progress, SplitError, SplitOptions};

const KINDS: [BaseKind; 11] = [
    BaseKind::Lut2,
    BaseKind::Lut3,
    BaseKind::Lut3G32,
    BaseKind::Lut3G16,
    BaseKind::Lut4,
    BaseKind::Lut4G32,
    BaseKind::Lut4G16,
    BaseKind::Lut5,
    BaseKind::Lut5G32,
    BaseKind::Lut5G16,
    BaseKind::Lut6,
];
const DENSITIES: [f64; 9] = [0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12];
/// The density when all that is left of the size goes into it.
const MOST: f64 = 0.3;

/// What one tensor may become.
#[derive(Debug, Clone, Copy)]
struct Point {
    kind: BaseKind,
    density: f64,
    bytes: f64,
    /// The relative squared error times the number of weights.
    cost: f64,
}

/// Sets kind and density of each job, so that all of them together take about `size` bytes, rather fewer than more.
///
/// # Errors
/// When the smallest kinds need more; the error states how much.
pub(super) fn allocate(
    jobs: &mut [Job<'_>],
    size: f64,
    options: &SplitOptions,
    budget: &Budget,
    progress: &dyn Progress,
) -> Result<(), SplitError> {
    if jobs.is_empty() {
        return Ok(());
    }
    let widest = jobs.iter().map(|job| (job.rows.row_bytes() + 12 * job.rows.cols) as u64).max().unwrap_or(0);
    let samples = rayon::current_num_threads() as u64 * (levels::CURVE_BYTES + widest);
    let points = (jobs.len() * KINDS.len() * DENSITIES.len() * size_of::<Point>()) as u64;
    let _held = budget.reserve(samples + points, "errors of every kind of base")?;
    let fixed = |job: &Job<'_>| options.fixes_base(&job.rows.info.name);
    let curves = (jobs.par_iter())
        .map(|job| {
            crate::progress::check_stop(progress)?;
            curve(job, fixed(job).then_some(job.kind).flatten(), options)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let weights = super::weights(jobs);

    // At the highest price of a byte, all tensors are as small as can be.
    let (mut low, mut high) = (1e-12, 1e12);
    let total = |price: f64| curves.iter().map(|curve| best(curve, price).bytes).sum::<f64>();
    let least = total(high);
    if size < 0.0 {
        let problem = "the tensors that pass through and the header take more than this size".to_owned();
        return Err(SplitError::Usage(problem));
    }
    if least > size {
        let [asked, least] = [size, least].map(|bytes| 8.0 * bytes / weights);
        let problem = format!("{asked:.3} bits per weight are too few: the tensors need at least {least:.3}");
        return Err(SplitError::Usage(problem));
    }
    for _ in 0..100 {
        let middle = f64::sqrt(low * high);
        if total(middle) <= size { high = middle } else { low = middle }
    }
    // What is left goes into the residuals.
    let points: Vec<Point> = curves.iter().map(|curve| best(curve, high)).collect();
    let open = |point: &Point| point.kind.is_codebook();
    let takers = jobs.iter().zip(&points).filter(|(_, point)| open(point));
    let elements: f64 = takers.map(|(job, _)| job.rows.info.elements() as f64).sum();
    let more = (size - total(high)).max(0.0) / (elements * entry_bytes(options)).max(1.0);
    for (job, point) in jobs.iter_mut().zip(points) {
        job.kind = Some(point.kind);
        let density = if open(&point) { (point.density + more).min(MOST) } else { 0.0 };
        // Four digits are enough, and easy to read.
        job.keep = Keep::Share((density * 1e4).floor() / 1e4);
    }
    Ok(())
}

/// The point with the smallest sum of cost and price; the first of equals.
fn best(curve: &[Point], price: f64) -> Point {
    let sum = |point: Point| point.cost + price * point.bytes;
    curve.iter().fold(curve[0], |best, &point| if sum(point) < sum(best) { point } else { best })
}

/// Bytes of an entry: its place, its value, and a share of the fillers.
fn entry_bytes(options: &SplitOptions) -> f64 {
    1.02 * (1.0 + options.values.bytes() as f64)
}

/// What a tensor may become; `kind` if its kind is fixed.
fn curve(job: &Job<'_>, kind: Option<BaseKind>, options: &SplitOptions) -> Result<Vec<Point>, SplitError> {
    let (rows, cols) = (job.rows.rows, job.rows.cols);
    let kinds = KINDS.iter().copied().filter(|&other| kind.is_none_or(|kind| kind == other));
    let kinds: Vec<BaseKind> = kinds.collect();
    if let (Some(kind), []) = (kind, &*kinds) {
        // Not a codebook: it takes what it takes, and no residual.
        let bytes = (rows * (kind.row_bytes(cols) + 4 * kind.groups(cols) + 6)) as f64;
        return Ok(vec![Point { kind, density: 0.0, bytes, cost: 0.0 }]);
    }
    let factors = match (&options.importance, job.calibration) {
        (Importance::Calibration(_), Some(calibration)) => {
            calibration.mean_squares()?.iter().map(|h| h.sqrt()).collect()
        }
        _ => vec![1.0; cols],
    };
    let errors = levels::errors(&job.rows, &kinds, &DENSITIES, (&factors, job.calibration.is_none()))?;
    let elements = (rows * cols) as f64;
    let points = kinds.iter().flat_map(|&kind| DENSITIES.map(|density| (kind, density))).zip(errors);
    // An outlier raises a row's scale, of which multipliers are shares. The sample may have none, so the residual takes some.
    let points = points.filter(|((kind, density), _)| *density > 0.0 || kind.block().is_none());
    Ok(points
        .map(|((kind, density), error)| {
            // Columns at random: a gap has so many steps of 255.
            let none = (1.0 - density).powi(255);
            let fillers = if density > 0.0 { none / (1.0 - none) } else { 0.0 };
            let entries = elements * density * (1.0 + fillers);
            // Codes, and pointer and scales of a row.
            let base = (rows * (kind.row_bytes(cols) + 8)) as f64;
            let bytes = base + entries * entry_bytes(options);
            Point { kind, density, bytes, cost: elements * error }
        })
        .collect())
}
