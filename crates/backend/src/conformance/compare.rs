//! Found against expected.

use super::Outcome;
use super::data::Data;
use crate::reference::Expected;

/// Checks every value against the bound of f32 arithmetic; exact data allow no error.
pub(super) fn compare(what: &str, data: Data, batch: usize, found: &[f32], expected: &[Expected]) -> Outcome {
    if found.len() != expected.len() {
        return Err(format!("{what}: {} values where {} belong", found.len(), expected.len()));
    }
    for (i, (&found, expected)) in found.iter().zip(expected).enumerate() {
        let admitted = match data {
            Data::Exact => expected.value == f64::from(found) || (expected.value.is_nan() && found.is_nan()),
            Data::Rough => expected.admits(found),
        };
        if !admitted {
            let (row, column, tolerance) = (i / batch, i % batch, expected.tolerance());
            return Err(format!(
                "{what}: row {row}, vector {column}: {found} where {} belongs, {} ({data:?} data)",
                expected.value,
                match data {
                    Data::Exact => "without rounding".into(),
                    Data::Rough => format!("give or take {tolerance:e}"),
                }
            ));
        }
    }
    Ok(())
}

/// Checks that two results have the same bits.
pub(super) fn same_bits(what: &str, one: &[f32], other: &[f32]) -> Outcome {
    let differ = one.iter().zip(other).position(|(one, other)| one.to_bits() != other.to_bits());
    match differ {
        None if one.len() == other.len() => Ok(()),
        None => Err(format!("{what}: {} and {} values", one.len(), other.len())),
        Some(i) => Err(format!("{what}: value {i} is {:e} once and {:e} another time", one[i], other[i])),
    }
}
