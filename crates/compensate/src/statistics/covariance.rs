//! The ways a covariance is stored.

use std::borrow::Cow;

use half::bf16;
use nalgebra::{DMatrix, DVector};

use super::values::{Precision, Values};
use crate::Result;
use crate::algebra;
use crate::error::same_dimension;

/// A covariance matrix `[d, d]` in one of its storage forms.
///
/// | form | numbers stored | loses |
/// |---|---|---|
/// | packed | d(d+1)/2 | rounding to the precision |
/// | factor | r·d for `Σ = F·Fᵀ`, `F [d, r]`; a class of n samples has r = n | rounding of F |
/// | low-rank + diagonal | r·d + d for `Σ = F·Fᵀ + diag(v)` | off the diagonal, all but the r directions |
/// | isotropic | 1 | nothing: `Σ = v·I`, the covariance of a single sample |
///
/// The last three are one representation with different diagonals. They are positive semi-definite by construction; the
/// packed form is positive semi-definite up to the rounding of its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Covariance {
    pub(crate) dim: usize,
    pub(crate) form: Form,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    /// The lower triangle, column after column.
    Packed(Values),
    /// `F·Fᵀ + diag`: F column-major, its columns one after the other.
    Factor { columns: Values, rank: usize, diagonal: Diagonal },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Diagonal {
    Scalar(f64),
    Vector(DVector<f64>),
}

impl Diagonal {
    pub(crate) fn get(&self, index: usize) -> f64 {
        match self {
            Self::Scalar(value) => *value,
            Self::Vector(values) => values[index],
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Scalar(value) => *value == 0.0,
            Self::Vector(values) => values.iter().all(|&value| value == 0.0),
        }
    }
}

/// How to store a covariance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// The smaller one of factor and packed; loses only rounding.
    #[default]
    Smallest,
    /// The packed lower triangle.
    Packed,
    /// This many directions and a diagonal.
    LowRank(usize),
}

impl Covariance {
    /// `value·I`.
    pub fn isotropic(dim: usize, value: f64) -> Self {
        Self::with_factor(DMatrix::zeros(dim, 0), Diagonal::Scalar(value), Precision::F64)
    }

    /// The packed form of the symmetric matrix in the lower triangle of `matrix`.
    ///
    /// # Errors
    /// When `matrix` is not square.
    pub fn packed(matrix: &DMatrix<f64>, precision: Precision) -> Result<Self> {
        let dim = matrix.nrows();
        same_dimension("a covariance's second axis", matrix.ncols(), dim)?;
        Ok(Self { dim, form: Form::Packed(Values::lower(matrix, precision)) })
    }

    /// `F·Fᵀ` from `F [d, r]`.
    pub fn factor(factor: DMatrix<f64>, precision: Precision) -> Self {
        Self::with_factor(factor, Diagonal::Scalar(0.0), precision)
    }

    pub(crate) fn with_factor(factor: DMatrix<f64>, diagonal: Diagonal, precision: Precision) -> Self {
        let (dim, rank) = factor.shape();
        let columns = match precision {
            Precision::F64 => Values::F64(factor.data.into()),
            _ => Values::round(factor.iter().copied(), precision),
        };
        Self { dim, form: Form::Factor { columns, rank, diagonal } }
    }

    /// The feature dimension d.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Precision of the stored numbers; a moved covariance keeps it.
    pub fn precision(&self) -> Precision {
        match &self.form {
            Form::Packed(values) | Form::Factor { columns: values, .. } => values.precision(),
        }
    }

    /// Columns of the factor; `None` for the packed form.
    pub fn rank(&self) -> Option<usize> {
        match &self.form {
            Form::Packed(_) => None,
            Form::Factor { rank, .. } => Some(*rank),
        }
    }

    /// The name of the storage form: `packed`, `factor`, `low-rank` or `isotropic`.
    pub fn form(&self) -> &'static str {
        match &self.form {
            Form::Packed(_) => "packed",
            Form::Factor { rank: 0, diagonal: Diagonal::Scalar(_), .. } => "isotropic",
            Form::Factor { diagonal, .. } if diagonal.is_zero() => "factor",
            Form::Factor { .. } => "low-rank",
        }
    }

    /// Bytes of memory of the numbers.
    pub fn bytes(&self) -> u64 {
        match &self.form {
            Form::Packed(values) => values.bytes().len() as u64,
            Form::Factor { columns, diagonal, .. } => {
                let diagonal = if matches!(diagonal, Diagonal::Vector(_)) { 8 * self.dim } else { 0 };
                (columns.bytes().len() + diagonal) as u64
            }
        }
    }

    /// Bytes of a dense f64 matrix of this dimension, bounded so that a few of them never overflow.
    pub fn dense_bytes(dim: usize) -> u64 {
        (dim as u64).saturating_mul(dim as u64).min(u64::MAX >> 10) * 8
    }

    /// The whole matrix.
    pub fn to_dense(&self) -> DMatrix<f64> {
        let mut dense = DMatrix::zeros(self.dim, self.dim);
        self.add_lower_to(1.0, &mut dense);
        algebra::mirror(&mut dense);
        dense
    }

    /// Adds `weight·Σ` to the lower triangle of `out`. Do not read the numbers above it.
    pub(crate) fn add_lower_to(&self, weight: f64, out: &mut DMatrix<f64>) {
        match &self.form {
            Form::Packed(values) => {
                let mut next = 0;
                for col in 0..self.dim {
                    for row in col..self.dim {
                        out[(row, col)] += weight * values.get(next);
                        next += 1;
                    }
                }
            }
            Form::Factor { diagonal, .. } => {
                if let Some(factor) = self.factor_matrix() {
                    algebra::add_gram(out, weight, algebra::n(&factor));
                }
                for i in 0..self.dim {
                    out[(i, i)] += weight * diagonal.get(i);
                }
            }
        }
    }

    /// `F [d, r]` of a factor or low-rank form.
    pub(crate) fn factor_matrix(&self) -> Option<DMatrix<f64>> {
        match &self.form {
            Form::Packed(_) => None,
            Form::Factor { columns, rank, .. } => Some(DMatrix::from_vec(self.dim, *rank, columns.to_f64())),
        }
    }

    /// Whether a factor is the whole covariance: there is no diagonal.
    pub(crate) fn is_pure_factor(&self) -> bool {
        matches!(&self.form, Form::Factor { diagonal, .. } if diagonal.is_zero())
    }

    /// The factor if it is the whole covariance.
    pub(crate) fn pure_factor(&self) -> Option<DMatrix<f64>> {
        self.is_pure_factor().then(|| self.factor_matrix())?
    }

    /// `M·Σ·Mᵀ + floor·I` of a pure factor, as a factor. `single` is `matrix` as f32, for factors that are not f64.
    pub(crate) fn map_factor(
        &self,
        matrix: &DMatrix<f64>,
        single: &DMatrix<f32>,
        floor: f64,
    ) -> Option<Self> {
        let Form::Factor { columns, rank, diagonal } = &self.form else { return None };
        if !diagonal.is_zero() {
            return None;
        }
        let by_single = |columns: &[f32]| -> Vec<f32> {
            algebra::product(algebra::n(single), algebra::columns(columns, self.dim)).data.into()
        };
        let columns = match columns {
            Values::F64(v) => {
                Values::F64(algebra::product(algebra::n(matrix), algebra::columns(v, self.dim)).data.into())
            }
            Values::F32(v) => Values::F32(by_single(v)),
            Values::Bf16(v) => {
                let wide: Vec<f32> = v.iter().map(|v| v.to_f32()).collect();
                Values::Bf16(by_single(&wide).into_iter().map(bf16::from_f32).collect())
            }
        };
        Some(Self {
            dim: self.dim,
            form: Form::Factor { columns, rank: *rank, diagonal: Diagonal::Scalar(floor) },
        })
    }

    /// `tr Σ`.
    pub fn trace(&self) -> f64 {
        match &self.form {
            Form::Packed(values) => (0..self.dim).map(|i| values.get(packed_index(self.dim, i))).sum(),
            Form::Factor { columns, diagonal, .. } => {
                columns.iter().map(|v| v * v).sum::<f64>()
                    + (0..self.dim).map(|i| diagonal.get(i)).sum::<f64>()
            }
        }
    }

    /// Variances of all axes.
    fn variances(&self) -> DVector<f64> {
        match &self.form {
            Form::Packed(values) => DVector::from_fn(self.dim, |i, _| values.get(packed_index(self.dim, i))),
            Form::Factor { columns, diagonal, .. } => {
                let mut variances = DVector::from_fn(self.dim, |i, _| diagonal.get(i));
                let numbers = match columns {
                    Values::F64(numbers) => Cow::Borrowed(numbers),
                    _ => Cow::Owned(columns.to_f64()),
                };
                for column in numbers.chunks_exact(self.dim.max(1)) {
                    variances.iter_mut().zip(column).for_each(|(sum, v)| *sum += v * v);
                }
                variances
            }
        }
    }

    /// Axes whose variance underflowed in `stored`, the same covariance in another precision, and their variances here.
    pub(super) fn vanished(&self, stored: &Self) -> Vec<(usize, f64)> {
        let exact = self.variances();
        if stored.precision() == Precision::F64 || !exact.iter().any(|&v| v > 0.0 && v < TINY) {
            return Vec::new();
        }
        let rounded = stored.variances();
        let pairs = exact.iter().copied().zip(rounded.iter().copied()).enumerate();
        let lost = pairs.filter(|(_, (v, rounded))| *v < TINY && (v - rounded).abs() > 0.01 * v);
        lost.map(|(axis, (v, _))| (axis, v)).collect()
    }

    /// The same covariance stored another way.
    ///
    /// # Errors
    /// When a low rank needs eigenvalues that cannot be computed.
    pub fn store(&self, storage: Storage, precision: Precision) -> Result<Self> {
        match (storage, &self.form) {
            (Storage::LowRank(rank), _) => self.low_rank(rank, precision),
            (Storage::Packed | Storage::Smallest, Form::Packed(values)) => {
                Ok(Self { dim: self.dim, form: Form::Packed(Values::round(values.iter(), precision)) })
            }
            (Storage::Smallest, Form::Factor { columns, rank, diagonal })
                if 2 * columns.len() <= self.dim * (self.dim + 1) =>
            {
                let columns = Values::round(columns.iter(), precision);
                let form = Form::Factor { columns, rank: *rank, diagonal: diagonal.clone() };
                Ok(Self { dim: self.dim, form })
            }
            _ => Self::packed(&self.to_dense(), precision),
        }
    }

    /// The `rank` directions of largest variance, as a factor, without the rest.
    ///
    /// # Errors
    /// When the eigenvalues cannot be computed.
    pub fn truncate(&self, rank: usize, precision: Precision) -> Result<Self> {
        let what = "a class covariance";
        let factor = match self.pure_factor() {
            // F·V has orthogonal columns if V diagonalises Fᵀ·F, the smaller matrix.
            Some(f) if f.ncols() < self.dim => {
                let gram = algebra::product(algebra::t(&f), algebra::n(&f));
                let (_, vectors) = algebra::eigen(&gram, what)?;
                let keep = vectors.columns(f.ncols() - rank.min(f.ncols()), rank.min(f.ncols())).into_owned();
                algebra::product(algebra::n(&f), algebra::n(&keep))
            }
            _ => {
                let (values, vectors) = algebra::eigen(&self.to_dense(), what)?;
                let rank = rank.min(self.dim);
                let first = self.dim - rank;
                DMatrix::from_fn(self.dim, rank, |row, col| {
                    vectors[(row, first + col)] * values[first + col].max(0.0).sqrt()
                })
            }
        };
        Ok(Self::factor(factor, precision))
    }

    /// `(1 − a)·Σ + a·tr(Σ)/d·I` in the same form and precision; a factor becomes low-rank + diagonal.
    pub fn shrink(&self, a: f64) -> Self {
        let floor = a * self.trace() / self.dim.max(1) as f64;
        let (precision, keep) = (self.precision(), 1.0 - a);
        let form = match &self.form {
            Form::Packed(values) => {
                let mut lower: Vec<f64> = values.iter().map(|v| keep * v).collect();
                (0..self.dim).for_each(|i| lower[packed_index(self.dim, i)] += floor);
                Form::Packed(Values::round(lower.into_iter(), precision))
            }
            Form::Factor { columns, rank, diagonal } => {
                let columns = Values::round(columns.iter().map(|v| keep.sqrt() * v), precision);
                let diagonal = match diagonal {
                    Diagonal::Scalar(v) => Diagonal::Scalar(keep * v + floor),
                    Diagonal::Vector(v) => Diagonal::Vector(v.map(|v| keep * v + floor)),
                };
                Form::Factor { columns, rank: *rank, diagonal }
            }
        };
        Self { dim: self.dim, form }
    }

    /// The `rank` directions of largest variance; the rest of the variances goes to the diagonal.
    fn low_rank(&self, rank: usize, precision: Precision) -> Result<Self> {
        let dense = self.to_dense();
        // From the rounded factor, so that the diagonal is exact.
        let mut new = self.truncate(rank, precision)?;
        let rounded = new.factor_matrix().unwrap_or_default();
        let rest =
            DVector::from_fn(self.dim, |i, _| (dense[(i, i)] - rounded.row(i).norm_squared()).max(0.0));
        if let Form::Factor { diagonal, .. } = &mut new.form {
            *diagonal = if self.dim == 1 { Diagonal::Scalar(rest[0]) } else { Diagonal::Vector(rest) };
        }
        Ok(new)
    }

    /// Checks lengths, that all numbers are finite, and that no variance is negative.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let (values, expected) = match &self.form {
            Form::Packed(values) => (values, self.dim * (self.dim + 1) / 2),
            Form::Factor { columns, rank, .. } => (columns, self.dim * rank),
        };
        if values.len() != expected {
            return Err(format!("{} numbers of a covariance, expected {expected}", values.len()));
        }
        if let Some(at) = values.not_finite() {
            let value = values.get(at);
            let remedy = if value.is_nan() {
                ""
            } else {
                ": it needs a higher precision, or features of a smaller scale"
            };
            return Err(format!("number {at} of the covariance is {value}{remedy}"));
        }
        let variance = |i: usize| match &self.form {
            Form::Packed(values) => values.get(packed_index(self.dim, i)),
            Form::Factor { diagonal, .. } => diagonal.get(i),
        };
        if let Form::Factor { diagonal: Diagonal::Vector(vector), .. } = &self.form
            && vector.len() != self.dim
        {
            return Err(format!("{} numbers on a diagonal, expected {}", vector.len(), self.dim));
        }
        match (0..self.dim).find(|&i| !(variance(i) >= 0.0 && variance(i).is_finite())) {
            Some(i) => Err(format!("variance {i} is {}", variance(i))),
            None => Ok(()),
        }
    }
}

/// Smaller variances may underflow in f32.
const TINY: f64 = 1e-30;

/// The index of diagonal element `i` in the packed lower triangle.
fn packed_index(dim: usize, i: usize) -> usize {
    i * dim - i * i.saturating_sub(1) / 2
}
