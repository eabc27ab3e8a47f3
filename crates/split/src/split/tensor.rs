//! The passes over one tensor: column statistics, scales, score histogram, emit.

use rayon::prelude::*;
use residua_format::file::{ContainerWriter, MatrixMeta, Plane};
use residua_format::gap::RowPlan;
use residua_format::{BaseKind, Coder, Grid};

use super::columns::ColumnSums;
use super::cut::{Cut, Guess, find_cut};
use super::emit::{Emitter, Feeding};
use super::feedback::Storage;
use super::fit::{Costs, Fitted, Limits};
use super::histogram::Histogram;
use super::inputs::{Job, Keep};
use super::levels;
use super::residual::Scratch;
use super::room::Room;
use super::sample::{find_costs, spread};
use super::score::{ColumnWeights, comparable};
use super::source::Source;
use super::waiting_plane::WaitingPlane;
use crate::progress::check_stop;
use crate::rows::Rows;
use crate::{Importance, PlaneBytes, Progress, SplitError, SplitOptions, TensorReport};

/// Maximum distance between the columns of a sample.
const STRIDE: usize = 16;
/// Rows in the sample that decides about mode planes.
const MODE_SAMPLE: usize = 64;
/// Bytes that mode planes take for a row.
const MODE_BYTES: usize = 5;
/// Elements that one thread scores at a time.
const PIECE: usize = 1 << 16;

/// The buffers and settings for one tensor after the other.
pub(super) struct Splitter<'a> {
    options: &'a SplitOptions,
    room: Room,
    progress: &'a dyn Progress,
    source: Source,
    sums: ColumnSums,
    weights: ColumnWeights,
    histogram: Histogram,
    emitter: Emitter,
}

impl<'a> Splitter<'a> {
    pub(super) fn new(
        options: &'a SplitOptions,
        room: Room,
        writer: ContainerWriter,
        progress: &'a dyn Progress,
    ) -> Result<Self, SplitError> {
        let planes = [WaitingPlane::beside(writer.path())?, WaitingPlane::beside(writer.path())?];
        Ok(Self {
            options,
            progress,
            source: Source::new(room.kinds.is_empty(), room.block, planes),
            sums: ColumnSums::default(),
            weights: ColumnWeights::default(),
            histogram: Histogram::default(),
            emitter: Emitter::new(writer, options.values)?,
            room,
        })
    }

    pub(super) fn into_writer(self) -> ContainerWriter {
        self.emitter.into_writer()
    }

    /// Splits one tensor and writes its planes.
    pub(super) fn split(&mut self, job: &Job<'_>) -> Result<TensorReport, SplitError> {
        let third = job.rows.info.bytes / 3;
        let base_hash = self.statistics(job)?;
        self.weigh(job)?;
        self.progress.advance(third);
        let (cut, costs) = match job.kind {
            Some(kind) => self.fit_and_cut(job, kind).map(|(cut, costs)| (cut, Some(costs)))?,
            None => (self.cut(job)?, None),
        };
        self.progress.advance(third);
        let meta = self.emit(job, cut, costs, base_hash, third)?;
        Ok(self.report(job, &meta))
    }

    fn block_rows(&self, rows: &Rows<'_>) -> usize {
        self.room.block_rows(rows)
    }

    /// The first pass: sums of squares and the hash of the base. The sums also reveal weights that are not finite.
    fn statistics(&mut self, job: &Job<'_>) -> Result<Option<String>, SplitError> {
        let rows = &job.rows;
        self.sums.reset(rows.cols);
        let mut hasher = blake3::Hasher::new();
        for range in rows.blocks(self.block_rows(rows)) {
            check_stop(self.progress)?;
            let raw = self.source.weights(job, range.clone())?;
            self.sums.add(raw, rows.float);
            if let Some(error) =
                (!self.sums.all_finite()).then(|| rows.not_finite(range.start, raw)).flatten()
            {
                return Err(error);
            }
            if let Some(base) = self.source.dense(job, range)? {
                hasher.update_rayon(base);
            }
        }
        Ok(job.base.map(|_| hasher.finalize().to_hex().to_string()))
    }

    /// Sets the weights of the columns in the score.
    fn weigh(&mut self, job: &Job<'_>) -> Result<(), SplitError> {
        match (&self.options.importance, job.calibration) {
            (Importance::Uniform, _) => self.weights.set(std::iter::repeat_n(1.0, job.rows.cols)),
            (Importance::Calibration(_), Some(calibration)) => {
                let h = calibration.mean_squares()?;
                self.weights.set(h.iter().map(|&h| h.into()));
            }
            _ => self.weights.set(self.sums.means(job.rows.rows)),
        }
        Ok(())
    }

    /// The pass that counts scores: which are kept.
    fn cut(&mut self, job: &Job<'_>) -> Result<Cut, SplitError> {
        let elements = job.rows.info.elements();
        let kept = match job.keep {
            Keep::Threshold(threshold) => {
                return Ok(Cut { score: self.weights.comparable(threshold), ties: u64::MAX });
            }
            Keep::Share(density) => kept(density, elements),
        };
        if kept == 0 {
            return Ok(Cut { score: f32::INFINITY, ties: 0 });
        } else if kept >= elements {
            return Ok(Cut { score: 0.0, ties: u64::MAX });
        }
        let guess = self.guess(job, kept as f64 / elements as f64)?;
        let mut histogram = std::mem::take(&mut self.histogram);
        let cut =
            find_cut(kept, guess, self.room.bins, &mut histogram, |histogram| self.scan(job, histogram))?;
        self.histogram = histogram;
        cut.ok_or_else(|| {
            let Rows { file, info, .. } = job.rows;
            SplitError::tensor(file.file_of(info), &info.name, "changed while it was read")
        })
    }

    /// Chooses the scales of the base, and the scores that are kept. Also returns the costs that led to them.
    fn fit_and_cut(&mut self, job: &Job<'_>, kind: BaseKind) -> Result<(Cut, Costs), SplitError> {
        let coder = self.coder(job, kind)?;
        if let Some(costs) = self.costs(job, &coder)? {
            let sums = self.fit(job, &costs)?;
            let cut = self.cut(job)?;
            match job.keep {
                Keep::Share(density)
                    if !costs.pays(&sums, cut.score, kept(density, job.rows.info.elements())) => {}
                _ => return Ok((cut, costs)),
            }
        }
        let costs = Costs::none(kind);
        self.fit(job, &costs)?;
        Ok((self.cut(job)?, costs))
    }

    /// What the codes stand for. A codebook is learned from a sample.
    fn coder(&self, job: &Job<'_>, kind: BaseKind) -> Result<Coder, SplitError> {
        if !kind.is_codebook() {
            return Ok(Grid::from(kind).into());
        }
        let share = match job.keep {
            Keep::Share(density) => density,
            Keep::Threshold(_) => 0.0,
        };
        Ok(levels::learn(&job.rows, kind, share, (self.weights.get(), job.calibration.is_none()))?.into())
    }

    /// The costs that choose the scales; `None` if plain scales are best.
    fn costs(&self, job: &Job<'_>, coder: &Coder) -> Result<Option<Costs>, SplitError> {
        let (values, weights) = (self.options.values, self.weights.get());
        let largest = self.sums.total().sqrt();
        let plain = Costs::none(coder.grid().kind());
        let costs = |limits| Costs::new(coder, plain.coder(), values, weights, limits, largest);
        let elements = job.rows.info.elements();
        let density = match job.keep {
            Keep::Threshold(threshold) => {
                let limit = self.weights.comparable(threshold);
                return Ok(costs(Limits::all(limit)));
            }
            Keep::Share(density) => density,
        };
        match kept(density, elements) {
            0 => Ok(costs(Limits::all(f32::INFINITY))),
            all if all >= elements => Ok(None),
            some => {
                let share = some as f64 / elements as f64;
                find_costs(&job.rows, share, weights, &plain, costs)
            }
        }
    }

    /// The pass that writes the scales of the base.
    fn fit(&mut self, job: &Job<'_>, costs: &Costs) -> Result<Fitted, SplitError> {
        let Rows { cols, float, .. } = job.rows;
        let (row_bytes, kind) = (job.rows.row_bytes(), costs.kind());
        let (groups, blocks) = (kind.groups(cols), kind.blocks(cols));
        let mut sums = Fitted::default();
        self.source.clear_scales(costs.coder().clone())?;
        for range in job.rows.blocks(self.block_rows(&job.rows)) {
            check_stop(self.progress)?;
            let rows = self.source.write_scales(job, kind, range.clone(), |raw, scales, multipliers| {
                raw.par_chunks(row_bytes)
                    .zip_eq(scales.par_chunks_mut(groups))
                    .zip_eq(multipliers.par_chunks_mut(blocks.max(1)))
                    .enumerate()
                    .with_min_len((PIECE / cols).max(1))
                    .map_init(
                        || Scratch::new(cols),
                        |scratch, (row, ((raw, scales), multipliers))| {
                            costs
                                .fit(scratch.weights(float, raw), scales, &mut multipliers[..blocks])
                                .map_err(|col| job.residual_error(range.start + row, col, raw, &[]))
                        },
                    )
                    .collect::<Result<Vec<_>, _>>()
            })?;
            // Row by row, so that the sums do not depend on blocks and threads.
            sums = rows.into_iter().fold(sums, Fitted::add);
        }
        self.source.round_scales(sums.half_scales());
        Ok(sums)
    }

    /// Guesses where the cut lies, from a sample of rows.
    fn guess(&mut self, job: &Job<'_>, share: f64) -> Result<Guess, SplitError> {
        let Rows { rows, cols, float, .. } = job.rows;
        // Rows differ more than the scores of one row, so some scores of many rows are better than all scores of a
        // few.
        let stride = (rows / 4 * cols / self.room.sample.max(1)).clamp(1, STRIDE);
        let count = (self.room.sample / cols.div_ceil(stride)).min(rows / 4);
        let mut scratch = Scratch::new(cols);
        let kept = cols / stride;
        let mut scores = Vec::with_capacity(count * kept);
        for i in 0..count {
            let row = spread(i, rows);
            let (raw, base) = self.source.rows(job, row..row + 1)?;
            let (residual, _) = scratch
                .residual(float, raw, base)
                .map_err(|col| job.residual_error(row, col, raw, base.dense()))?;
            // Every row starts at another column, so that all columns have their turn.
            let columns = residual.iter().zip(self.weights.get()).skip(i % stride).step_by(stride);
            scores.extend(columns.take(kept).map(|(&r, &w)| comparable(r, w)));
        }
        let mut copy = vec![0.0; scores.len()];
        Ok(Guess::from_rows(share, &scores, kept, &mut copy))
    }

    /// Adds every score to the histogram.
    fn scan(&mut self, job: &Job<'_>, histogram: &Histogram) -> Result<(), SplitError> {
        let Rows { cols, float, .. } = job.rows;
        let row_bytes = job.rows.row_bytes();
        let piece_rows = (PIECE / cols).max(1);
        let block_rows = self.block_rows(&job.rows);
        let weights = self.weights.get();
        for range in job.rows.blocks(block_rows) {
            check_stop(self.progress)?;
            let (raw, base) = self.source.rows(job, range.clone())?;
            raw.par_chunks(piece_rows * row_bytes).enumerate().try_for_each_init(
                || (Scratch::new(cols), histogram.counter()),
                |(scratch, counter), (piece, raw)| {
                    for (i, raw) in raw.chunks_exact(row_bytes).enumerate() {
                        let row = piece * piece_rows + i;
                        let base = base.rows(row..row + 1, &job.rows);
                        let (residual, _) = scratch
                            .residual(float, raw, base)
                            .map_err(|col| job.residual_error(range.start + row, col, raw, base.dense()))?;
                        counter.add(residual, weights);
                    }
                    Ok::<_, SplitError>(())
                },
            )?;
        }
        Ok(())
    }

    /// Whether mode planes pay, as a sample of rows has it: whether rows that choose how their columns are stored save
    /// more than these planes take. One long gap would bring them to all rows otherwise.
    fn modes_pay(&mut self, job: &Job<'_>, cut: Cut) -> Result<bool, SplitError> {
        let Rows { rows, cols, float, .. } = job.rows;
        if cut.score == f32::INFINITY {
            return Ok(false);
        }
        let value_bytes = self.options.values.bytes();
        let mut scratch = Scratch::new(cols);
        let (count, mut columns, mut saved) = (rows.min(MODE_SAMPLE), Vec::with_capacity(cols), 0);
        for i in 0..count {
            let row = if count == rows { i } else { spread(i, rows) };
            let (raw, base) = self.source.rows(job, row..row + 1)?;
            let (residual, _) = scratch
                .residual(float, raw, base)
                .map_err(|col| job.residual_error(row, col, raw, base.dense()))?;
            let kept = |&(_, (&r, &w)): &(u32, (&f32, &f32))| r != 0.0 && comparable(r, w) >= cut.score;
            columns.clear();
            let scored = (0..).zip(residual.iter().zip(self.weights.get()));
            columns.extend(scored.filter(kept).map(|(col, _)| col));
            saved += RowPlan::gap(&columns).bytes(value_bytes)
                - RowPlan::new(&columns, cols, value_bytes).bytes(value_bytes);
        }
        Ok(saved > MODE_BYTES * count)
    }

    /// The last pass: writes the planes.
    fn emit(
        &mut self,
        job: &Job<'_>,
        cut: Cut,
        costs: Option<Costs>,
        base_hash: Option<String>,
        third: u64,
    ) -> Result<MatrixMeta, SplitError> {
        let feedback = match (job.calibration, job.kind) {
            // The scale of a group is chosen when its first column comes up, so its columns stay together.
            (Some(calibration), Some(kind)) => calibration.feedback(kind.groups(job.rows.cols) == 1)?,
            _ => None,
        };
        let half = self.source.half_scales();
        let grid = costs.as_ref().map(|costs| *costs.coder().grid());
        let feeding = feedback.zip(costs).map(|(feedback, costs)| {
            let storage = Storage { values: self.options.values, half };
            Feeding { feedback, costs, storage }
        });
        let row_bytes = job.rows.row_bytes();
        let emitted = self.room.emitted_rows(job.rows.cols);
        let modes = self.modes_pay(job, cut)?;
        self.emitter.begin(job, cut, modes)?;
        let mut left = job.rows.info.bytes - 2 * third;
        for range in job.rows.blocks(self.block_rows(&job.rows)) {
            check_stop(self.progress)?;
            let (raw, base) = self.source.rows(job, range.clone())?;
            for (number, raw) in raw.chunks(emitted * row_bytes).enumerate() {
                let start = number * emitted;
                let base = base.rows(start..start + raw.len() / row_bytes, &job.rows);
                self.emitter.rows(
                    job,
                    range.start + start,
                    raw,
                    base,
                    self.weights.get(),
                    feeding.as_ref(),
                )?;
                let done = (raw.len() as u64 / 3).min(left);
                left -= done;
                self.progress.advance(done);
            }
            if let Some(Feeding { costs, .. }) = &feeding {
                let scales = self.emitter.take_fed_scales();
                let groups = costs.kind().groups(job.rows.cols);
                self.source.replace_scales(range.start, groups, scales.as_slice())?;
            }
        }
        self.progress.advance(left);
        self.emitter.end(job, &mut self.source, grid.as_ref(), base_hash)
    }

    fn report(&self, job: &Job<'_>, meta: &MatrixMeta) -> TensorReport {
        let element_bytes = |plane| match plane {
            Plane::BaseScales => self.source.scale_dtype().bitsize() as u64 / 8,
            _ => self.emitter.element_bytes(plane),
        };
        let planes = Plane::ALL.into_iter().filter(|plane| plane.belongs(meta)).map(|plane| PlaneBytes {
            plane: plane.suffix().to_owned(),
            bytes: plane.elements(meta).unwrap_or(0) * element_bytes(plane),
        });
        let (squares, gain) = self.emitter.squares();
        // If all weights are 0, the error is 0.
        let relative = |error: f64| (error.max(0.0) / self.sums.total().max(f64::MIN_POSITIVE)).sqrt();
        TensorReport {
            name: job.rows.info.name.clone(),
            shape: [job.rows.rows, job.rows.cols],
            dtype: job.rows.info.dtype.to_string(),
            base: job.kind,
            nnz: meta.nnz,
            density: meta.density(),
            lowest_score: self.emitter.lowest().map_or(0.0, |lowest| self.weights.score(lowest)),
            planes: planes.collect(),
            norm: self.sums.total().sqrt(),
            base_error: relative(squares),
            error: relative(squares - gain),
        }
    }
}

/// Weights that enter the residual.
fn kept(density: f64, elements: u64) -> u64 {
    (density * elements as f64).round() as u64
}
