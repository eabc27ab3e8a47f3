//! The third pass: rows to planes.

use rayon::prelude::*;
use residua_format::file::{ContainerWriter, Dtype, MatrixMeta, Plane};
use residua_format::gap::GapPatternBuilder;
use residua_format::{FormatError, Grid, ValueType};

use super::cut::Cut;
use super::encode::Encoded;
use super::feedback::{Feedback, Storage};
use super::fit::Costs;
use super::inputs::Job;
use super::residual::{Base, Scratch};
use super::select::Kept;
use super::source::Source;
use super::waiting_plane::WaitingPlane;
use crate::SplitError;
use crate::float::sum_of_squares;

/// Pieces of a block of emitted rows for each thread.
const PIECES: usize = 4;

/// Writes the planes of one tensor after the other. Base codes go straight to the output. The other planes wait in
/// temporary files until it is their turn; those of the base's scales are the [`Source`]'s.
pub(super) struct Emitter {
    writer: ContainerWriter,
    values: ValueType,
    pieces: Vec<(Kept, Encoded)>,
    codes: Vec<u8>,
    fed_scales: Vec<f32>,
    gaps: WaitingPlane,
    value_plane: WaitingPlane,
    value_scales: WaitingPlane,
    // The current tensor:
    builder: GapPatternBuilder,
    cut: Cut,
    modes: bool,
    ties_left: u64,
    squares: f64,
    gain: f64,
    lowest: Option<f32>,
}

/// What error feedback needs to know about the current tensor.
#[derive(Debug)]
pub(super) struct Feeding {
    pub(super) feedback: Feedback,
    pub(super) costs: Costs,
    pub(super) storage: Storage,
}

impl Emitter {
    pub(super) fn new(writer: ContainerWriter, values: ValueType) -> Result<Self, SplitError> {
        let spool = || WaitingPlane::beside(writer.path());
        Ok(Self {
            values,
            pieces: Vec::new(),
            codes: Vec::new(),
            fed_scales: Vec::new(),
            gaps: spool()?,
            value_plane: spool()?,
            value_scales: spool()?,
            builder: GapPatternBuilder::new(),
            cut: Cut { score: 0.0, ties: 0 },
            modes: false,
            ties_left: 0,
            squares: 0.0,
            gain: 0.0,
            lowest: None,
            writer,
        })
    }

    pub(super) fn into_writer(self) -> ContainerWriter {
        self.writer
    }

    /// Starts a tensor. `modes` says whether its rows choose how their columns are stored.
    pub(super) fn begin(&mut self, job: &Job<'_>, cut: Cut, modes: bool) -> Result<(), SplitError> {
        self.modes = modes;
        self.builder = GapPatternBuilder::new();
        (self.cut, self.ties_left) = (cut, cut.ties);
        (self.squares, self.gain, self.lowest) = (0.0, 0.0, None);
        let threads = rayon::current_num_threads();
        self.pieces.resize_with(PIECES * threads, Default::default);
        if job.kind.is_some() {
            self.writer.begin_plane(&job.rows.info.name, Plane::Base, Dtype::U8)?;
        }
        Ok(())
    }

    /// Emits the next rows of the tensor, from `first` on.
    pub(super) fn rows(
        &mut self,
        job: &Job<'_>,
        first: usize,
        raw: &[u8],
        base: Base<'_>,
        weights: &[f32],
        feeding: Option<&Feeding>,
    ) -> Result<(), SplitError> {
        let (cols, row_bytes) = (job.rows.cols, job.rows.row_bytes());
        let rows = raw.len() / row_bytes;
        let piece_rows = rows.div_ceil(self.pieces.len());
        let used = rows.div_ceil(piece_rows);
        self.select(job, first, raw, base, weights, piece_rows)?;
        let pieces = &mut self.pieces[..used];
        for (kept, _) in &mut *pieces {
            kept.settle(weights, self.cut, &mut self.ties_left);
        }
        if let Some(feeding) = feeding {
            self.feed(job, first, raw, base, feeding, piece_rows)?;
        }

        let pieces = &mut self.pieces[..used];
        let (values, modes) = (self.values, self.modes);
        let overflows: Vec<_> = pieces
            .par_iter_mut()
            .enumerate()
            .map(|(piece, (kept, encoded))| {
                encoded.reset(modes);
                (0..kept.ends.len()).find_map(|row| {
                    let (columns, residuals) = (&kept.columns[kept.row(row)], kept.values(row));
                    let at = encoded.push_row(columns, residuals, cols, values).err()?;
                    Some((first + piece * piece_rows + row, columns[at] as usize, residuals.0[at]))
                })
            })
            .collect();
        if let Some((row, col, value)) = overflows.into_iter().flatten().next() {
            let (tensor, dtype) = (job.rows.info.name.clone(), values.name().to_owned());
            return Err(SplitError::Overflow { tensor, row, col, value: value.into(), dtype });
        }
        self.write(job, used)
    }

    /// Computes residuals and selects those that are kept. Writes the codes of the base.
    fn select(
        &mut self,
        job: &Job<'_>,
        first: usize,
        raw: &[u8],
        base: Base<'_>,
        weights: &[f32],
        piece_rows: usize,
    ) -> Result<(), SplitError> {
        let (cols, row_bytes, float) = (job.rows.cols, job.rows.row_bytes(), job.rows.float);
        let rows = raw.len() / row_bytes;
        let (kind, cut) = (job.kind, self.cut);
        let code_bytes = kind.map_or(0, |kind| kind.row_bytes(cols));
        self.codes.resize(rows * code_bytes, 0);

        let mut codes = &mut self.codes[..];
        let mut work = Vec::new();
        for (start, (kept, _)) in (0..rows).step_by(piece_rows).zip(&mut self.pieces) {
            let end = rows.min(start + piece_rows);
            let (own, other) = codes.split_at_mut((end - start) * code_bytes);
            codes = other;
            work.push((start..end, kept, own));
        }
        let errors: Vec<_> = work
            .into_par_iter()
            .map_init(
                || Scratch::new(cols),
                |scratch, (range, kept, codes)| {
                    kept.reset(range.len() * cols);
                    for (i, row) in range.enumerate() {
                        let raw = &raw[row * row_bytes..(row + 1) * row_bytes];
                        let base = base.rows(row..row + 1, &job.rows);
                        let (residual, row_weights) = match scratch.residual(float, raw, base) {
                            Ok(both) => both,
                            Err(col) => return Some((row, col)),
                        };
                        if let Base::Quantized { coder, scales, multipliers } = base {
                            let codes = &mut codes[i * code_bytes..(i + 1) * code_bytes];
                            coder.code_row(row_weights, scales, multipliers, codes);
                        }
                        kept.push_row(residual, weights, cut);
                    }
                    None
                },
            )
            .collect();
        match errors.into_iter().flatten().next() {
            None => Ok(()),
            Some((row, col)) => {
                let base = base.rows(row..row + 1, &job.rows).dense();
                let raw = &raw[row * row_bytes..(row + 1) * row_bytes];
                Err(job.residual_error(first + row, col, raw, base))
            }
        }
    }

    /// Feeds errors back. Replaces codes, scales, and the values of the kept entries.
    fn feed(
        &mut self,
        job: &Job<'_>,
        first: usize,
        raw: &[u8],
        base: Base<'_>,
        feeding: &Feeding,
        piece_rows: usize,
    ) -> Result<(), SplitError> {
        let Feeding { feedback, costs, storage } = feeding;
        let Base::Quantized { scales, multipliers, .. } = base else { return Ok(()) };
        let (cols, row_bytes, float) = (job.rows.cols, job.rows.row_bytes(), job.rows.float);
        let (code_bytes, groups) = (costs.kind().row_bytes(cols), costs.kind().groups(cols));
        let blocks = costs.kind().blocks(cols);
        let fed = self.fed_scales.len();
        self.fed_scales.extend_from_slice(scales);
        let work = (raw.par_chunks(piece_rows * row_bytes))
            .zip_eq(self.codes.par_chunks_mut(piece_rows * code_bytes))
            .zip_eq(self.fed_scales[fed..].par_chunks_mut(piece_rows * groups))
            .zip(&mut self.pieces);
        let errors: Vec<_> = work
            .enumerate()
            .map(|(piece, (((raw, codes), scales), (kept, _)))| {
                let mut base = vec![0.0; raw.len() / row_bytes * cols];
                float.widen(raw, &mut base);
                let rows = piece * piece_rows..piece * piece_rows + raw.len() / row_bytes;
                let multipliers = &multipliers[rows.start * blocks..rows.end * blocks];
                let fed = feedback.feed(*storage, costs, &mut base, scales, multipliers, kept);
                fed.map_err(|(row, col)| (first + piece * piece_rows + row, col))?;
                let mut scratch = Scratch::new(cols);
                kept.differences.reserve(kept.columns.len());
                for (row, raw) in raw.chunks(row_bytes).enumerate() {
                    let base = &base[row * cols..(row + 1) * cols];
                    let scales = &scales[row * groups..(row + 1) * groups];
                    let codes = &mut codes[row * code_bytes..(row + 1) * code_bytes];
                    let multipliers = &multipliers[row * blocks..(row + 1) * blocks];
                    costs.coder().code_row(base, scales, multipliers, codes);
                    let differences = scratch.differences(float, raw, base);
                    kept.squares[row] = sum_of_squares(differences);
                    let columns = &kept.columns[kept.row(row)];
                    kept.differences.extend(columns.iter().map(|&col| differences[col as usize]));
                }
                Ok(())
            })
            .collect();
        match errors.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some((row, col)) => {
                let (tensor, dtype) = (job.rows.info.name.clone(), "f32".to_owned());
                Err(SplitError::Overflow { tensor, row, col, value: f64::INFINITY, dtype })
            }
        }
    }

    /// The scales of all rows that were fed since the last call.
    pub(super) fn take_fed_scales(&mut self) -> std::vec::Drain<'_, f32> {
        self.fed_scales.drain(..)
    }

    fn write(&mut self, job: &Job<'_>, used: usize) -> Result<(), SplitError> {
        let format = |source: FormatError| SplitError::Format { tensor: job.rows.info.name.clone(), source };
        if job.kind.is_some() {
            self.writer.write(&self.codes)?;
        }
        for (kept, encoded) in &self.pieces[..used] {
            encoded.plans.iter().try_for_each(|plan| self.builder.push(plan)).map_err(format)?;
            self.gaps.write(&encoded.index)?;
            self.value_plane.write(&encoded.values)?;
            self.value_scales.write(bytemuck::cast_slice(&encoded.scales))?;
            // Row by row, so that the sum does not depend on the pieces.
            self.squares = kept.squares.iter().fold(self.squares, |sum, s| sum + s);
            self.gain = encoded.gains.iter().fold(self.gain, |sum, s| sum + s);
            self.lowest = kept.lowest.into_iter().chain(self.lowest).reduce(f32::min);
        }
        Ok(())
    }

    /// Writes the planes that waited, and the metadata.
    pub(super) fn end(
        &mut self,
        job: &Job<'_>,
        source: &mut Source,
        grid: Option<&Grid>,
        base_hash: Option<String>,
    ) -> Result<MatrixMeta, SplitError> {
        let name = &job.rows.info.name;
        let writer = &mut self.writer;
        let spooled = |plane, dtype, spool: &mut WaitingPlane, writer: &mut ContainerWriter| {
            writer.begin_plane(name, plane, dtype)?;
            spool.drain(writer)?;
            writer.end_plane()?;
            Ok::<_, SplitError>(())
        };
        if job.kind.is_some() {
            writer.end_plane()?;
            source.drain_scales(name, writer)?;
        }
        if let Some(levels) = grid.map(Grid::levels).filter(|levels| !levels.is_empty()) {
            writer.plane(name, Plane::BaseLevels, Dtype::I8, bytemuck::cast_slice(levels))?;
        }
        let builder = std::mem::take(&mut self.builder);
        let mut meta = MatrixMeta::new([job.rows.rows, job.rows.cols], job.rows.info.dtype);
        meta.nnz = builder.nnz() as u64;
        meta.entries = builder.entries() as u64;
        meta.index_bytes = builder.index_bytes() as u64;
        meta.values = Some(self.values);
        meta.base = job.kind;
        meta.tensor_shape = (job.rows.info.shape.len() != 2).then(|| job.rows.info.shape.clone());
        meta.base_hash = base_hash;
        let (row_ptr, modes) = builder.finish();
        meta.row_modes = modes.is_some();
        writer.plane(name, Plane::RowPtr, Dtype::U32, row_ptr.as_bytes())?;
        if let Some((row_modes, index_ptr)) = modes {
            writer.plane(name, Plane::RowModes, Dtype::U8, &row_modes)?;
            writer.plane(name, Plane::IndexPtr, Dtype::U32, index_ptr.as_bytes())?;
        }
        spooled(Plane::Gaps, Dtype::U8, &mut self.gaps, writer)?;
        spooled(Plane::Values, value_dtype(self.values), &mut self.value_plane, writer)?;
        if self.values == ValueType::I8 {
            spooled(Plane::Scales, Dtype::BF16, &mut self.value_scales, writer)?;
        }
        writer.matrix(name, meta.clone());
        Ok(meta)
    }

    /// The sum of squared residuals, and by how much the stored residual lowers it.
    pub(super) fn squares(&self) -> (f64, f64) {
        (self.squares, self.gain)
    }

    /// The lowest comparable score that was kept.
    pub(super) fn lowest(&self) -> Option<f32> {
        self.lowest
    }

    /// Bytes of an element of a plane, except the base's scales.
    pub(super) fn element_bytes(&self, plane: Plane) -> u64 {
        match plane {
            Plane::RowPtr | Plane::IndexPtr | Plane::BaseScales => 4,
            Plane::Scales => 2,
            Plane::RowModes | Plane::Gaps | Plane::Base | Plane::BaseLevels => 1,
            Plane::Values => self.values.bytes() as u64,
        }
    }
}

fn value_dtype(values: ValueType) -> Dtype {
    match values {
        ValueType::F32 => Dtype::F32,
        ValueType::F16 => Dtype::F16,
        ValueType::Bf16 => Dtype::BF16,
        ValueType::I8 => Dtype::I8,
    }
}
