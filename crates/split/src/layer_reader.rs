//! Reading a layer by blocks of rows.

use std::ops::Range;
use std::path::Path;

use residua_format::file::{Container, FileError, Held, MatrixMeta, Plane};
use residua_format::{GapCsr, QuantizedBase};
use residua_memory::{AlignedVec, Budget, BudgetError, Reservation};

use crate::file::SplitLayer;
use crate::float::Float;
use crate::passed::BLOCK;
use crate::progress::check_stop;
use crate::rows::Rows;
use crate::{Progress, SplitError};

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

    /// Fails unless the planes have the hashes that the file stores. `residual` says whether those of the residual
    /// count.
    pub(crate) fn check_planes(
        &self,
        residual: bool,
        budget: &Budget,
        progress: &dyn Progress,
    ) -> Result<(), SplitError> {
        let (container, name, meta) = (self.container(), self.layer.name, self.meta());
        for plane in Plane::ALL.into_iter().filter(|plane| plane.belongs(meta)) {
            let wanted = residual || plane.of_base();
            let Some(expected) = meta.hashes.get(plane.suffix()).filter(|_| wanted) else { continue };
            let size = container.plane(name, plane)?.dtype.bitsize() as u64 / 8;
            let bytes = plane.elements(meta).unwrap_or(0) * size;
            let block = budget.available().clamp(1, BLOCK as u64).min(bytes);
            let _held = budget.reserve(block, "a block of a plane")?;
            let (mut block, mut hasher) = (vec![0; block as usize], blake3::Hasher::new());
            let mut done = 0;
            while done < bytes {
                check_stop(progress)?;
                let length = (bytes - done).min(block.len() as u64) as usize;
                let piece = &mut block[..length];
                container.read_plane_at(name, plane, done, piece)?;
                hasher.update_rayon(piece);
                done += piece.len() as u64;
            }
            let found = hasher.finalize().to_hex().to_string();
            if found != *expected {
                let what = format!("plane {} of tensor {name}", plane.suffix());
                let (path, expected) = (self.path().to_owned(), expected.clone());
                return Err(FileError::Hash { path, what, expected, found }.into());
            }
        }
        Ok(())
    }

    /// Fails unless all blocks together hold the base that the residual was taken from, and as many non-zeros as the
    /// metadata says.
    pub(crate) fn check(&self, seen: &Seen) -> Result<(), SplitError> {
        if let Some(base) = &self.base {
            self.layer.check_base(base, &seen.base)?;
        }
        let expected = self.meta().nnz;
        match seen.nnz {
            Some(nnz) if nnz != expected => {
                let problem = format!("holds {nnz} non-zeros, its metadata says {expected}");
                Err(SplitError::tensor(self.path(), self.layer.name, problem))
            }
            _ => Ok(()),
        }
    }

    /// The error for a weight that does not fit its element type.
    pub(crate) fn misfit(&self, (row, col, value): (usize, usize, f32)) -> SplitError {
        let (tensor, value) = (self.layer.name.to_owned(), f64::from(value));
        match value.is_finite() {
            true => SplitError::Overflow { tensor, row, col, value, dtype: self.meta().dtype.to_string() },
            false => SplitError::NotFinite { file: self.path().to_owned(), tensor, row, col, value },
        }
    }
}

/// What the blocks of a layer hold together.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The bytes of a base that is another checkpoint.
    base: blake3::Hasher,
    /// Non-zeros of the residual; `None` if it was not read.
    nnz: Option<u64>,
}

impl Seen {
    /// Adds the next block.
    pub(crate) fn add(&mut self, rows: &LayerRows) {
        if let BaseRows::Dense(raw, ..) = &rows.base {
            self.base.update_rayon(raw);
        }
        if let Some(residual) = &rows.residual {
            *self.nnz.get_or_insert(0) += residual.nnz() as u64;
        }
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
    /// One row of `base + alpha · residual`: as f32 in `weights`, as elements of type `float` in `out`. Returns the
    /// place and value of the first weight that does not fit the type.
    pub(crate) fn rebuild(
        &self,
        row: usize,
        alpha: f32,
        float: Float,
        weights: &mut [f32],
        out: &mut [u8],
    ) -> Option<(usize, usize, f32)> {
        self.base(row, weights);
        self.add_residual(row, alpha, weights);
        let col = float.narrow(weights, out).err()?;
        Some((row, col, weights[col]))
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
