//! From vectors one after the other to interleaved ones, and back.

/// Rows and columns of a tile of both matrices that stays in the first-level cache.
const TILE: usize = 32;

/// Turns a row-major matrix of `rows` rows into its transpose.
pub(crate) fn transpose(values: &[f32], rows: usize) -> Vec<f32> {
    let cols = values.len() / rows.max(1);
    let mut out = vec![0.0; values.len()];
    for row in (0..rows).step_by(TILE) {
        for col in (0..cols).step_by(TILE) {
            for r in row..rows.min(row + TILE) {
                for c in col..cols.min(col + TILE) {
                    out[c * rows + r] = values[r * cols + c];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_the_matrix_itself() {
        for (rows, cols) in [(0, 0), (1, 5), (5, 1), (31, 33), (64, 65), (70, 3)] {
            let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let transposed = transpose(&values, rows);
            for row in 0..rows {
                for col in 0..cols {
                    assert_eq!(transposed[col * rows + row], values[row * cols + col]);
                }
            }
            assert_eq!(transpose(&transposed, cols), values);
        }
    }
}
