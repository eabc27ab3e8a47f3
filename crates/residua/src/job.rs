//! Jobs on checkpoints.

use std::fmt;
use std::path::Path;

use residua_memory::Budget;
use residua_split::{
    CalibrateOptions, CalibrateReport, Delta, DiffOptions, DiffReport, FolderReport, LayerInputs,
    MaterializeOptions, MaterializeReport, New, NoProgress, Old, Output, PatchReport, Progress, SplitOptions,
    SplitReport, TensorMut, VerifyOptions, VerifyReport,
};

use crate::error::Result;

/// Runs jobs on checkpoints, each within one budget, and tells a [`Progress`] how far they are.
///
/// A checkpoint is a safetensors file, an index of shards (`model.safetensors.index.json`) or a folder with either. An
/// output appears complete or not at all, and is never one of the inputs. A [`Progress`] can stop a job; nothing is
/// left behind then.
#[derive(Clone)]
pub struct Job<'a> {
    budget: Budget,
    progress: &'a dyn Progress,
}

impl Job<'static> {
    /// Jobs within a budget.
    pub fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), progress: &NoProgress }
    }
}

impl<'a> Job<'a> {
    /// The same, watched.
    #[must_use]
    pub fn progress<'b>(self, progress: &'b dyn Progress) -> Job<'b> {
        Job { budget: self.budget, progress }
    }

    /// Measures the inputs of layers from stored activations; a split that knows them loses less.
    ///
    /// # Errors
    /// See [`residua_split::calibrate`].
    pub fn calibrate(
        &self,
        layers: &[LayerInputs],
        output: Output<impl AsRef<Path>>,
        options: &CalibrateOptions,
    ) -> Result<CalibrateReport> {
        Ok(residua_split::calibrate(layers, output, options, &self.budget, self.progress)?)
    }

    /// Splits a checkpoint into base and residual.
    ///
    /// # Errors
    /// See [`residua_split::split`].
    pub fn split(
        &self,
        checkpoint: impl AsRef<Path>,
        output: Output<impl AsRef<Path>>,
        options: &SplitOptions,
    ) -> Result<SplitReport> {
        Ok(residua_split::split(checkpoint, output, options, &self.budget, self.progress)?)
    }

    /// Splits a model's folder into a folder with the split and the model's other files.
    ///
    /// # Errors
    /// See [`residua_split::split_folder`].
    pub fn split_folder(
        &self,
        model: impl AsRef<Path>,
        output: Output<impl AsRef<Path>>,
        options: &SplitOptions,
    ) -> Result<FolderReport> {
        Ok(residua_split::split_folder(model, output, options, &self.budget, self.progress)?)
    }

    /// Turns a split file back into a dense checkpoint, at any alpha.
    ///
    /// # Errors
    /// See [`residua_split::materialize`].
    pub fn materialize(
        &self,
        split: impl AsRef<Path>,
        output: Output<impl AsRef<Path>>,
        options: &MaterializeOptions,
    ) -> Result<MaterializeReport> {
        Ok(residua_split::materialize(split, output, options, &self.budget, self.progress)?)
    }

    /// Checks a split file, and measures its distance from a checkpoint.
    ///
    /// # Errors
    /// See [`residua_split::verify`]. A problem of a tensor is part of the report.
    pub fn verify(&self, split: impl AsRef<Path>, options: &VerifyOptions) -> Result<VerifyReport> {
        Ok(residua_split::verify(split, options, &self.budget, self.progress)?)
    }

    /// Stores what changed from one checkpoint to another.
    ///
    /// # Errors
    /// See [`residua_split::diff`].
    pub fn diff(
        &self,
        old: Old<impl AsRef<Path>>,
        new: New<impl AsRef<Path>>,
        output: Output<impl AsRef<Path>>,
    ) -> Result<DiffReport> {
        self.diff_with(old, new, output, &DiffOptions::default())
    }

    /// As [`diff`](Self::diff), with options.
    ///
    /// # Errors
    /// As [`diff`](Self::diff).
    pub fn diff_with(
        &self,
        old: Old<impl AsRef<Path>>,
        new: New<impl AsRef<Path>>,
        output: Output<impl AsRef<Path>>,
        options: &DiffOptions,
    ) -> Result<DiffReport> {
        Ok(residua_split::diff(old, new, output, options, &self.budget, self.progress)?)
    }

    /// Applies a delta: the old checkpoint becomes the new one, bit for bit.
    ///
    /// # Errors
    /// See [`residua_split::patch`].
    pub fn patch(
        &self,
        old: Old<impl AsRef<Path>>,
        delta: Delta<impl AsRef<Path>>,
        output: Output<impl AsRef<Path>>,
    ) -> Result<PatchReport> {
        Ok(residua_split::patch(old, delta, output, &self.budget, self.progress)?)
    }

    /// Applies a delta to tensors in memory. Everything is verified first; they all change or none does.
    ///
    /// # Errors
    /// See [`residua_split::apply_into`].
    pub fn apply_into(
        &self,
        tensors: &mut [TensorMut<'_>],
        delta: Delta<impl AsRef<Path>>,
    ) -> Result<PatchReport> {
        Ok(residua_split::apply_into(tensors, delta, &self.budget, self.progress)?)
    }
}

impl fmt::Debug for Job<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("budget", &self.budget).finish_non_exhaustive()
    }
}
