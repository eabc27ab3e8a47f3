//! The results of a backend in f64, and how far from them an f32 result may lie.
//!
//! A sum of n products computed in f32 in any order lies within γₙ·Σ|aᵢ||xᵢ| of the exact one, where
//! γₙ = n·u / (1 − n·u) and u = 2⁻²⁴ (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*,
//! 2nd ed., SIAM 2002, sections 3.1 and 4.2). Each [`Expected`] value carries n and Σ|aᵢ||xᵢ|: the bound depends on the
//! sum itself and is never a fixed constant.

use residua_format::{Coo, Csr, DenseMatrix, GapCsr, QuantizedBase, ValuePlane};

/// Unit roundoff of f32.
const UNIT: f64 = f32::EPSILON as f64 / 2.0;

/// One exact value of a result, and the bound for its computation in f32.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Expected {
    /// The exact value, up to f64 rounding.
    pub value: f64,
    /// Sum of the magnitudes of all terms.
    pub magnitude: f64,
    /// Number of roundings in the longest chain of operations on one product.
    pub roundings: usize,
}

impl Expected {
    /// The largest allowed difference of a value computed in f32.
    pub fn tolerance(&self) -> f64 {
        let nu = self.roundings as f64 * UNIT;
        // A device may flush a result below the smallest normal number to 0 at every rounding.
        let flushed = self.roundings as f64 * f64::from(f32::MIN_POSITIVE);
        nu / (1.0 - nu) * self.magnitude + flushed
    }

    /// Whether f32 arithmetic may compute `found` for this value. NaN and infinities must agree.
    pub fn admits(&self, found: f32) -> bool {
        if self.value.is_finite() {
            (f64::from(found) - self.value).abs() <= self.tolerance()
        } else {
            f64::from(found) == self.value || (found.is_nan() && self.value.is_nan())
        }
    }

    fn add(&mut self, coefficient: f64, x: f32) {
        let term = coefficient * f64::from(x);
        self.value += term;
        self.magnitude += term.abs();
        self.roundings += 1;
    }
}

/// A matrix that the reference can walk over.
pub trait Operand {
    /// `[rows, cols]`.
    fn shape(&self) -> [usize; 2];
    /// Number of roundings of a coefficient before its product with `x`: 1 where it is `code · scale`.
    fn roundings(&self) -> usize;
    /// Calls `visit(row, col, coefficient)` for every entry.
    fn for_each(&self, visit: impl FnMut(usize, usize, f64));
}

impl Operand for GapCsr {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn roundings(&self) -> usize {
        usize::from(matches!(self.values(), ValuePlane::I8 { .. }))
    }

    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for row in 0..self.rows() {
            let start = self.pattern().row_entries(row).start;
            for (position, column) in self.pattern().row(row) {
                let entry = start + position;
                let value = match self.values() {
                    // The product in f64: `ValuePlane::get` rounds it to f32.
                    ValuePlane::I8 { codes, scales } => f64::from(codes[entry]) * f64::from(scales[row]),
                    plane => f64::from(plane.get(entry, row)),
                };
                visit(row, column as usize, value);
            }
        }
    }
}

impl Operand for Csr<f32, u32> {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn roundings(&self) -> usize {
        0
    }

    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for row in 0..self.rows() {
            let (columns, values) = self.row(row);
            for (&column, &value) in columns.iter().zip(values) {
                visit(row, column as usize, value.into());
            }
        }
    }
}

impl Operand for Coo<f32, u32> {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn roundings(&self) -> usize {
        0
    }

    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        let places = self.row_indices().iter().zip(self.col_indices());
        for ((&row, &column), &value) in places.zip(self.values()) {
            visit(row as usize, column as usize, value.into());
        }
    }
}

impl Operand for QuantizedBase {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn roundings(&self) -> usize {
        1
    }

    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        let (group, groups) = (self.kind().group(self.cols()), self.kind().groups(self.cols()));
        for row in 0..self.rows() {
            for col in 0..self.cols() {
                let scale = self.scales()[row * groups + col / group];
                visit(row, col, f64::from(self.multiple(row, col)) * f64::from(scale));
            }
        }
    }
}

impl Operand for DenseMatrix {
    fn shape(&self) -> [usize; 2] {
        [self.rows(), self.cols()]
    }

    fn roundings(&self) -> usize {
        0
    }

    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for row in 0..self.rows() {
            for col in 0..self.cols() {
                visit(row, col, self.get(row, col).into());
            }
        }
    }
}

/// `A·X` for `x` of shape `[cols, batch]`, batch contiguous.
///
/// # Panics
/// When `x` does not have that shape.
pub fn product(a: &impl Operand, x: &[f32], batch: usize) -> Vec<Expected> {
    let [rows, cols] = a.shape();
    assert_eq!(x.len(), cols * batch, "x is not [cols, batch]");
    let mut sums = vec![Expected::default(); rows * batch];
    a.for_each(|row, col, coefficient| {
        let x = &x[col * batch..(col + 1) * batch];
        for (sum, &x) in sums[row * batch..(row + 1) * batch].iter_mut().zip(x) {
            sum.add(coefficient, x);
        }
    });
    // A lane or segment may start from 0 and be added to the others: one more addition than products.
    sums.iter_mut().for_each(|sum| sum.roundings += a.roundings() + 1);
    sums
}

/// `alpha·P + beta·Y` for a product `P`. An alpha or beta of 0 drops its term.
///
/// # Panics
/// When `product` and `y` differ in length.
pub fn scaled(alpha: f32, product: &[Expected], beta: f32, y: &[f32]) -> Vec<Expected> {
    assert_eq!(y.len(), product.len(), "y is not [rows, batch]");
    let one = |(product, &y): (&Expected, &f32)| {
        let mut sum = if alpha == 0.0 { Expected::default() } else { *product };
        sum.value *= f64::from(alpha);
        sum.magnitude *= f64::from(alpha).abs();
        sum.roundings += 1;
        if beta != 0.0 {
            sum.add(beta.into(), y);
            sum.roundings += 1;
        }
        sum
    };
    product.iter().zip(y).map(one).collect()
}

/// `base·X + alpha·(residual·X)`, from the two products.
///
/// # Panics
/// When the products differ in length.
pub fn layer(base: &[Expected], alpha: f32, residual: &[Expected]) -> Vec<Expected> {
    assert_eq!(base.len(), residual.len(), "base and residual differ in shape");
    let none = vec![0.0; residual.len()];
    let both = base.iter().zip(scaled(alpha, residual, 0.0, &none));
    both.map(|(base, residual)| Expected {
        value: base.value + residual.value,
        magnitude: base.magnitude + residual.magnitude,
        roundings: base.roundings + residual.roundings + 1,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix() -> Csr<f32, u32> {
        Csr::new(2, 3, vec![0, 2, 2], vec![0, 2], vec![2.0, -1.0]).unwrap()
    }

    #[test]
    fn a_product_by_hand() {
        let x = [1.0, 10.0, f32::NAN, f32::INFINITY, 3.0, 30.0];
        let y = [f32::NAN; 4];
        let values = |sum: Vec<Expected>| sum.iter().map(|e| e.value).collect::<Vec<_>>();
        let product = product(&matrix(), &x, 2);
        assert_eq!(values(scaled(2.0, &product, 0.0, &y)), [-2.0, -20.0, 0.0, 0.0]);
        assert_eq!(values(scaled(1.0, &product, 0.5, &[4.0; 4])), [1.0, -8.0, 2.0, 2.0]);
        assert_eq!(values(scaled(0.0, &product, 0.0, &y)), [0.0; 4]);
        let magnitudes: Vec<_> = scaled(-2.0, &product, 0.0, &y).iter().map(|e| e.magnitude).collect();
        assert_eq!(magnitudes, [10.0, 100.0, 0.0, 0.0]);
    }

    #[test]
    fn tolerance_refuses_what_rounding_cannot_explain() {
        let exact = Expected { value: 1.0, magnitude: 1.0, roundings: 3 };
        assert!(exact.admits(1.0 + f32::EPSILON));
        assert!(!exact.admits(1.0 + 2.0 * f32::EPSILON));
        assert!(!exact.admits(f32::NAN));
        let infinite = Expected { value: f64::INFINITY, ..exact };
        assert!(
            infinite.admits(f32::INFINITY) && !infinite.admits(f32::MAX) && !infinite.admits(-f32::INFINITY)
        );
        assert!(Expected { value: f64::NAN, ..exact }.admits(f32::NAN));
    }
}
