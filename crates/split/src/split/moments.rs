//! Second moments of a layer's inputs, and the factors that error feedback takes from them.

use faer::{Mat, Side};
use residua_format::file::{Checkpoint, Dtype, TensorInfo};
use residua_memory::AlignedVec;

use super::feedback::Feedback;
use crate::SplitError;

/// Second moments in diagonal blocks lie at multiples of so many columns, so that no group of columns lies in two.
pub(crate) const UNIT: usize = 128;

/// Share of the mean square that is added to every mean square.
const DAMPING: f64 = 0.01;

/// What a calibration file says about one tensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calibration<'a> {
    file: &'a Checkpoint,
    info: &'a TensorInfo,
    cols: usize,
    /// Columns of a diagonal block of second moments; `None` if there are only mean squares.
    block: Option<usize>,
}

impl<'a> Calibration<'a> {
    pub(crate) fn of(file: &'a Checkpoint, name: &str, cols: usize) -> Result<Self, SplitError> {
        let info = file.expect_tensor(name)?;
        let block = match *info.shape {
            [length] if length == cols => Ok(None),
            [blocks, size, other]
                if size == other
                    && (1..=cols).contains(&size)
                    && blocks == cols.div_ceil(size)
                    && (size == cols || size % UNIT == 0) =>
            {
                Ok(Some(size))
            }
            _ => Err(()),
        };
        match block {
            Ok(block) if info.dtype == Dtype::F32 => Ok(Self { file, info, cols, block }),
            _ => {
                let problem = format!(
                    "is {} {:?}, but {cols} input features need F32 [{cols}], or F32 [blocks, n, n] with second moments",
                    info.dtype, info.shape
                );
                Err(SplitError::tensor(file.file_of(info), name, problem))
            }
        }
    }

    /// Bytes of memory that feedback takes.
    pub(super) fn bytes(&self) -> u64 {
        self.block.map_or(0, |block| moments_bytes(block, self.cols))
    }

    /// Features of a block of second moments; `None` if there are only mean squares.
    pub(crate) fn block(&self) -> Option<usize> {
        self.block
    }

    /// Rows of the second moments, `[rows, features of the block]`: those of features from `first` on, all of one
    /// block.
    pub(crate) fn rows(&self, first: usize, rows: usize) -> Result<Vec<f64>, SplitError> {
        let block = self.block.unwrap_or(self.cols);
        let size = block.min(self.cols - first / block * block);
        let mut line = AlignedVec::<f32>::zeroed(size);
        let mut moments = Vec::with_capacity(rows * size);
        for row in first..first + rows {
            self.file.read_at(self.info, (4 * row * block) as u64, line.as_bytes_mut())?;
            if let Some(col) = line.iter().position(|h| !h.is_finite()) {
                let other = row / block * block + col;
                return Err(self
                    .problem(format!("second moment of input features {row} and {other} is {}", line[col])));
            }
            moments.extend(line.iter().map(|&h| f64::from(h)));
        }
        Ok(moments)
    }

    /// The mean squares of the input features.
    pub(crate) fn mean_squares(&self) -> Result<AlignedVec<f32>, SplitError> {
        let mut h = AlignedVec::<f32>::zeroed(self.cols);
        match self.block {
            None => self.file.read_at(self.info, 0, h.as_bytes_mut())?,
            Some(block) => {
                for (col, h) in h.iter_mut().enumerate() {
                    let at = (col * block + col % block) as u64 * 4;
                    self.file.read_at(self.info, at, bytemuck::bytes_of_mut(h))?;
                }
            }
        }
        match h.iter().position(|h| !(h.is_finite() && *h >= 0.0)) {
            None => Ok(h),
            Some(col) => Err(self.problem(format!(
                "mean square {} of input feature {col} is not a finite number of at least 0",
                h[col]
            ))),
        }
    }

    /// The factors of error feedback; `None` without second moments. If `ordered`, columns with large mean squares come
    /// first: the others can make up for their errors.
    pub(super) fn feedback(&self, ordered: bool) -> Result<Option<Feedback>, SplitError> {
        let Some(block) = self.block else { return Ok(None) };
        let mut factors = AlignedVec::<f32>::zeroed(block * block * self.cols.div_ceil(block));
        let mut order = Vec::with_capacity(self.cols);
        for (number, factors) in factors.chunks_mut(block * block).enumerate() {
            let offset = (number * block * block * 4) as u64;
            self.file.read_at(self.info, offset, bytemuck::cast_slice_mut(factors))?;
            let first = number * block;
            let size = block.min(self.cols - first);
            let own = factor(factors, block, size, ordered).map_err(|problem| {
                self.problem(format!(
                    "second moments of input features {first} to {}: {problem}",
                    first + size - 1
                ))
            })?;
            order.extend(own.iter().map(|&col| first as u32 + col));
        }
        Ok(Some(Feedback::new(self.cols, block, factors, order)))
    }

    fn problem(&self, problem: String) -> SplitError {
        SplitError::tensor(self.file.file_of(self.info), &self.info.name, problem)
    }
}

/// Bytes of memory that a split takes for second moments in blocks of this size: the factors, three matrices while they
/// are computed, and vectors of a number for each column.
pub(crate) fn moments_bytes(block: usize, cols: usize) -> u64 {
    let square = (block as u64).saturating_mul(block as u64);
    let vectors = 3 * 4 * cols as u64 + 4 * block as u64;
    square.saturating_mul(4 * cols.div_ceil(block) as u64 + 3 * 8 + 4).saturating_add(vectors)
}

/// Replaces the second moments `H` in the first `size` rows and columns of a row-major matrix with `U`, each row
/// divided by its diagonal element: `UᵀU` is the inverse of the damped `H`, and `U` is upper triangular. If `ordered`,
/// rows and columns are those of `H` by falling mean squares. Returns the column at each place.
pub(super) fn factor(
    matrix: &mut [f32],
    stride: usize,
    size: usize,
    ordered: bool,
) -> Result<Vec<u32>, String> {
    let at = |row: usize, col: usize| row * stride + col;
    for row in 0..size {
        if let Some(col) = matrix[at(row, 0)..][..size].iter().position(|h| !h.is_finite()) {
            return Err(format!("[{row}, {col}] is {}", matrix[at(row, col)]));
        }
    }
    if let Some(row) = (0..size).find(|&row| matrix[at(row, row)] < 0.0) {
        return Err(format!("the mean square [{row}, {row}] is {}", matrix[at(row, row)]));
    }
    let mean = (0..size).map(|i| f64::from(matrix[at(i, i)])).sum::<f64>() / size as f64;
    let mut order: Vec<u32> = (0..size as u32).collect();
    if mean == 0.0 {
        // Features that are always 0: no column can make up for another.
        (0..size).for_each(|row| (0..size).for_each(|col| matrix[at(row, col)] = f32::from(row == col)));
        return Ok(order);
    }
    if ordered {
        let square = |col: u32| matrix[at(col as usize, col as usize)];
        order.sort_by(|&a, &b| square(b).total_cmp(&square(a)));
    }
    // H in reverse order of columns and its lower factor L: H⁻¹ is UᵀU with U = L⁻¹, in reverse order again.
    let reversed = Mat::from_fn(size, size, |row, col| {
        let (a, b) = (order[size - 1 - col] as usize, order[size - 1 - row] as usize);
        let value = f64::from(matrix[at(a.max(b), a.min(b))]);
        if row == col { value + DAMPING * mean } else { value }
    });
    let singular = || "they are not positive definite; calibrate with more samples".to_owned();
    let lower = reversed.llt(Side::Lower).map_err(|_| singular())?;
    drop(reversed);
    let mut inverse = Mat::<f64>::identity(size, size);
    lower.L().solve_lower_triangular_in_place(inverse.as_mut());
    for row in 0..size {
        let diagonal = inverse[(size - 1 - row, size - 1 - row)];
        if !(diagonal.is_finite() && diagonal > 0.0) {
            return Err(singular());
        }
        for col in 0..size {
            let value = if col >= row { inverse[(size - 1 - row, size - 1 - col)] / diagonal } else { 0.0 };
            matrix[at(row, col)] = value as f32;
        }
    }
    Ok(order)
}
