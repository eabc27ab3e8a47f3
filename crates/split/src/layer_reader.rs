//! Reading a layer by blocks of rows.

use std::ops::Range;
use std::path::Path;

use residua_format::file::{Container, FileError, Held, MatrixMeta};
use residua_format::{GapCsr, QuantizedBase};
use residua_memory::{AlignedVec, Budget, BudgetError, Reservation};

use crate::SplitError;
use crate::file::SplitLayer;
use crate::float::Float;
use crate::rows::Rows;

/// Elements of a block. Larger blocks are not faster.
const MOST: usize = 1 << 20;

/// Reads base and residual of a layer by blocks of rows.
#[derive(Debug)]
pub(crate) struct LayerReader<'a> {
    layer: SplitLayer<'a>,
    /// The tensor of the base checkpoint, if the file does not hold the base.
    base: Option<Rows<'a>>,
}

impl<'a> LayerReader<'a> {
    /// # Errors
    /// When the base is another checkpoint, and that checkpoint or its tensor is missing or does not fit.
    pub(crate) fn new(layer: SplitLayer<'a>) -> Result<Self, SplitError> {
        Ok(Self { base: layer.base_rows()?, layer })
    }

    pub(crate) fn rows(&self) -> usize {
        self.layer.meta.shape[0]
    }

    pub(crate) fn cols(&self) -> usize {
        self.layer.meta.shape[1]
    }

    fn container(&self) -> &'a Container {
        self.layer.file.container()
    }

    /// The split file.
    pub(crate) fn path(&self) -> &'a Path {
        self.layer.file.path()
    }

    pub(crate) fn name(&self) -> &'a str {
        self.layer.name
    }

    pub(crate) fn meta(&self) -> &'a MatrixMeta {
        self.layer.meta
    }

    pub(crate) fn float(&self) -> Float {
        self.layer.float
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.cols() * self.layer.float.bytes()
    }

    /// Bytes of one row of the base.
    fn base_row_bytes(&self) -> usize {
        let cols = self.cols();
        self.layer.meta.base.map_or(self.row_bytes(), |kind| kind.row_bytes(cols) + 4 * kind.groups(cols))
    }

    /// Fails if the budget does not allow a block of one row and `other` bytes.
    pub(crate) fn require(&self, other: u64, budget: &Budget) -> Result<(), BudgetError> {
        // No entry costs more than two index bytes beside its value, or four in the widest matrices.
        let cols = self.cols();
        let index = if cols <= 1 << 16 { 2 } else { 4 };
        let values = self.layer.meta.values.map_or(4, |values| values.bytes());
        let row = cols * (index + values) + self.base_row_bytes() + 64;
        budget.require(row as u64 + other, &format!("one row of tensor {}", self.layer.name))
    }

    /// The rows from `first` on that fit in the budget; at least one. Each takes `other_row` bytes beside base and
    /// residual.
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
            if count == 1
                || self.container().rows_bytes(self.layer.name, rows.clone())? + own <= budget.available()
            {
                return Ok(rows);
            }
            count /= 2;
        }
    }

    /// Reads some rows of the base and, if asked, of the residual.
    pub(crate) fn read(
        &self,
        rows: Range<usize>,
        residual: bool,
        budget: &Budget,
    ) -> Result<LayerRows, SplitError> {
        let base = match &self.base {
            None => {
                BaseRows::Quantized(self.container().read_base_rows(self.layer.name, rows.clone(), budget)?)
            }
            Some(from) => {
                let bytes = rows.len() * self.row_bytes();
                let held = budget.reserve(bytes as u64, "rows of the base")?;
                let mut raw = AlignedVec::zeroed(bytes);
                from.read(rows.start, &mut raw)?;
                BaseRows::Dense(raw, self.layer.float, held)
            }
        };
        let residual = if residual {
            Some(self.container().read_gap_rows(self.layer.name, rows, budget)?)
        } else {
            None
        };
        Ok(LayerRows { base, residual })
    }

    /// Fails unless the bytes of the base that `hasher` has seen are those that the residual was taken from.
    pub(crate) fn check_base(&self, hasher: &blake3::Hasher) -> Result<(), SplitError> {
        self.base.as_ref().map_or(Ok(()), |base| self.layer.check_base(base, hasher))
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
    /// The bytes of the base, if it is another checkpoint.
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

    /// The place of the first value of the residual that is NaN or infinite.
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
