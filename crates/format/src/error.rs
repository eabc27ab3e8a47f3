//! Errors of matrices.

use residua_memory::ErrorKind;

use crate::ValueType;

/// Result of this crate.
pub(crate) type Result<T, E = FormatError> = std::result::Result<T, E>;

/// A matrix that breaks an invariant of its type, or does not fit the requested type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// Arrays that belong together differ in length.
    #[error("{what}: {found} elements, expected {expected}")]
    Length {
        /// Which array.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The length that follows from the other arrays or the shape.
        expected: usize,
    },
    /// Row pointers that do not start at 0, that fall, or that do not end at the number of entries.
    #[error("row pointer {position}: {found}, but {rule}")]
    RowPointer {
        /// Index into the pointer array.
        position: usize,
        /// The value there.
        found: i64,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An index outside the shape.
    #[error("entry {position}: {axis} {found} is outside a matrix of shape [{rows}, {cols}]")]
    OutOfRange {
        /// Which entry.
        position: usize,
        /// "row" or "column".
        axis: &'static str,
        /// The index found.
        found: i64,
        /// Shape of the matrix.
        rows: usize,
        /// Shape of the matrix.
        cols: usize,
    },
    /// Columns of a row that do not rise strictly.
    #[error("row {row}, entry {position}: column {found} does not rise above {previous}")]
    Unsorted {
        /// The row.
        row: usize,
        /// Which entry of the matrix.
        position: usize,
        /// The column found.
        found: usize,
        /// The column before it.
        previous: usize,
    },
    /// Two entries at one place, where the caller refused duplicates.
    #[error("two entries at row {row}, column {col}; ask for them to be summed, or remove one")]
    Duplicate {
        /// The row.
        row: usize,
        /// The column.
        col: usize,
    },
    /// A count or index that does not fit the requested type, or memory.
    #[error("{what} {found} does not fit {width}")]
    Overflow {
        /// What was counted.
        what: &'static str,
        /// The count.
        found: u64,
        /// The type that cannot hold it.
        width: &'static str,
    },
    /// A row of a gap-encoded matrix or of a base that breaks a rule.
    #[error("row {row}: {problem}")]
    GapRow {
        /// The row.
        row: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A codebook whose levels fall.
    #[error("level {position} of the codebook is below the one before")]
    Level {
        /// The place of the lower level.
        position: usize,
    },
    /// NaN or infinity where a finite number is needed.
    #[error("row {row}, column {col}: {value} is not a finite number")]
    NotFinite {
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A finite value that rounds to infinity in the requested value type.
    #[error("row {row}, column {col}: {value} is too large for {value_type}")]
    ValueOverflow {
        /// The row.
        row: usize,
        /// The column.
        col: usize,
        /// The value.
        value: f64,
        /// The type that cannot hold it.
        value_type: ValueType,
    },
    /// A matrix that another library's type cannot hold, or a matrix of that library that breaks its rules.
    #[error("{library}: {problem}")]
    Foreign {
        /// The library.
        library: &'static str,
        /// What it says.
        problem: String,
    },
    /// A scale that is negative, NaN, or so large that a code times the scale could be infinite.
    #[error("scale {position}: {value} is not a number from 0 to {limit:e}")]
    Scale {
        /// Index into the scales.
        position: usize,
        /// The value there.
        value: f32,
        /// The largest scale allowed.
        limit: f32,
    },
}

impl FormatError {
    /// Always [`ErrorKind::Input`].
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Input
    }
}
