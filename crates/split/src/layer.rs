//! Base and residual of one split tensor, read by blocks of rows.

use std::ops::Range;
use std::path::Path;

use residua_format::file::{Checkpoint, Container, FileError, Held, Kind, MatrixMeta, Op};
use residua_format::{GapCsr, QuantizedBase};
use residua_memory::{AlignedVec, Budget, BudgetError, Reservation};

use crate::SplitError;
use crate::float::Float;
use crate::rows::Rows;

/// Elements of a block beyond which more does not make it faster.
const MOST: usize = 1 << 20;

/// Opens a file that [`split`](crate::split) has written.
pub(crate) fn open_split(path: &Path) -> Result<Container, SplitError> {
    let container = Container::open(path)?;
    match container.kind() {
        Kind::Split => Ok(container),
        kind => {
            let problem = format!("holds no split checkpoint: its kind is {:?}", kind.name());
            Err(FileError::malformed(path, problem).into())
        }
    }
}

/// One split tensor.
#[derive(Debug)]
pub(crate) struct Layer<'a> {
    pub(crate) container: &'a Container,
    pub(crate) name: &'a str,
    pub(crate) meta: &'a MatrixMeta,
    pub(crate) float: Float,
    /// The base checkpoint's tensor, where the file does not hold the base itself.
    pub(crate) base: Option<Rows<'a>>,
}

impl<'a> Layer<'a> {
    /// `base` is needed where the container does not hold the base.
    pub(crate) fn new(
        container: &'a Container,
        (name, meta): &'a (String, MatrixMeta),
        base: Option<&'a Checkpoint>,
    ) -> Result<Self, SplitError> {
        let error = |problem: String| Err(SplitError::tensor(container.path(), name, problem));
        let Some(float) = Float::of(meta.dtype) else {
            return error(format!("element type {} cannot be split", meta.dtype));
        };
        if meta.op != Op::Add || meta.tensor_shape.is_some() || meta.shape.contains(&0) {
            return error(format!("op {} on shape {:?} is no split tensor", meta.op, meta.shape));
        }
        let base = match (meta.base, &meta.base_hash, base) {
            (Some(_), _, _) => None,
            (None, None, _) => return error("has neither a base nor the hash of one".to_owned()),
            (None, Some(_), None) => {
                return Err(SplitError::Usage(format!(
                    "{} does not hold the base of {name}: name the base checkpoint",
                    container.path().display()
                )));
            }
            (None, Some(_), Some(file)) => {
                let info = file.expect_tensor(name)?;
                let rows =
                    Rows::of(file, info).filter(|_| (&*info.shape, info.dtype) == (&meta.shape, meta.dtype));
                if rows.is_none() {
                    let problem = format!(
                        "is {} {:?}, the base was {} {:?}",
                        info.dtype, info.shape, meta.dtype, meta.shape
                    );
                    return Err(SplitError::tensor(file.file_of(info), name, problem));
                }
                rows
            }
        };
        Ok(Self { container, name, meta, float, base })
    }

    pub(crate) fn rows(&self) -> usize {
        self.meta.shape[0]
    }

    pub(crate) fn cols(&self) -> usize {
        self.meta.shape[1]
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.cols() * self.float.bytes()
    }

    /// Bytes of one base row.
    fn base_row_bytes(&self) -> usize {
        let cols = self.cols();
        self.meta.base.map_or(self.row_bytes(), |kind| kind.row_bytes(cols) + 4 * kind.groups(cols))
    }

    /// Fails if the budget does not allow a block of one row and, beside it, `other` bytes.
    pub(crate) fn require(&self, other: u64, budget: &Budget) -> Result<(), BudgetError> {
        // No row costs more than two index bytes beside its values, or four in the widest matrices.
        let cols = self.cols();
        let index = if cols <= 1 << 16 { 2 } else { 4 };
        let values = self.meta.values.map_or(4, |values| values.bytes());
        let row = cols * (index + values) + self.base_row_bytes() + 64;
        budget.require(row as u64 + other, &format!("one row of tensor {}", self.name))
    }

    /// The rows from `first` on that fit in what the budget has left when each takes `other_row` bytes
    /// beside base and residual; at least one.
    pub(crate) fn next_rows(
        &self,
        first: usize,
        other_row: u64,
        budget: &Budget,
    ) -> Result<Range<usize>, FileError> {
        let mut count = (MOST / self.cols()).clamp(1, self.rows() - first);
        loop {
            let rows = first..first + count;
            let own = count as u64 * (self.base_row_bytes() as u64 + other_row);
            if count == 1 || self.container.rows_bytes(self.name, rows.clone())? + own <= budget.available() {
                return Ok(rows);
            }
            count /= 2;
        }
    }

    /// Reads some rows, the residual only where asked for.
    pub(crate) fn read(
        &self,
        rows: Range<usize>,
        residual: bool,
        budget: &Budget,
    ) -> Result<LayerRows, SplitError> {
        let base = match &self.base {
            None => BaseRows::Quantized(self.container.read_base_rows(self.name, rows.clone(), budget)?),
            Some(from) => {
                let bytes = rows.len() * self.row_bytes();
                let held = budget.reserve(bytes as u64, "rows of the base")?;
                let mut raw = AlignedVec::zeroed(bytes);
                from.read(rows.start, &mut raw)?;
                BaseRows::Dense(raw, self.float, held)
            }
        };
        let residual =
            if residual { Some(self.container.read_gap_rows(self.name, rows, budget)?) } else { None };
        Ok(LayerRows { base, residual })
    }
}

/// Some rows of base and residual.
#[derive(Debug)]
pub(crate) struct LayerRows {
    base: BaseRows,
    residual: Option<Held<GapCsr>>,
}

#[derive(Debug)]
enum BaseRows {
    Quantized(Held<QuantizedBase>),
    Dense(AlignedVec<u8>, Float, #[allow(dead_code, reason = "held")] Reservation),
}

impl LayerRows {
    /// The bytes of the base where it is another checkpoint's.
    pub(crate) fn dense_base(&self) -> Option<&[u8]> {
        match &self.base {
            BaseRows::Quantized(_) => None,
            BaseRows::Dense(raw, ..) => Some(raw),
        }
    }

    /// Non-zeros of the residual.
    pub(crate) fn nnz(&self) -> u64 {
        self.residual.as_ref().map_or(0, |residual| residual.nnz() as u64)
    }

    /// Where the first value of the residual is that is NaN or infinite.
    pub(crate) fn not_finite(&self) -> Option<(usize, u32)> {
        let residual = self.residual.as_ref()?;
        (0..residual.rows()).find_map(|row| {
            let (column, _) = residual.row(row).find(|(_, value)| !value.is_finite())?;
            Some((row, column))
        })
    }

    /// One row of the base.
    pub(crate) fn base(&self, row: usize, weights: &mut [f32]) {
        match &self.base {
            BaseRows::Quantized(base) => base.dequantize_row(row, weights),
            BaseRows::Dense(raw, float, _) => {
                let bytes = weights.len() * float.bytes();
                float.widen(&raw[row * bytes..(row + 1) * bytes], weights);
            }
        }
    }

    /// Adds one row's residual.
    pub(crate) fn add_residual(&self, row: usize, alpha: f32, weights: &mut [f32]) {
        if let Some(residual) = &self.residual {
            for (column, value) in residual.row(row) {
                weights[column as usize] += alpha * value;
            }
        }
    }
}
