//! The files that a split reads, and which of their tensors are split.

use std::path::Path;

use residua_format::BaseKind;
use residua_format::file::{Checkpoint, Container, TensorInfo};
use residua_memory::Budget;

use super::choice::Choice;
use super::moments::Calibration;
use super::room::Extremes;
use crate::rows::Rows;
use crate::{BaseSpec, Importance, PassReason, Selection, SplitError, SplitOptions};

/// The files that a split reads.
#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) checkpoint: Checkpoint,
    pub(super) base: Option<Checkpoint>,
    pub(super) calibration: Option<Checkpoint>,
}

impl Inputs {
    pub(super) fn open(input: &Path, options: &SplitOptions, budget: &Budget) -> Result<Self, SplitError> {
        let dense = |path: &Path| {
            let file = Checkpoint::open_within(path, budget)?;
            if Container::is_container(&file) {
                let path = path.display();
                return Err(SplitError::Usage(format!(
                    "{path} is not a dense checkpoint; materialize it first"
                )));
            }
            Ok(file)
        };
        Ok(Self {
            checkpoint: dense(input)?,
            base: match &options.base {
                BaseSpec::Checkpoint(path) => Some(dense(path)?),
                BaseSpec::Quantized(_) => None,
            },
            calibration: match &options.importance {
                Importance::Calibration(path) => Some(Checkpoint::open_within(path, budget)?),
                Importance::ColumnMeanSquare | Importance::Uniform => None,
            },
        })
    }
}

/// Which weights of a tensor enter its residual.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep {
    /// This share of them, those with the highest scores.
    Share(f64),
    /// All with a score of at least this.
    Threshold(f32),
}

/// One tensor to split.
#[derive(Debug, Clone, Copy)]
pub(super) struct Job<'a> {
    pub(super) rows: Rows<'a>,
    /// How its base is quantised; `None` if the base is another checkpoint.
    pub(super) kind: Option<BaseKind>,
    /// Which weights enter the residual.
    pub(super) keep: Keep,
    /// The same tensor of the base checkpoint.
    pub(super) base: Option<Rows<'a>>,
    /// What is known about the input features.
    pub(super) calibration: Option<Calibration<'a>>,
}

impl<'a> Job<'a> {
    fn new(
        rows: Rows<'a>,
        kind: Option<BaseKind>,
        keep: Keep,
        inputs: &'a Inputs,
    ) -> Result<Self, SplitError> {
        let name = &rows.info.name;
        let base = match &inputs.base {
            None => None,
            Some(base) => {
                let info = base.expect_tensor(name)?;
                if (&info.shape, info.dtype) != (&rows.info.shape, rows.info.dtype) {
                    let problem = format!(
                        "is {} {:?} here and {} {:?} in the checkpoint to be split: exclude it or take another base",
                        info.dtype, info.shape, rows.info.dtype, rows.info.shape
                    );
                    return Err(SplitError::tensor(base.file_of(info), name, problem));
                }
                Rows::of(base, info)
            }
        };
        let calibration = inputs.calibration.as_ref();
        let calibration = calibration.map(|file| Calibration::of(file, name, rows.cols)).transpose()?;
        Ok(Self { rows, kind, keep, base, calibration })
    }

    /// The error for a residual that is not finite although its weight is. Either the base is not finite, or the
    /// difference is too large.
    pub(super) fn residual_error(&self, row: usize, col: usize, raw: &[u8], base: &[u8]) -> SplitError {
        if let Some(error) = self.base.and_then(|rows| rows.not_finite(row, base)) {
            return error;
        }
        let difference = |rows: &Rows<'_>, raw| {
            let mut weights = vec![0.0; rows.cols];
            rows.float.widen(raw, &mut weights);
            f64::from(weights[col])
        };
        let value = difference(&self.rows, raw) - self.base.map_or(0.0, |rows| difference(&rows, base));
        let (tensor, dtype) = (self.rows.info.name.clone(), "f32".to_owned());
        SplitError::Overflow { tensor, row, col, value, dtype }
    }
}

/// The tensors to split, and those that pass through and why.
type Parts<'a> = (Vec<Job<'a>>, Vec<(&'a TensorInfo, PassReason)>);

/// Parts the checkpoint's tensors into those to split and those that pass through.
pub(super) fn partition<'a>(inputs: &'a Inputs, options: &SplitOptions) -> Result<Parts<'a>, SplitError> {
    check_selection(options)?;
    let choice = Choice::new(options)?;
    let keep = match options.selection {
        Selection::Density(density) => Keep::Share(density),
        Selection::Threshold(threshold) => Keep::Threshold(threshold),
        // Until the size is shared out.
        Selection::Bits(_) | Selection::Size(_) => Keep::Share(0.0),
    };
    let file = &inputs.checkpoint;
    let (mut jobs, mut passed) = (Vec::new(), Vec::new());
    for info in file.tensors() {
        let rows = Rows::of(file, info).ok_or(PassReason::NotMatrix);
        match choice.base(info).and_then(|kind| Ok((rows?, kind))) {
            Ok((rows, kind)) => jobs.push(Job::new(rows, kind, keep, inputs)?),
            Err(reason) => passed.push((info, reason)),
        }
    }
    // The container demands the widest elements first, so that all elements are aligned.
    passed.sort_by_key(|(info, _)| std::cmp::Reverse(info.dtype.bitsize()));
    Ok((jobs, passed))
}

fn check_selection(options: &SplitOptions) -> Result<(), SplitError> {
    match options.selection {
        Selection::Bits(_) | Selection::Size(_) if options.base.checkpoint().is_some() => {
            Err(SplitError::Usage(
                "a size chooses the kind of the base, but the base is another checkpoint".to_owned(),
            ))
        }
        Selection::Bits(bits) if !(bits.is_finite() && bits > 0.0) => {
            Err(SplitError::Usage(format!("{bits} bits per weight is not a finite number above 0")))
        }
        Selection::Density(density) if !(0.0..=1.0).contains(&density) => {
            Err(SplitError::Usage(format!("density {density} is not between 0 and 1")))
        }
        Selection::Threshold(threshold) if !(threshold.is_finite() && threshold >= 0.0) => {
            Err(SplitError::Usage(format!("threshold {threshold} is not a finite number of at least 0")))
        }
        _ => Ok(()),
    }
}

pub(super) fn extremes(jobs: &[Job<'_>]) -> Extremes {
    jobs.iter().fold(Extremes::default(), |most, Job { rows, calibration, .. }| Extremes {
        rows: most.rows.max(rows.rows),
        cols: most.cols.max(rows.cols),
        row_bytes: most.row_bytes.max(rows.row_bytes()),
        bytes: most.bytes.max(rows.info.bytes),
        feedback: most.feedback.max(calibration.as_ref().map_or(0, Calibration::bytes)),
    })
}
