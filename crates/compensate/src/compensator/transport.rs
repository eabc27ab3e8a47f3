//! Gaussians through a function that is no affine map, by points that represent the Gaussian.

use std::path::Path;

use nalgebra::{DMatrix, DMatrixView, DVector};
use residua_memory::{Budget, Reservation};

use super::lift::draw;
use super::saved::{self, Reader, Writer};
use super::{Compensator, Fitted, Mode};
use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::error::{check, same_dimension};
use crate::source::columns;
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance, most_class_bytes};

/// What compat mode adds to variances before it draws.
const DRAW_RIDGE: f64 = 1e-4;
/// The weight of old moments where the reference blends.
pub(super) const STALE: f64 = 0.1;
/// What a method asks for before it fits, in errors.
pub(super) const MOVING: &str = "moving class statistics";
/// Features that are moved at a time.
const CHUNK: usize = 1024;
/// Directions whose variance is below this share of the largest get no points.
const NEGLIGIBLE: f64 = 1e-13;

/// Where features go.
pub(super) trait PointMap: Send + Sync {
    /// The feature dimension d.
    fn dim(&self) -> usize;

    /// Bytes of scratch to move `points` points, beside the points before and after.
    fn scratch(&self, points: usize) -> u64;

    /// What it is, in a file.
    fn kind(&self) -> Fitted;

    /// Writes its numbers.
    ///
    /// # Errors
    /// When the file cannot be written, or one that the map reads cannot be read.
    fn write(&self, file: &mut Writer) -> Result<()>;

    /// Reads what [`write`](Self::write) wrote.
    ///
    /// # Errors
    /// When it is malformed or the budget has no room.
    fn read(reader: &mut Reader<'_>, budget: &Budget) -> Result<Self>
    where
        Self: Sized;

    /// Features `[d, n]` as they would be after the task.
    ///
    /// # Errors
    /// When a file that the map reads cannot be read.
    fn map(&self, points: DMatrixView<'_, f32>) -> Result<DMatrix<f32>>;
}

/// The points that represent a Gaussian.
pub(super) enum Points {
    /// Draws through the Cholesky factor, as in the reference; `stale` is the weight of old moments.
    Drawn { base: DMatrix<f64>, stale: f64, _held: Reservation },
    /// Symmetric cubature, at least this many points.
    Cubature { least: usize },
}

impl Points {
    /// `base [d, S]`, or else `count` draws.
    pub(super) fn drawn(
        dim: usize,
        count: usize,
        seed: u64,
        base: Option<&DMatrix<f64>>,
        stale: f64,
        budget: &Budget,
    ) -> Result<Self> {
        let count = base.map_or(count, DMatrix::ncols);
        check(count > 1, "points", count as f64, "2 or more")?;
        let held = budget.reserve(base_bytes(dim, count), "base points")?;
        let base = base.map_or_else(|| draw(dim, count, seed), DMatrix::clone);
        same_dimension("the base points", base.nrows(), dim)?;
        Ok(Self::Drawn { base, stale, _held: held })
    }

    /// Cubature of at least `least` points.
    pub(super) fn cubature(least: usize) -> Result<Self> {
        check(least > 1, "points", least as f64, "2 or more")?;
        Ok(Self::Cubature { least })
    }

    fn count(&self) -> Count {
        match self {
            Self::Drawn { base, .. } => Count::Drawn(base.ncols()),
            Self::Cubature { least } => Count::Cubature(*least),
        }
    }
}

/// How many points represent a Gaussian.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// Exactly so many draws.
    Drawn(usize),
    /// At least so many points of cubature.
    Cubature(usize),
}

impl Count {
    /// Of a method in this mode, with this number of points or these base points.
    pub(super) fn of(mode: Mode, points: usize, base: Option<&DMatrix<f64>>) -> Self {
        match mode {
            Mode::Compat => Self::Drawn(base.map_or(points, DMatrix::ncols)),
            Mode::Exact => Self::Cubature(points),
        }
    }

    /// Bytes that a method takes to fit a map, and then to move a class whose covariance is a factor of `rank` columns
    /// (`None`: any other). Fitting takes `fitting` bytes, the map `held`, and [`scratch`](PointMap::scratch) for each
    /// class.
    pub(super) fn bytes(
        self,
        dim: usize,
        rank: Option<usize>,
        fitting: u64,
        held: u64,
        scratch: impl Fn(usize) -> u64,
    ) -> u64 {
        let (points, dense) = self.needs(dim, rank);
        // The class before and after.
        let classes = most_class_bytes(dim).saturating_mul(2);
        let parts = [moving_bytes(dim, points, dense), scratch(points), held, classes];
        let base = match self {
            Self::Drawn(count) => base_bytes(dim, count),
            Self::Cubature(_) => 0,
        };
        base.saturating_add(parts.into_iter().fold(0, u64::saturating_add).max(fitting))
    }

    /// Number of points for a class, and of dense matrices beside them.
    fn needs(self, dim: usize, rank: Option<usize>) -> (usize, u64) {
        match self {
            Self::Drawn(count) => (count, 5),
            Self::Cubature(least) => {
                let points = |rank: usize| 2 * rank * rotations(rank, least);
                // The scatter and its stored form. A full matrix has to be factored, in more room.
                let rank = rank.filter(|rank| (1..=dim).contains(rank));
                rank.map_or((least + 2 * dim, 6), |rank| (points(rank), 2))
            }
        }
    }
}

/// Bytes of base points.
fn base_bytes(dim: usize, count: usize) -> u64 {
    8u64.saturating_mul(dim as u64).saturating_mul(count as u64)
}

/// Bytes to move so many points, beside what the map takes, and of dense matrices.
fn moving_bytes(dim: usize, points: usize, dense: u64) -> u64 {
    dense * Covariance::dense_bytes(dim) + 28 * (dim * points) as u64
}

/// A map of features, with points to take class moments through it.
pub(super) struct Transport<M> {
    pub(super) map: M,
    pub(super) points: Points,
    /// Stretches covariances `[d, d]` by what the map leaves unexplained.
    pub(super) stretch: Option<DMatrix<f32>>,
}

impl<M: PointMap> Transport<M> {
    /// Reads what [`save`](Compensator::save) wrote.
    pub(super) fn read(reader: &mut Reader<'_>, budget: &Budget) -> Result<Self> {
        let dim = reader.dim;
        let points = if reader.has("stale") {
            let stale = reader.vector::<f64>("stale", 1)?[0];
            let (_, count) = reader.shape("base")?;
            check(count > 1, "points", count as f64, "2 or more")?;
            Points::Drawn { base: reader.matrix("base", dim, count)?, stale, _held: reader.take_held()? }
        } else {
            let least = reader.vector::<f64>("least", 1)?[0];
            if !(2.0..=f64::from(1 << 24)).contains(&least) {
                return Err(reader.wrong(format!("at least {least} points for a class")));
            }
            Points::cubature(least as usize)?
        };
        let stretch = reader.has("stretch").then(|| reader.matrix("stretch", dim, dim)).transpose()?;
        Ok(Self { map: M::read(reader, budget)?, points, stretch })
    }
}

impl<M: PointMap> Compensator for Transport<M> {
    fn dim(&self) -> usize {
        self.map.dim()
    }

    fn save(&self, path: &Path) -> Result<u64> {
        saved::save(path, self.map.kind(), self.dim(), |file| {
            match &self.points {
                Points::Drawn { base, stale, .. } => {
                    file.vector("stale", &[*stale])?;
                    file.matrix("base", base)?;
                }
                Points::Cubature { least } => file.vector("least", &[*least as f64])?,
            }
            self.stretch.iter().try_for_each(|stretch| file.matrix("stretch", stretch))?;
            self.map.write(file)
        })
    }

    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics> {
        let dim = self.dim();
        same_dimension("the statistics", statistics.dim(), dim)?;
        let needs = |class: &ClassGaussian| {
            let covariance = class.covariance();
            let rank = covariance.rank().filter(|_| covariance.is_pure_factor());
            let (points, dense) = self.points.count().needs(dim, rank);
            moving_bytes(dim, points, dense) + self.map.scratch(points)
        };
        let scratch = statistics.iter().map(|(_, class)| needs(class)).max().unwrap_or(0);
        // Only what was fitted on pairs knows the space that it leads to.
        let statistics = &statistics.clone().with_tag(statistics.tag().samples_alone());
        statistics.map(scratch, budget, |_, class| {
            let (mean, covariance) = match &self.points {
                Points::Drawn { base, stale, .. } => self.drawn(class, base, *stale)?,
                Points::Cubature { least } => self.cubature(class, *least)?,
            };
            ClassGaussian::new(class.count(), mean, covariance, budget)
        })
    }

    fn apply_features(&self, features: &[f32], budget: &Budget) -> Result<Vec<f32>> {
        let features = columns(features, self.dim())?;
        let chunk = CHUNK.min(features.ncols());
        let size = 4 * (features.len() + self.dim() * chunk) as u64;
        let _held = budget.reserve(size + self.map.scratch(chunk), "moving features")?;
        let mut moved = Vec::with_capacity(features.len());
        for first in (0..features.ncols()).step_by(CHUNK) {
            let count = CHUNK.min(features.ncols() - first);
            moved.extend_from_slice(self.map.map(features.columns(first, count))?.as_slice());
        }
        Ok(moved)
    }
}

impl<M: PointMap> Transport<M> {
    /// Moments over `base` points through the Cholesky factor, blended with the old ones.
    fn drawn(
        &self,
        class: &ClassGaussian,
        base: &DMatrix<f64>,
        stale: f64,
    ) -> Result<(DVector<f64>, Covariance)> {
        let mut covariance = class.covariance().to_dense();
        let mut ridged = covariance.clone();
        (0..class.dim()).for_each(|i| ridged[(i, i)] += DRAW_RIDGE);
        let cholesky = Cholesky::new(&ridged, "a class covariance", "store it at a higher precision")?;
        let mut points = algebra::product(algebra::n(&cholesky.lower()), algebra::n(base));
        points.column_iter_mut().for_each(|mut column| column += class.mean());
        let (mean, centred) = self.moments(&points)?;
        covariance *= stale;
        let freedom = (base.ncols() - 1) as f64;
        algebra::add_gram(&mut covariance, (1.0 - stale) / freedom, algebra::n(&centred));
        let mean = mean * (1.0 - stale) + class.mean() * stale;
        Ok((mean, Covariance::packed(&covariance, class.covariance().precision())?))
    }

    /// Symmetric cubature. For `Σ = F·Fᵀ` with r columns, the 2r points `μ ± √r·F·q_i` have exactly this mean and
    /// covariance for every orthogonal matrix of columns `q_i`. Takes as many such sets as make `least` points, each at
    /// another distance: together they are distributed like a Gaussian's distances.
    fn cubature(&self, class: &ClassGaussian, least: usize) -> Result<(DVector<f64>, Covariance)> {
        let factor = factor(class.covariance())?;
        let (dim, rank) = factor.shape();
        let rotations = rotations(rank, least);
        let mut points = DMatrix::zeros(dim, 2 * rank * rotations);
        for (rotation, radius) in radii(rank, rotations).into_iter().enumerate() {
            let rotated = algebra::product(algebra::n(&factor), algebra::n(&orthogonal(rank, rotation)));
            for (i, direction) in rotated.column_iter().enumerate() {
                let (at, step) = (2 * (rotation * rank + i), direction * radius);
                points.set_column(at, &(class.mean() + &step));
                points.set_column(at + 1, &(class.mean() - step));
            }
        }
        let (mean, mut centred) = self.moments(&points)?;
        centred /= (points.ncols() as f64).sqrt();
        if let Some(stretch) = &self.stretch {
            let single = centred.map(|v| v as f32);
            centred = algebra::product(algebra::n(stretch), algebra::n(&single)).map(f64::from);
        }
        let precision = class.covariance().precision();
        if 2 * centred.ncols() <= dim {
            return Ok((mean, Covariance::factor(centred, precision)));
        }
        let mut sum = DMatrix::zeros(dim, dim);
        algebra::add_gram(&mut sum, 1.0, algebra::n(&centred));
        Ok((mean, Covariance::packed(&sum, precision)?))
    }

    /// The mean of moved points, and moved points minus it.
    fn moments(&self, points: &DMatrix<f64>) -> Result<(DVector<f64>, DMatrix<f64>)> {
        let mut moved = self.map.map(points.map(|v| v as f32).as_view())?.map(f64::from);
        let mean = moved.column_mean();
        moved.column_iter_mut().for_each(|mut column| column -= &mean);
        Ok((mean, moved))
    }
}

/// `F` with `F·Fᵀ = Σ`, without negligible columns; at least one column.
pub(crate) fn factor(covariance: &Covariance) -> Result<DMatrix<f64>> {
    let dim = covariance.dim();
    if let Some(factor) = covariance.pure_factor().filter(|f| (1..=dim).contains(&f.ncols())) {
        return Ok(factor);
    }
    let dense = covariance.to_dense();
    // A Cholesky factor serves as well and is many times faster to find; a singular matrix has none.
    if let Ok(cholesky) = Cholesky::new(&dense, "a class covariance", "") {
        return Ok(cholesky.lower());
    }
    let (values, vectors) = algebra::eigen(&dense, "a class covariance")?;
    let first = (0..dim).position(|i| values[i] > NEGLIGIBLE * values[dim - 1]).unwrap_or(dim - 1);
    Ok(DMatrix::from_fn(dim, dim - first, |r, c| vectors[(r, first + c)] * values[first + c].max(0.0).sqrt()))
}

/// Number of sets of 2·rank points that make `least` points.
fn rotations(rank: usize, least: usize) -> usize {
    least.div_ceil(2 * rank.max(1)).max(1)
}

/// Distances of standard normal points in `rank` dimensions from their mean, at `count` even quantiles. The mean of
/// their squares is exactly `rank`.
fn radii(rank: usize, count: usize) -> Vec<f64> {
    let spread = 2.0 / (9.0 * rank as f64);
    let square = |i: usize| {
        let p = (i as f64 + 0.5) / count as f64;
        // Tukey's approximation of the normal quantile, and Wilson and Hilferty's of the χ² one.
        let z = 4.91 * (p.powf(0.14) - (1.0 - p).powf(0.14));
        (1.0 - spread + z * spread.sqrt()).max(0.0).powi(3)
    };
    let squares: Vec<f64> = (0..count).map(square).collect();
    let scale = rank as f64 * count as f64 / squares.iter().sum::<f64>();
    squares.into_iter().map(|square| (square * scale).sqrt()).collect()
}

/// An orthogonal matrix, another one for each number. In few dimensions it is random and evenly distributed. In many it
/// is a cosine transform, random signs, and the transform back: faster to find. Its entries are sums of n terms of
/// random sign and nearly normal, like those of a random matrix: points vary along every direction like a Gaussian's.
/// A single transform does not suffice: cosines are never far out (their kurtosis is 1.5 instead of 3).
fn orthogonal(n: usize, which: usize) -> DMatrix<f64> {
    if n <= 64 {
        return draw(n, n, which as u64).qr().q();
    }
    let signs = draw(n, 2, which as u64).map(f64::signum);
    let size = n as f64;
    let cosines = DMatrix::from_fn(n, n, |row, col| {
        let scale = if col == 0 { 1.0 } else { 2.0 };
        let angle = std::f64::consts::PI * (row as f64 + 0.5) * col as f64 / size;
        (scale / size).sqrt() * angle.cos()
    });
    let signed = DMatrix::from_fn(n, n, |row, col| signs[(row, 0)] * cosines[(row, col)] * signs[(col, 1)]);
    algebra::product(algebra::n(&signed), algebra::t(&cosines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_as_far_out_as_normal_ones() {
        for (n, which) in [(3, 0), (64, 1), (65, 0), (200, 1)] {
            let q = orthogonal(n, which);
            assert!((q.transpose() * &q - DMatrix::identity(n, n)).amax() < 1e-12);
            assert_ne!(q, orthogonal(n, which + 1));
            assert_ne!(q, q.transpose());
            // An entry of a random orthogonal matrix times √n has the kurtosis 3n / (n + 2).
            let kurtosis = q.map(|v| (n as f64 * v * v).powi(2)).mean();
            assert!(n < 64 || (kurtosis - 3.0).abs() < 0.25, "{n}: {kurtosis}");
        }
    }
}
