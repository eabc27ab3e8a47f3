//! Shapes, and the rules by which they fit together.

use crate::BackendError;

/// Something with a number of rows and columns.
pub trait Shaped {
    /// `[rows, cols]` of a matrix or base; `[len, batch]` of a vector.
    fn shape(&self) -> [usize; 2];
}

/// The shape of a vector operand: `batch` vectors of `len` values each, interleaved.
///
/// Value `i` of vector `b` stands at `i·batch + b`. So a kernel reads one place of every vector side by side. A program
/// that holds one vector after the other, row-major `[batch, len]`, calls
/// [`upload_rows`](crate::Backend::upload_rows).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VectorShape {
    /// Values of one vector: input or output features.
    pub len: usize,
    /// Number of vectors.
    pub batch: usize,
}

impl From<VectorShape> for [usize; 2] {
    /// `[len, batch]`.
    fn from(shape: VectorShape) -> Self {
        [shape.len, shape.batch]
    }
}

/// The number of values of a vector of `shape`.
///
/// # Errors
/// [`BackendError::TooLarge`] when its bytes cannot be counted.
pub fn values(shape: impl Into<[usize; 2]>) -> Result<usize, BackendError> {
    let shape = shape.into();
    let limit = isize::MAX as usize / size_of::<f32>();
    shape[0].checked_mul(shape[1]).filter(|&values| values <= limit).ok_or(BackendError::TooLarge {
        what: "a vector",
        shape,
        limit: limit as u64,
        unit: "values",
    })
}

/// Checks that a slice to be uploaded holds what a vector of `shape` does.
///
/// # Errors
/// [`BackendError::Shape`] when it does not.
pub fn check_upload(found: usize, shape: impl Into<[usize; 2]>) -> Result<(), BackendError> {
    check_slice("upload", found, shape.into())
}

/// Checks that a slice to be read into holds what a vector of `shape` does.
///
/// # Errors
/// [`BackendError::Shape`] when it does not.
pub fn check_read(found: usize, shape: impl Into<[usize; 2]>) -> Result<(), BackendError> {
    check_slice("read_rows", found, shape.into())
}

fn check_slice(operation: &'static str, found: usize, shape: [usize; 2]) -> Result<(), BackendError> {
    let rule = "the slice must hold len × batch values";
    check(operation, ("slice", [found, 1]), ("vector", shape), rule, values(shape)? == found)
}

/// Checks that `a·x` is possible and `y` has its shape.
///
/// # Errors
/// [`BackendError::Shape`] when not.
pub fn check_product(
    operation: &'static str,
    a: &impl Shaped,
    x: &impl Shaped,
    y: &impl Shaped,
) -> Result<(), BackendError> {
    let [rows, cols] = a.shape();
    let ([len_x, batch_x], [len_y, batch_y]) = (x.shape(), y.shape());
    let pair = |name, vector| (("matrix", [rows, cols]), (name, vector));
    let (left, right) = pair("x", x.shape());
    check(operation, left, right, "x must have as many values per batch as columns", len_x == cols)?;
    let (left, right) = pair("y", y.shape());
    check(operation, left, right, "y must have as many values per batch as rows", len_y == rows)?;
    let rule = "x and y must have the same batch";
    check(operation, ("x", x.shape()), ("y", y.shape()), rule, batch_x == batch_y)
}

/// Checks that `x` and `y` hold one vector each.
///
/// # Errors
/// [`BackendError::Shape`] when not.
pub fn check_single(operation: &'static str, x: &impl Shaped, y: &impl Shaped) -> Result<(), BackendError> {
    let single = x.shape()[1] == 1 && y.shape()[1] == 1;
    check(operation, ("x", x.shape()), ("y", y.shape()), "both must have batch 1", single)
}

/// Checks that base, residual, `x` and `y` fit together.
///
/// # Errors
/// [`BackendError::Shape`] when not.
pub fn check_forward(
    base: &impl Shaped,
    residual: &impl Shaped,
    x: &impl Shaped,
    y: &impl Shaped,
) -> Result<(), BackendError> {
    check_layer("forward", base, residual)?;
    check_product("forward", base, x, y)
}

/// Checks that base and residual have the same shape.
///
/// # Errors
/// [`BackendError::Shape`] when not.
pub fn check_layer(
    operation: &'static str,
    base: &impl Shaped,
    residual: &impl Shaped,
) -> Result<(), BackendError> {
    let (left, right) = (base.shape(), residual.shape());
    check(operation, ("base", left), ("residual", right), "they must have the same shape", left == right)
}

fn check(
    operation: &'static str,
    (left_name, left): (&'static str, [usize; 2]),
    (right_name, right): (&'static str, [usize; 2]),
    rule: &'static str,
    holds: bool,
) -> Result<(), BackendError> {
    if holds {
        return Ok(());
    }
    Err(BackendError::Shape { operation, left_name, left, right_name, right, rule })
}
