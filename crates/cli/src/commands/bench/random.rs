//! Random matrices that are the same on every machine.

use rayon::prelude::*;
use residua::format::{Csr, FormatError, Index};

/// A matrix with a non-zero at every place with the same probability. Values are about normal with deviation 0.02,
/// like trained weights. Each place's draw is a hash of seed, matrix and place, so it does not depend on the thread.
///
/// # Errors
/// When the shape or the number of entries does not fit 32 bits.
pub(super) fn csr(
    [rows, cols]: [usize; 2],
    density: f64,
    seed: u64,
    matrix: u64,
) -> Result<Csr<f32, u32>, FormatError> {
    u32::checked(cols, "columns")?;
    let key = mix(mix(seed).wrapping_add(matrix));
    let below = (density * 2f64.powi(32)) as u64;
    let parts: Vec<(Vec<u32>, Vec<f32>)> = (0..rows)
        .into_par_iter()
        .map(|row| {
            let (mut columns, mut values) = (Vec::new(), Vec::new());
            for col in 0..cols {
                let draw = mix(key ^ mix((row as u64) << 32 | col as u64));
                if draw >> 32 < below {
                    columns.push(col as u32);
                    values.push(value(mix(draw)));
                }
            }
            (columns, values)
        })
        .collect();
    let mut row_ptr = vec![0];
    let (mut columns, mut values) = (Vec::new(), Vec::new());
    for (row_columns, row_values) in parts {
        columns.extend(row_columns);
        values.extend(row_values);
        row_ptr.push(u32::checked(columns.len(), "non-zeros")?);
    }
    Csr::new(rows, cols, row_ptr, columns, values)
}

/// The sum of four uniform draws is close to normal; it is never 0.
fn value(bits: u64) -> f32 {
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
    // 37,837 is the deviation of that sum.
    (sum as f32 + 0.5 - 131_070.0) / 37_837.0 * 0.02
}

/// SplitMix64's output function (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_have_the_density_asked_for_and_repeat() {
        let one = csr([200, 500], 0.05, 7, 0).unwrap();
        assert!((one.density() - 0.05).abs() < 0.005, "{}", one.density());
        assert_eq!(one, csr([200, 500], 0.05, 7, 0).unwrap());
        assert_ne!(one, csr([200, 500], 0.05, 7, 1).unwrap());
        assert_eq!(csr([3, 3], 1.0, 0, 0).unwrap().nnz(), 9);
        assert_eq!(csr([3, 3], 0.0, 0, 0).unwrap().nnz(), 0);
    }
}
