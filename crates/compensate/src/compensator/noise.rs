//! The covariance that a regression does not explain.

use nalgebra::DMatrix;
use residua_memory::Budget;

use crate::Result;
use crate::algebra::{self, Cholesky};
use crate::statistics::Covariance;

/// Added to variances before one is divided by another, relative to their mean: where features hardly vary, a ratio is
/// meaningless.
const RIDGE: f64 = 1e-3;
/// The same as a share of the regression's ridge, if that is more. Few samples hardly vary in many directions in which
/// classes do.
const SHARE: f64 = 0.1;

/// Bytes that [`stretch`] takes: S, R and M, the decomposition of S, and that of K.
pub(super) fn bytes(dim: usize) -> u64 {
    (4 + algebra::EIGEN) * Covariance::dense_bytes(dim)
}

/// `T·M [d, d]`, where T stretches the covariances `C` that a map `M [d, d]` gives to `T·C·Tᵀ`: covariances with what the
/// map cannot predict.
///
/// A map predicts the mean of a moved feature. By the law of total covariance, `Cov(y) = Cov(f(x)) + E[Cov(y | x)]`. With
/// S and R for these terms on the pairs of the fit, `T = ((S + R)·S⁻¹)^½`, the principal root, makes S + R of S. It is the
/// same map in every orthonormal basis and unit of features. To add R would do that too, but would fill directions in
/// which a class of few samples has no variance, while classes collected after the task keep theirs empty.
///
/// Reads the lower triangle of `explained`, S. `ridge` is that of the regression, relative to the mean variance.
pub(super) fn stretch(
    mut explained: DMatrix<f64>,
    mut noise: DMatrix<f64>,
    ridge: f64,
    mut map: DMatrix<f64>,
    budget: &Budget,
) -> Result<DMatrix<f64>> {
    let (what, dim) = ("the noise of a regression", explained.nrows());
    let _scratch = budget.reserve(bytes(dim), what)?;
    // Rounding can take a little from where there is no noise.
    let ridge = RIDGE.max(SHARE * ridge) * (explained.trace() + noise.trace().max(0.0)) / dim as f64;
    (0..dim).for_each(|i| explained[(i, i)] += ridge);
    // With S = L·Lᵀ and K = L⁻¹·R·L⁻ᵀ = U·D·Uᵀ, T = L·U·(I + D)^½·Uᵀ·L⁻¹.
    let cholesky = Cholesky::new(&explained, what, "give it more samples")?;
    drop(explained);
    cholesky.whiten(&mut noise);
    noise.transpose_mut();
    cholesky.whiten(&mut noise);
    let (values, mut vectors) = algebra::eigen(&noise, what)?;
    cholesky.whiten(&mut map);
    let right = algebra::product(algebra::t(&vectors), algebra::n(&map));
    drop((noise, map));
    for (mut column, value) in vectors.column_iter_mut().zip(values.iter()) {
        column *= (1.0 + value.max(0.0)).sqrt();
    }
    let left = algebra::product(algebra::n(&cholesky.lower()), algebra::n(&vectors));
    Ok(algebra::product(algebra::n(&left), algebra::n(&right)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn covariance(values: &[f64], dim: usize, samples: usize) -> DMatrix<f64> {
        let samples = DMatrix::from_fn(dim, samples, |r, c| values[r * samples + c]);
        &samples * samples.transpose() / samples.ncols() as f64
    }

    proptest! {
        /// `T·S·Tᵀ = S + R` up to the ridge, and `T = I` without noise.
        #[test]
        fn what_is_explained_becomes_the_whole(
            dim in 1usize..7, values in prop::collection::vec(-1.0..1.0f64, 7 * 20), rank in 0usize..7,
        ) {
            let budget = Budget::unlimited();
            let explained = covariance(&values, dim, 20) + DMatrix::identity(dim, dim) * 0.3;
            let noise = covariance(&values[50..], dim, rank.max(1)) * f64::from(u8::from(rank > 0));
            let whole = &explained + &noise;
            let map = stretch(explained.clone(), noise.clone(), 0.0, DMatrix::identity(dim, dim), &budget).unwrap();
            let off = (&map * &explained * map.transpose() - &whole).norm() / whole.norm();
            prop_assert!(off < 10.0 * RIDGE, "{off}");
            let none = stretch(explained, noise * 0.0, 0.0, DMatrix::identity(dim, dim), &budget).unwrap();
            prop_assert!((none - DMatrix::identity(dim, dim)).amax() < 1e-9);
        }

        /// The map is the same in another basis, up to the ridge.
        #[test]
        fn the_basis_does_not_matter(values in prop::collection::vec(-1.0..1.0f64, 5 * 40)) {
            let (dim, budget) = (4, Budget::unlimited());
            let (explained, noise) = (covariance(&values, dim, 20), covariance(&values[100..], dim, 20));
            let basis = DMatrix::from_fn(dim, dim, |r, c| if r == c { 1.0 + r as f64 / 4.0 } else { 0.1 * values[r + c] });
            let turned = |m: &DMatrix<f64>| &basis * m * basis.transpose();
            let one = stretch(turned(&explained), turned(&noise), 0.0, basis.clone(), &budget).unwrap();
            let other = &basis * stretch(explained, noise, 0.0, DMatrix::identity(dim, dim), &budget).unwrap();
            prop_assert!((&one - &other).norm() / other.norm() < 0.02);
        }
    }
}
