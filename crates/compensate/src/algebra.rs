//! Dense products and decompositions: nalgebra's column-major storage, faer's kernels.
//!
//! Parallel work has pieces of a fixed size, and one thread computes a piece: the number of threads never changes a bit of
//! a result.

use faer::linalg::matmul::matmul;
use faer::prelude::*;
use faer::{Accum, MatMut, MatRef, Par, Side};
use nalgebra::{DMatrix, DVector};
use rayon::prelude::*;

use crate::{CompensateError, Result};

/// Columns of a product in one piece.
const PANEL: usize = 128;

fn view_mut<T: nalgebra::Scalar>(m: &mut DMatrix<T>) -> MatMut<'_, T> {
    let (rows, cols) = m.shape();
    MatMut::from_column_major_slice_mut(m.as_mut_slice(), rows, cols)
}

/// Element types of a product.
pub(crate) trait Real: nalgebra::RealField + faer::traits::RealField + Copy {}
impl Real for f32 {}
impl Real for f64 {}

/// A matrix, for a product.
pub(crate) fn n<T: nalgebra::Scalar>(m: &DMatrix<T>) -> MatRef<'_, T> {
    MatRef::from_column_major_slice(m.as_slice(), m.nrows(), m.ncols())
}

/// Its transpose.
pub(crate) fn t<T: nalgebra::Scalar>(m: &DMatrix<T>) -> MatRef<'_, T> {
    n(m).transpose()
}

/// Columns of `rows` numbers each, one after the other.
pub(crate) fn columns<T>(numbers: &[T], rows: usize) -> MatRef<'_, T> {
    MatRef::from_column_major_slice(numbers, rows, numbers.len() / rows.max(1))
}

/// `out += alpha·a·b`.
pub(crate) fn add_product<T: Real>(out: &mut DMatrix<T>, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    multiply(out, Accum::Add, alpha, a, b);
}

/// `out = alpha·a·b`.
pub(crate) fn set_product<T: Real>(out: &mut DMatrix<T>, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    multiply(out, Accum::Replace, alpha, a, b);
}

fn multiply<T: Real>(out: &mut DMatrix<T>, accumulate: Accum, alpha: T, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let rows = out.nrows();
    if rows == 0 || out.ncols() == 0 {
        return;
    }
    // A narrow product gets smaller pieces, to keep more than one thread busy.
    let width = if out.ncols() <= PANEL { PANEL / 4 } else { PANEL };
    out.as_mut_slice().par_chunks_mut(rows * width).enumerate().for_each(|(panel, out)| {
        let cols = out.len() / rows;
        let out = MatMut::from_column_major_slice_mut(out, rows, cols);
        matmul(out, accumulate, a, b.subcols(panel * width, cols), alpha, Par::Seq);
    });
}

/// `a·b`.
pub(crate) fn product<T: Real>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> DMatrix<T> {
    let mut out = DMatrix::zeros(a.nrows(), b.ncols());
    add_product(&mut out, T::one(), a, b);
    out
}

/// Adds `alpha·a·aᵀ` to the lower triangle of `out`. Do not read the numbers above it.
pub(crate) fn add_gram<T: Real>(out: &mut DMatrix<T>, alpha: T, a: MatRef<'_, T>) {
    let rows = out.nrows();
    if rows == 0 || a.ncols() == 0 {
        return;
    }
    // Half as wide as elsewhere: fewer of the computed numbers lie above the diagonal.
    let width = PANEL / 2;
    out.as_mut_slice().par_chunks_mut(rows * width).enumerate().for_each(|(panel, out)| {
        let (first, cols) = (panel * width, out.len() / rows);
        let out = MatMut::from_column_major_slice_mut(out, rows, cols).subrows_mut(first, rows - first);
        let (left, right) = (a.subrows(first, rows - first), a.subrows(first, cols));
        matmul(out, Accum::Add, left, right.transpose(), alpha, Par::Seq);
    });
}

/// Adds `a·aᵀ` to a lower triangle that is packed column after column. It takes as much memory as a square matrix at most.
pub(crate) fn add_packed_gram(packed: &mut [f64], a: MatRef<'_, f64>) {
    let rows = a.nrows();
    let (mut panels, mut rest) = (Vec::new(), packed);
    for first in (0..rows).step_by(PANEL / 2) {
        let cols = (PANEL / 2).min(rows - first);
        let panel = rest.split_off_mut(..cols * (rows - first) - cols * (cols - 1) / 2);
        panels.push((first, cols, panel.unwrap_or_default()));
    }
    panels.into_par_iter().with_max_len(1).for_each_init(Vec::new, |product, (first, cols, panel)| {
        let height = rows - first;
        product.resize(height * cols, 0.0);
        let out = MatMut::from_column_major_slice_mut(product, height, cols);
        let (left, right) = (a.subrows(first, height), a.subrows(first, cols));
        matmul(out, Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
        let mut rest = panel;
        for (col, column) in product.chunks_exact(height).enumerate() {
            let packed = rest.split_off_mut(..height - col).unwrap_or_default();
            packed.iter_mut().zip(&column[col..]).for_each(|(sum, product)| *sum += product);
        }
    });
}

/// Copies the lower triangle over the upper one.
pub(crate) fn mirror<T: Real>(m: &mut DMatrix<T>) {
    for col in 1..m.ncols() {
        for row in 0..col {
            m[(row, col)] = m[(col, row)];
        }
    }
}

/// A lower Cholesky factor `L`, `A = L·Lᵀ`.
#[derive(Debug)]
pub(crate) struct Cholesky(faer::linalg::solvers::Llt<f64>);

impl Cholesky {
    /// Factors the matrix in the lower triangle of `a`.
    pub(crate) fn new(a: &DMatrix<f64>, what: &str, remedy: &'static str) -> Result<Self> {
        let singular = || CompensateError::Singular { what: what.into(), remedy };
        // The decomposition accepts a pivot that is tiny or NaN, but its result is worthless.
        let new = Self(n(a).llt(Side::Lower).map_err(|_| singular())?);
        if new.log_determinant().is_finite() { Ok(new) } else { Err(singular()) }
    }

    /// `b ← A⁻¹·b`.
    pub(crate) fn solve(&self, b: &mut DMatrix<f64>) {
        self.0.solve_in_place(view_mut(b));
    }

    /// `b ← L⁻¹·b`.
    pub(crate) fn whiten(&self, b: &mut DMatrix<f64>) {
        let rows = b.nrows();
        if rows == 0 {
            return;
        }
        b.as_mut_slice().par_chunks_mut(rows * PANEL).for_each(|b| {
            let cols = b.len() / rows;
            let b = MatMut::from_column_major_slice_mut(b, rows, cols);
            self.0.L().solve_lower_triangular_in_place(b);
        });
    }

    /// The diagonal of `A⁻¹`; computes `columns` columns of `L⁻¹` at a time.
    pub(crate) fn inverse_diagonal(&self, columns: usize) -> DVector<f64> {
        let (l, n) = (self.0.L(), self.0.L().nrows());
        let starts: Vec<usize> = (0..n).step_by(columns).collect();
        let parts = starts.par_iter().map(|&first| {
            // A column of L⁻¹ is zero above its diagonal.
            let count = columns.min(n - first);
            let mut inverse = DMatrix::<f64>::identity(n - first, count);
            l.submatrix(first, first, n - first, n - first)
                .solve_lower_triangular_in_place(view_mut(&mut inverse));
            // Column j of A⁻¹ = L⁻ᵀ·L⁻¹ has |L⁻¹·e_j|² on the diagonal.
            inverse.column_iter().map(|column| column.norm_squared()).collect::<Vec<_>>()
        });
        DVector::from_vec(parts.collect::<Vec<_>>().concat())
    }

    /// `L`, zeros above its diagonal.
    pub(crate) fn lower(&self) -> DMatrix<f64> {
        let l = self.0.L();
        DMatrix::from_fn(l.nrows(), l.ncols(), |r, c| if r >= c { l[(r, c)] } else { 0.0 })
    }

    /// `ln det A`.
    pub(crate) fn log_determinant(&self) -> f64 {
        let l = self.0.L();
        2.0 * (0..l.nrows()).map(|i| l[(i, i)].ln()).sum::<f64>()
    }
}

/// Square matrices that [`eigen`] holds at its peak: vectors, three for scratch, and the returned vectors.
pub(crate) const EIGEN: u64 = 5;

/// Eigenvalues, rising, and eigenvectors (columns) of the symmetric matrix in the lower triangle of `a`.
pub(crate) fn eigen(a: &DMatrix<f64>, what: &str) -> Result<(DVector<f64>, DMatrix<f64>)> {
    let remedy = "check the features for overflow";
    let failed = |_| CompensateError::Singular { what: what.into(), remedy };
    let eigen = n(a).self_adjoint_eigen(Side::Lower).map_err(failed)?;
    let (values, vectors) = (eigen.S(), eigen.U());
    let values = DVector::from_fn(a.nrows(), |i, _| values[i]);
    Ok((values, DMatrix::from_fn(a.nrows(), a.nrows(), |r, c| vectors[(r, c)])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, cols: usize, seed: u64) -> DMatrix<f64> {
        let mut state = seed;
        DMatrix::from_fn(rows, cols, |_, _| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 11) as f64 / (1u64 << 53) as f64 - 0.5
        })
    }

    #[test]
    fn products_equal_nalgebra() {
        let (a, b) = (random(150, 70, 1), random(70, 300, 2));
        let mut out = product(n(&a), n(&b));
        assert!((&out - &a * &b).amax() < 1e-12);
        add_product(&mut out, 2.0, n(&a), n(&b));
        assert!((&out - &a * &b * 3.0).amax() < 1e-12);
        set_product(&mut out, 2.0, n(&a), n(&b));
        assert!((&out - &a * &b * 2.0).amax() < 1e-12);
        set_product(&mut out, 2.0, n(&random(150, 0, 5)), n(&random(0, 300, 6)));
        assert_eq!(out.amax(), 0.0);
        let c = random(150, 20, 3);
        assert!((product(t(&a), n(&c)) - a.transpose() * &c).amax() < 1e-12);
        let mut gram = DMatrix::zeros(150, 150);
        add_gram(&mut gram, 2.0, n(&a));
        mirror(&mut gram);
        assert!((gram - 2.0 * &a * a.transpose()).amax() < 1e-12);
    }

    #[test]
    fn decompositions_rebuild_the_matrix() {
        let a = random(140, 200, 4);
        let spd = &a * a.transpose();
        let cholesky = Cholesky::new(&spd, "a", "").unwrap();
        let l = spd.clone().cholesky().unwrap().l();
        assert!((cholesky.log_determinant() - spd.determinant().ln()).abs() < 1e-8);
        let mut x = DMatrix::identity(140, 140);
        cholesky.solve(&mut x);
        assert!((&spd * x - DMatrix::identity(140, 140)).amax() < 1e-8);
        let mut x = spd.clone();
        cholesky.whiten(&mut x);
        assert!((x - l.transpose()).amax() < 1e-9);
        let (values, vectors) = eigen(&spd, "a").unwrap();
        assert!((&vectors * DMatrix::from_diagonal(&values) * vectors.transpose() - &spd).amax() < 1e-10);
    }

    #[test]
    fn indefinite_matrices_are_refused() {
        for bad in [-1.0, 0.0, f64::NAN] {
            let a = DMatrix::from_diagonal(&DVector::from_vec(vec![1.0, bad]));
            assert!(Cholesky::new(&a, "a", "").is_err(), "{bad}");
        }
    }
}
