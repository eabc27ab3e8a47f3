//! Timed results against the reference.

use residua_backend::reference::{Expected, Operand, product};

use super::Result;

/// The reference does at most this many multiplications: about a second.
pub(crate) const MOST: usize = 200_000_000;

/// Checks that `y = A·x`, unless the reference would take too long. The error names `what`.
pub(crate) fn is_product(what: &str, a: &impl Operand, nnz: usize, x: &[f32], y: &[f32]) -> Result {
    let batch = x.len() / a.shape()[1].max(1);
    if nnz * batch > MOST {
        return Ok(());
    }
    agrees(what, y, &product(a, x, batch))
}

/// Checks every value against its bound.
pub(crate) fn agrees(what: &str, found: &[f32], expected: &[Expected]) -> Result {
    match found.iter().zip(expected).position(|(found, expected)| !expected.admits(*found)) {
        None => Ok(()),
        Some(at) => {
            Err(format!("{what}: y[{at}] is {} where {} is right", found[at], expected[at].value).into())
        }
    }
}
