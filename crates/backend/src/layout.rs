//! From vectors one after the other to interleaved ones, and back: for those who write a backend.

/// Rows and columns of a tile. Lines of both matrices are read and written whole.
const TILE: usize = 16;

/// Writes the transpose of a row-major matrix of `rows` rows to `out`.
///
/// Row-major `[batch, len]` becomes the interleaved `[len, batch]` of a [`VectorShape`](crate::VectorShape) with
/// `rows = batch`, and the other way round with `rows = len`.
///
/// # Panics
/// When `out` and `values` differ in length, or `rows` does not divide it.
pub fn transpose(values: &[f32], rows: usize, out: &mut [f32]) {
    let cols = values.len() / rows.max(1);
    assert!(rows * cols == values.len() && out.len() == values.len(), "not a matrix of {rows} rows");
    if rows == 1 || cols == 1 {
        return out.copy_from_slice(values);
    }
    let mut tile = [[0.0; TILE]; TILE];
    for row in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - row);
        for col in (0..cols).step_by(TILE) {
            let width = TILE.min(cols - col);
            if (height, width) != (TILE, TILE) {
                for r in row..row + height {
                    for c in col..col + width {
                        out[c * rows + r] = values[r * cols + c];
                    }
                }
                continue;
            }
            // Copies of a constant length are moves of registers.
            for (r, line) in tile.iter_mut().enumerate() {
                line.copy_from_slice(&values[(row + r) * cols + col..][..TILE]);
            }
            for c in 0..TILE {
                // `array::from_fn` may stay a call here, which costs more than the copies.
                let mut line = [0.0; TILE];
                line.iter_mut().zip(&tile).for_each(|(to, from)| *to = from[c]);
                out[(col + c) * rows + row..][..TILE].copy_from_slice(&line);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_is_the_matrix_itself() {
        for (rows, cols) in [(0, 0), (1, 5), (5, 1), (31, 33), (64, 65), (70, 3)] {
            let values: Vec<f32> = (0..rows * cols).map(|i| i as f32).collect();
            let (mut transposed, mut again) = (vec![f32::NAN; values.len()], vec![f32::NAN; values.len()]);
            transpose(&values, rows, &mut transposed);
            for row in 0..rows {
                for col in 0..cols {
                    assert_eq!(transposed[col * rows + row], values[row * cols + col]);
                }
            }
            transpose(&transposed, cols, &mut again);
            assert_eq!(again, values);
        }
    }
}
