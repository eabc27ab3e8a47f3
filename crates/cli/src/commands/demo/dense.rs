//! The dense product for the comparison: the `gemm` crate at one thread. It is the fastest one in Rust on the shapes
//! of the demo.

/// `y = W·x` for row-major `W [rows, cols]`, `x [cols, batch]` and `y [rows, batch]`.
///
/// # Panics
/// When a slice does not have its shape.
pub(super) fn multiply(w: &[f32], [rows, cols]: [usize; 2], x: &[f32], batch: usize, y: &mut [f32]) {
    assert_eq!((w.len(), x.len(), y.len()), (rows * cols, cols * batch, rows * batch));
    let (row, wide) = (cols as isize, batch as isize);
    // SAFETY: the lengths were checked. With these strides every element that a product of this shape touches
    // lies inside its slice. `y` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            rows,
            batch,
            cols,
            y.as_mut_ptr(),
            1,
            wide,
            false,
            w.as_ptr(),
            1,
            row,
            x.as_ptr(),
            1,
            wide,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn product_is_right() {
        // [[1, 2, 3], [4, 5, 6]] · [[1, 0], [0, 1], [1, 1]]
        let mut y = [9.0; 4];
        super::multiply(&[1., 2., 3., 4., 5., 6.], [2, 3], &[1., 0., 0., 1., 1., 1.], 2, &mut y);
        assert_eq!(y, [4.0, 5.0, 10.0, 11.0]);
    }
}
