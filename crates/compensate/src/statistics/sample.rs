//! Draws from a class.

use nalgebra::DMatrix;
use residua_memory::Budget;

use super::{ClassGaussian, Covariance};
use crate::compensator::{draw, factor};
use crate::{Result, algebra};

impl ClassGaussian {
    /// `count` draws from the class's Gaussian as columns `[d, count]`: in memory, the rows of a row-major `[count,
    /// d]`. A seed gives the same numbers on every platform.
    ///
    /// # Errors
    /// When the budget has no room, or the covariance cannot be factored.
    ///
    /// ```
    /// use residua_compensate::nalgebra::DVector;
    /// use residua_compensate::{ClassGaussian, Covariance};
    /// use residua_memory::Budget;
    ///
    /// # fn main() -> residua_compensate::Result<()> {
    /// let budget = Budget::new(1 << 20);
    /// let class = ClassGaussian::new(9, DVector::from_vec(vec![5.0, -5.0]), Covariance::isotropic(2, 0.01), &budget)?;
    /// let draws = class.sample(1000, 0, &budget)?;
    /// assert!((draws.column_mean() - class.mean()).amax() < 0.02);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sample(&self, count: usize, seed: u64, budget: &Budget) -> Result<DMatrix<f64>> {
        let numbers = (self.dim() as u64).saturating_mul(count as u64).saturating_mul(16);
        let factoring = (2 + algebra::EIGEN) * Covariance::dense_bytes(self.dim());
        let _held = budget.reserve(numbers.saturating_add(factoring), "draws from a class")?;
        let factor = factor(self.covariance())?;
        let normal = draw(factor.ncols(), count, seed);
        let mut draws = algebra::product(algebra::n(&factor), algebra::n(&normal));
        draws.column_iter_mut().for_each(|mut column| column += self.mean());
        Ok(draws)
    }
}
