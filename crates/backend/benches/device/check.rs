//! Results of what is timed against the reference.

use residua_backend::reference::{Expected, Operand, product};

use super::Result;

/// Multiplications that the reference may take: a second or so.
pub(crate) const MOST: usize = 200_000_000;

/// That `y = A·x`, unless the reference would take too long; `what` was tried is named where it is not.
pub(crate) fn is_product(what: &str, a: &impl Operand, nnz: usize, x: &[f32], y: &[f32]) -> Result {
    let batch = x.len() / a.shape()[1].max(1);
    if nnz * batch > MOST {
        return Ok(());
    }
    agrees(what, y, &product(a, x, batch))
}

/// That every value is what it should be.
pub(crate) fn agrees(what: &str, found: &[f32], expected: &[Expected]) -> Result {
    match found.iter().zip(expected).position(|(found, expected)| !expected.admits(*found)) {
        None => Ok(()),
        Some(at) => {
            Err(format!("{what}: y[{at}] is {} where {} is right", found[at], expected[at].value).into())
        }
    }
}
