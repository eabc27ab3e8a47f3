//! Maps `x ↦ M·x + b` of features, and what they do to Gaussians.

use std::path::Path;

use nalgebra::{DMatrix, DVector};
use residua_memory::{Budget, Reservation};

use super::saved::{self, Reader};
use super::{Compensator, Fitted};
use crate::error::same_dimension;
use crate::source::columns;
use crate::statistics::{ClassGaussian, ClassStatistics, Covariance};
use crate::{Result, algebra};

/// `x ↦ M·x + b`, with `M [d, d]` and `b [d]`. A Gaussian's image is the Gaussian of mean `M·μ + b` and
/// covariance `M·Σ·Mᵀ`, exactly; a covariance stored as a factor stays one.
#[derive(Debug)]
pub struct AffineMap {
    matrix: DMatrix<f64>,
    shift: DVector<f64>,
    /// Added to every variance.
    floor: f64,
    /// Added to every covariance: the floors of earlier maps in a composition, moved by the later maps.
    added: Option<DMatrix<f64>>,
    /// Maps covariances, instead of M.
    spread: Option<DMatrix<f64>>,
    held: Reservation,
}

impl AffineMap {
    /// Bytes of a map without a spread.
    pub(super) fn bytes(dim: usize) -> u64 {
        Covariance::dense_bytes(dim) + 8 * dim as u64
    }

    /// The map of `matrix [d, d]` and `shift [d]`.
    ///
    /// # Errors
    /// When shapes do not fit or the budget has no room.
    pub fn new(matrix: DMatrix<f64>, shift: DVector<f64>, budget: &Budget) -> Result<Self> {
        same_dimension("the map's second axis", matrix.ncols(), matrix.nrows())?;
        same_dimension("the map's shift", shift.len(), matrix.nrows())?;
        let held = budget.reserve(Self::bytes(shift.len()), "an affine map")?;
        Ok(Self { matrix, shift, floor: 0.0, added: None, spread: None, held })
    }

    /// Adds `floor` to every variance after the map.
    pub(crate) fn with_floor(self, floor: f64) -> Self {
        Self { floor, ..self }
    }

    /// Maps covariances by `spread [d, d]` instead of M.
    pub(super) fn with_spread(mut self, spread: DMatrix<f64>) -> Result<Self> {
        self.held.grow(8 * spread.len() as u64, "an affine map")?;
        Ok(Self { spread: Some(spread), ..self })
    }

    /// `M [d, d]`.
    pub fn matrix(&self) -> &DMatrix<f64> {
        &self.matrix
    }

    /// `b [d]`.
    pub fn shift(&self) -> &DVector<f64> {
        &self.shift
    }

    /// This map and then `next`, as one map. It allows to keep one map per task instead of moved statistics: a class goes
    /// through all maps since its task in one step, when it is needed.
    ///
    /// # Errors
    /// When dimensions differ or the budget has no room.
    pub fn then(&self, next: &Self, budget: &Budget) -> Result<Self> {
        same_dimension("the next map", next.dim(), self.dim())?;
        // Matrix, spread and addition; the addition takes two more products.
        let held = budget.reserve(3 * Covariance::dense_bytes(self.dim()), "an affine map")?;
        let _scratch = budget.reserve(3 * Covariance::dense_bytes(self.dim()), "composing affine maps")?;
        let product = |a: &DMatrix<f64>, b: &DMatrix<f64>| algebra::product(algebra::n(a), algebra::n(b));
        let spread =
            (self.spread.is_some() || next.spread.is_some()).then(|| product(next.spread(), self.spread()));
        let mut added = next.added.clone();
        if self.adds() {
            let mut sum = self.added.clone().unwrap_or_else(|| DMatrix::zeros(self.dim(), self.dim()));
            (0..self.dim()).for_each(|i| sum[(i, i)] += self.floor);
            let moved = product(next.spread(), &sum);
            let moved = algebra::product(algebra::n(&moved), algebra::t(next.spread()));
            added = Some(match added {
                Some(added) => added + moved,
                None => moved,
            });
        }
        Ok(Self {
            matrix: product(&next.matrix, &self.matrix),
            shift: &next.matrix * &self.shift + &next.shift,
            floor: next.floor,
            added,
            spread,
            held,
        })
    }

    /// Whether the map adds something to covariances.
    fn adds(&self) -> bool {
        self.floor > 0.0 || self.added.is_some()
    }

    /// The matrix `[d, d]` that maps covariances.
    fn spread(&self) -> &DMatrix<f64> {
        self.spread.as_ref().unwrap_or(&self.matrix)
    }

    /// `single` is [`spread`](Self::spread) as f32.
    fn map_covariance(&self, covariance: &Covariance, single: &DMatrix<f32>) -> Result<Covariance> {
        let precision = covariance.precision();
        let matrix = self.spread();
        if self.added.is_none()
            && let Some(mapped) = covariance.map_factor(matrix, single, self.floor)
        {
            return Ok(mapped);
        }
        let mapped = algebra::product(algebra::n(matrix), algebra::n(&covariance.to_dense()));
        let mut mapped = algebra::product(algebra::n(&mapped), algebra::t(matrix));
        for i in 0..mapped.nrows() {
            mapped[(i, i)] += self.floor;
        }
        if let Some(added) = &self.added {
            mapped += added;
        }
        Covariance::packed(&mapped, precision)
    }
}

impl AffineMap {
    /// Reads what [`save`](Compensator::save) wrote.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let dim = reader.dim;
        let floor = reader.vector::<f64>("floor", 1)?[0];
        let matrix = reader.matrix("matrix", dim, dim)?;
        let shift = reader.vector("shift", dim)?;
        let mut optional = |name: &str| reader.has(name).then(|| reader.matrix(name, dim, dim)).transpose();
        let (added, spread) = (optional("added")?, optional("spread")?);
        Ok(Self { matrix, shift, floor, added, spread, held: reader.take_held()? })
    }
}

impl Compensator for AffineMap {
    fn dim(&self) -> usize {
        self.shift.len()
    }

    fn save(&self, path: &Path) -> Result<u64> {
        saved::save(path, Fitted::Affine, self.dim(), |file| {
            file.vector("floor", &[self.floor])?;
            file.matrix("matrix", &self.matrix)?;
            file.vector("shift", self.shift.as_slice())?;
            self.added.iter().try_for_each(|added| file.matrix("added", added))?;
            self.spread.iter().try_for_each(|spread| file.matrix("spread", spread))
        })
    }

    fn apply(&self, statistics: &ClassStatistics, budget: &Budget) -> Result<ClassStatistics> {
        same_dimension("the statistics", statistics.dim(), self.dim())?;
        let _single = budget.reserve(4 * self.matrix.len() as u64, "an affine map")?;
        let single = self.spread().map(|v| v as f32);
        // Only what was fitted on pairs knows the space that it leads to.
        let statistics = &statistics.clone().with_tag(statistics.tag().samples_alone());
        statistics.map(3 * Covariance::dense_bytes(self.dim()), budget, |_, class| {
            let mean = &self.matrix * class.mean() + &self.shift;
            let covariance = self.map_covariance(class.covariance(), &single)?;
            ClassGaussian::new(class.count(), mean, covariance, budget)
        })
    }

    fn apply_features(&self, features: &[f32], budget: &Budget) -> Result<Vec<f32>> {
        let features = columns(features, self.dim())?;
        let _held = budget.reserve(20 * features.len() as u64, "mapping features")?;
        let mut mapped = algebra::product(algebra::n(&self.matrix), algebra::n(&features.map(f64::from)));
        mapped.column_iter_mut().for_each(|mut column| column += &self.shift);
        Ok(mapped.iter().map(|&v| v as f32).collect())
    }
}
