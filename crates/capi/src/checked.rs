//! Checks a caller's layer: turns fields with any content into operands that a kernel may trust.
//!
//! Each call checks everything. To cache that a layer is valid, a call would have to notice that the caller wrote to a
//! buffer since. For that it must read the buffers, and a checksum costs as much as the check itself (CSR: one pass over
//! row_ptr and col_indices). So no state can be stale: a change between two calls takes effect in the second. Only a COO
//! part is cached, because it must be sorted first; the key is a hash of all its inputs.

use std::ffi::c_int;
use std::hash::Hasher;
use std::sync::Arc;

use residua::cpu::{BorrowedBase, BorrowedCsr};
use twox_hash::XxHash3_64;

use crate::buffer::{Buffer, find};
use crate::failure::Failure;
use crate::layer::{check_coo_reach, code_bytes};
use crate::triplets::{Rows, Triplet, rows, triplet};
use crate::types::{
    ORTH_FORMAT_COO, ORTH_FORMAT_COO32, ORTH_FORMAT_CSR, orth_base_t, orth_layer_t, orth_ortho_t,
};

/// A layer's buffers, held by the call, and its fields at the start of the call.
pub(crate) struct Checked {
    pub(crate) base: orth_base_t,
    pub(crate) alpha: f32,
    pub(crate) codes: Arc<Buffer>,
    scales: Arc<Buffer>,
    code_bytes: usize,
}

/// The sparse part, held by the call.
pub(crate) struct Ortho {
    fields: orth_ortho_t,
    pub(crate) values: Arc<Buffer>,
    rows: Option<Arc<Buffer>>,
    columns: Option<Arc<Buffer>>,
    indices: Option<Arc<Buffer>>,
    shape: [usize; 2],
}

impl Checked {
    pub(crate) fn new(layer: &orth_layer_t) -> Result<Self, Failure> {
        let base = layer.base;
        let (rows, cols) = (base.out_features, base.in_features);
        if rows == 0 || cols == 0 {
            return Err(Failure::refused(format!("a layer of {rows} x {cols} features is empty")));
        }
        let code_bytes = code_bytes(cols, rows, base.q_bits)?
            .ok_or_else(|| Failure::refused(format!("no memory holds {rows} x {cols} features")))?;
        if !layer.alpha.is_finite() {
            return Err(Failure::refused(format!("alpha is {}; it must be finite", layer.alpha)));
        }
        let checked = Self {
            base,
            alpha: layer.alpha,
            codes: find("base.q_weight", base.q_weight)?,
            scales: find("base.q_scales", base.q_scales)?,
            code_bytes,
        };
        checked.base()?;
        Ok(checked)
    }

    /// `[rows, cols]`.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.base.out_features, self.base.in_features]
    }

    pub(crate) fn codes(&self) -> Result<&[u8], Failure> {
        self.codes.slice("base.q_weight", self.code_bytes)
    }

    pub(crate) fn scales(&self) -> Result<&[f32], Failure> {
        self.scales.slice("base.q_scales", self.base.out_features)
    }

    pub(crate) fn base(&self) -> Result<BorrowedBase<'_>, Failure> {
        let [rows, cols] = self.shape();
        let of = if self.base.q_bits == 4 { BorrowedBase::int4 } else { BorrowedBase::int8 };
        of(rows, cols, self.codes()?, self.scales()?).map_err(Failure::Base)
    }
}

impl Ortho {
    /// The sparse part of a layer; `None` when it is empty.
    pub(crate) fn new(layer: &orth_layer_t) -> Result<Option<Self>, Failure> {
        let fields = layer.ortho;
        let [rows, cols] = [layer.base.out_features, layer.base.in_features];
        if fields.count < 0 {
            return Err(Failure::refused(format!("ortho.count is {}", fields.count)));
        }
        if fields.count == 0 {
            return Ok(None);
        }
        let (mut row_ptr, mut columns, mut indices) = (None, None, None);
        match fields.format {
            ORTH_FORMAT_COO => {
                check_coo_reach(cols, rows)?;
                indices = Some(find("ortho.indices", fields.indices)?);
            }
            ORTH_FORMAT_CSR | ORTH_FORMAT_COO32 => {
                row_ptr = Some(find("ortho.row_ptr", fields.row_ptr)?);
                columns = Some(find("ortho.col_indices", fields.col_indices)?);
            }
            other => {
                return Err(Failure::refused(format!(
                    "ortho.format is {other}; there are {ORTH_FORMAT_COO} (COO), {ORTH_FORMAT_CSR} (CSR) and \
                     {ORTH_FORMAT_COO32} (COO of 32-bit indices)"
                )));
            }
        }
        let values = find("ortho.values", fields.values)?;
        Ok(Some(Self { fields, values, rows: row_ptr, columns, indices, shape: [rows, cols] }))
    }

    fn is(&self, format: c_int) -> bool {
        self.fields.format == format
    }

    fn count(&self) -> usize {
        self.fields.count.unsigned_abs() as usize
    }

    fn values(&self) -> Result<&[f32], Failure> {
        self.values.slice("ortho.values", self.count())
    }

    fn array<'a, T: bytemuck::Pod>(
        buffer: &'a Option<Arc<Buffer>>,
        field: &'static str,
        len: usize,
    ) -> Result<&'a [T], Failure> {
        buffer.as_ref().ok_or(Failure::Null(field))?.slice(field, len)
    }

    /// Runs `work` on the sparse part as compressed rows: the caller's own arrays, or its sorted triplets.
    pub(crate) fn with_csr<T>(
        &self,
        work: impl FnOnce(&BorrowedCsr<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let [height, cols] = self.shape;
        if self.is(ORTH_FORMAT_CSR) {
            let row_ptr = Self::array(&self.rows, "ortho.row_ptr", height.saturating_add(1))?;
            let columns = Self::array(&self.columns, "ortho.col_indices", self.count())?;
            let csr = BorrowedCsr::new(height, cols, row_ptr, columns, self.values()?);
            return work(&csr.map_err(Failure::Ortho)?);
        }
        let sorted = || Ok::<Rows, Failure>(rows(height, self.triplets()?));
        let sorted = self.values.host.get(self.fingerprint()?, sorted)?;
        let csr = BorrowedCsr::new(height, cols, &sorted.row_ptr, &sorted.columns, &sorted.values);
        work(&csr.map_err(Failure::Ortho)?)
    }

    /// Every value with its place, in the caller's order.
    pub(crate) fn triplets(&self) -> Result<Vec<Triplet>, Failure> {
        let (shape, count, values) = (self.shape, self.count(), self.values()?);
        if self.is(ORTH_FORMAT_CSR) {
            return self.with_csr(|csr| {
                let row = |(row, pair): (usize, &[i32])| {
                    (pair[0] as usize..pair[1] as usize).map(move |at| (row as u32, at))
                };
                let places = csr.row_ptr().windows(2).enumerate().flat_map(row);
                let one = |(row, at): (u32, usize)| Triplet {
                    row,
                    col: csr.columns()[at] as u32,
                    value: values[at],
                };
                Ok(places.map(one).collect())
            });
        }
        let place = |at: usize, row: i64, col: i64| triplet(at, shape, row, col, values[at]);
        let triplets: Result<Vec<Triplet>, _> = if self.is(ORTH_FORMAT_COO) {
            let flat: &[u16] = Self::array(&self.indices, "ortho.indices", count)?;
            let cols = shape[1];
            let split = |(at, &flat): (usize, &u16)| {
                place(at, (usize::from(flat) / cols) as i64, (usize::from(flat) % cols) as i64)
            };
            flat.iter().enumerate().map(split).collect()
        } else {
            let rows: &[i32] = Self::array(&self.rows, "ortho.row_ptr", count)?;
            let columns: &[i32] = Self::array(&self.columns, "ortho.col_indices", count)?;
            let places = rows.iter().zip(columns).enumerate();
            places.map(|(at, (&row, &col))| place(at, row.into(), col.into())).collect()
        };
        triplets.map_err(Failure::Ortho)
    }

    /// A hash of all inputs of the triplets. A collision would only return the rows of another part: cached rows are
    /// valid for any hash.
    pub(crate) fn fingerprint(&self) -> Result<u64, Failure> {
        let count = self.count();
        let mut hash = XxHash3_64::new();
        for field in [self.fields.format as usize, self.shape[0], self.shape[1], count] {
            hash.write_usize(field);
        }
        if self.is(ORTH_FORMAT_COO) {
            hash.write(bytemuck::cast_slice(Self::array::<u16>(&self.indices, "ortho.indices", count)?));
        } else {
            let rows = if self.is(ORTH_FORMAT_CSR) { self.shape[0].saturating_add(1) } else { count };
            hash.write(bytemuck::cast_slice(Self::array::<i32>(&self.rows, "ortho.row_ptr", rows)?));
            hash.write(bytemuck::cast_slice(Self::array::<i32>(&self.columns, "ortho.col_indices", count)?));
        }
        hash.write(bytemuck::cast_slice(self.values()?));
        Ok(hash.finish())
    }
}
