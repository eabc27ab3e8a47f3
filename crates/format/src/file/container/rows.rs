//! Reading blocks of rows, for matrices larger than memory.

use std::ops::Range;

use half::{bf16, f16};
use residua_memory::{AlignedVec, Budget, Reservation};
use safetensors::Dtype;

use super::{Container, MatrixMeta, Plane};
use crate::file::{FileError, Held, Result};
use crate::{BaseKind, FormatError, GapCsr, GapPattern, Grid, QuantizedBase, ValuePlane, ValueType};

/// Where some rows lie in the planes.
struct Extent {
    rows: Range<usize>,
    entries: Range<usize>,
    index: Range<usize>,
}

impl Extent {
    fn pattern_bytes(&self, meta: &MatrixMeta) -> u64 {
        let per_row = if meta.row_modes { 4 + 1 + 4 } else { 4 };
        (per_row * (self.rows.len() + 1) + self.index.len()) as u64
    }

    fn value_bytes(&self, value_type: ValueType) -> u64 {
        let scales = if value_type == ValueType::I8 { 4 * self.rows.len() } else { 0 };
        (value_type.bytes() * self.entries.len() + scales) as u64
    }
}

impl Container {
    /// Reads some rows of a sparse matrix. They become row 0 and on of the result.
    ///
    /// # Errors
    /// When there is no such matrix or row, its values are raw bits, a plane breaks an invariant in these rows (the
    /// error counts rows from the first one read), or the budget does not allow their bytes.
    pub fn read_gap_rows(&self, name: &str, rows: Range<usize>, budget: &Budget) -> Result<Held<GapCsr>> {
        let Some(value_type) = self.expect_matrix(name)?.values else {
            let dtype = self.plane(name, Plane::Values)?.dtype.to_string();
            let (path, tensor) = (self.path().into(), Plane::Values.tensor(name));
            return Err(FileError::Dtype {
                path,
                tensor,
                dtype,
                wanted: "numbers are needed, not raw bits".into(),
            });
        };
        let extent = self.extent(name, rows)?;
        let bytes = extent.pattern_bytes(self.expect_matrix(name)?) + extent.value_bytes(value_type);
        let held = self.reserve(name, bytes, budget)?;
        let pattern = self.pattern(name, &extent)?;
        let (first, count) = (extent.entries.start, extent.entries.len());
        let plane = Plane::Values;
        let values = match value_type {
            ValueType::F32 => ValuePlane::F32(self.read_vec(name, plane, first, count)?),
            ValueType::F16 => ValuePlane::F16(self.read_vec(name, plane, first, count)?),
            ValueType::Bf16 => ValuePlane::Bf16(self.read_vec(name, plane, first, count)?),
            ValueType::I8 => ValuePlane::I8 {
                codes: self.read_vec(name, plane, first, count)?,
                scales: self.read_scales(name, Plane::Scales, extent.rows.start, extent.rows.len())?,
            },
        };
        let gap = GapCsr::new(pattern, values).map_err(FileError::matrix(self.path(), name))?;
        Ok(Held::new(gap, held))
    }

    /// Reads the positions of the entries of some rows. Also returns their range in the value plane, in entries.
    ///
    /// # Errors
    /// As [`read_gap_rows`](Self::read_gap_rows), except that values may be raw bits.
    pub fn read_pattern_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        budget: &Budget,
    ) -> Result<(Held<GapPattern>, Range<u64>)> {
        let extent = self.extent(name, rows)?;
        let held = self.reserve(name, extent.pattern_bytes(self.expect_matrix(name)?), budget)?;
        let entries = extent.entries.start as u64..extent.entries.end as u64;
        Ok((Held::new(self.pattern(name, &extent)?, held), entries))
    }

    /// Reads some rows of a quantised base. They become row 0 and on of the result.
    ///
    /// # Errors
    /// When there is no such base or row, a scale is negative or not finite, or the budget does not allow
    /// their bytes.
    pub fn read_base_rows(
        &self,
        name: &str,
        rows: Range<usize>,
        budget: &Budget,
    ) -> Result<Held<QuantizedBase>> {
        let meta = self.expect_matrix(name)?;
        self.check_rows(name, meta, &rows)?;
        let Some(kind) = meta.base else {
            return Err(FileError::missing(self.path(), &Plane::Base.tensor(name), []));
        };
        let cols = meta.shape[1];
        let (row_bytes, groups) = (kind.row_bytes(cols), kind.groups(cols));
        let held = self.reserve(name, (rows.len() * (row_bytes + 4 * groups)) as u64, budget)?;
        let codes = self.read_vec(name, Plane::Base, rows.start * row_bytes, rows.len() * row_bytes)?;
        let scales = self.read_scales(name, Plane::BaseScales, rows.start * groups, rows.len() * groups)?;
        let grid = self.read_grid(name, kind)?;
        let base = QuantizedBase::new(rows.len(), cols, grid, codes, scales)
            .map_err(FileError::matrix(self.path(), name))?;
        Ok(Held::new(base, held))
    }

    /// What the codes of a base stand for.
    fn read_grid(&self, name: &str, kind: BaseKind) -> Result<Grid> {
        if !kind.is_codebook() {
            return Ok(kind.into());
        }
        let levels = self.read_vec(name, Plane::BaseLevels, 0, kind.levels())?;
        Grid::codebook(kind, &levels).map_err(FileError::matrix(self.path(), &Plane::BaseLevels.tensor(name)))
    }

    /// Reads scales, of a base or of I8 values. Those of 16 bits are widened.
    fn read_scales(&self, name: &str, plane: Plane, first: usize, count: usize) -> Result<AlignedVec<f32>> {
        let widen = match self.plane(name, plane)?.dtype {
            Dtype::F16 => |bits| f16::from_bits(bits).to_f32(),
            Dtype::BF16 => |bits| bf16::from_bits(bits).to_f32(),
            _ => return self.read_vec(name, plane, first, count),
        };
        let mut scales = AlignedVec::zeroed(count);
        let mut halves = [0u16; 2048];
        for (block, scales) in scales.chunks_mut(halves.len()).enumerate() {
            let offset = 2 * (first + block * halves.len()) as u64;
            let halves = &mut halves[..scales.len()];
            self.read_plane_at(name, plane, offset, bytemuck::cast_slice_mut(halves))?;
            scales.iter_mut().zip(halves).for_each(|(scale, half)| *scale = widen(*half));
        }
        Ok(scales)
    }

    /// Bytes of memory that [`read_gap_rows`](Self::read_gap_rows) takes for some rows; for raw bits,
    /// [`read_pattern_rows`](Self::read_pattern_rows) and the values.
    ///
    /// # Errors
    /// When there is no such matrix or row, or its pointers fall.
    pub fn rows_bytes(&self, name: &str, rows: Range<usize>) -> Result<u64> {
        let meta = self.expect_matrix(name)?;
        let extent = self.extent(name, rows)?;
        let values = match meta.values {
            Some(value_type) => extent.value_bytes(value_type),
            None => {
                extent.entries.len() as u64 * (self.plane(name, Plane::Values)?.dtype.bitsize() as u64 / 8)
            }
        };
        Ok(extent.pattern_bytes(meta) + values)
    }

    fn pattern(&self, name: &str, extent: &Extent) -> Result<GapPattern> {
        let meta = self.expect_matrix(name)?;
        let Extent { rows, entries, index } = extent;
        // The pattern refuses pointers that fall. Wrapping keeps them falling or makes them far too large.
        let rebased = |plane, first: usize| {
            let mut pointers = self.read_vec::<u32>(name, plane, rows.start, rows.len() + 1)?;
            pointers.iter_mut().for_each(|pointer| *pointer = pointer.wrapping_sub(first as u32));
            Ok(pointers)
        };
        let row_ptr = rebased(Plane::RowPtr, entries.start)?;
        let modes = if meta.row_modes {
            let row_modes = self.read_vec(name, Plane::RowModes, rows.start, rows.len())?;
            Some((row_modes, rebased(Plane::IndexPtr, index.start)?))
        } else {
            None
        };
        let bytes = self.read_vec(name, Plane::Gaps, index.start, index.len())?;
        GapPattern::new(rows.len(), meta.shape[1], row_ptr, bytes, modes)
            .map_err(FileError::matrix(self.path(), name))
    }

    /// Where some rows lie in the planes, from the pointers at their ends.
    fn extent(&self, name: &str, rows: Range<usize>) -> Result<Extent> {
        let meta = self.expect_matrix(name)?;
        self.check_rows(name, meta, &rows)?;
        let entries = self.pointers(name, Plane::RowPtr, &rows, meta.entries)?;
        let index = if meta.row_modes {
            self.pointers(name, Plane::IndexPtr, &rows, meta.index_bytes)?
        } else {
            entries.clone()
        };
        Ok(Extent { rows, entries, index })
    }

    fn check_rows(&self, name: &str, meta: &MatrixMeta, rows: &Range<usize>) -> Result<()> {
        if rows.start > rows.end || rows.end > meta.shape[0] {
            let problem = format!("rows {rows:?} asked for, it has {}", meta.shape[0]);
            return Err(FileError::tensor(self.path(), name, problem));
        }
        Ok(())
    }

    /// The pointers before and after some rows. `last` is what the last one of the matrix must be.
    fn pointers(&self, name: &str, plane: Plane, rows: &Range<usize>, last: u64) -> Result<Range<usize>> {
        let at = |row| Ok(self.read_vec::<u32>(name, plane, row, 1)?[0]);
        let (start, end) = (at(rows.start)?, at(rows.end)?);
        let problem = |position, found: u32, rule| {
            let error = FormatError::RowPointer { position, found: found.into(), rule };
            Err(FileError::matrix(self.path(), &plane.tensor(name))(error))
        };
        if rows.start == 0 && start != 0 {
            return problem(0, start, "the first is 0");
        }
        if u64::from(end) > last || (u64::from(end) < last && self.expect_matrix(name)?.shape[0] == rows.end)
        {
            return problem(rows.end, end, "the last is the length of the plane");
        }
        if start > end {
            return problem(rows.end, end, "they never fall");
        }
        Ok(start as usize..end as usize)
    }

    fn reserve(&self, name: &str, bytes: u64, budget: &Budget) -> Result<Reservation> {
        budget.reserve(bytes, &format!("matrix {name}")).map_err(FileError::budget(self.path()))
    }
}
