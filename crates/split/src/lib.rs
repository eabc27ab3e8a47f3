//! Splits checkpoints into a base and a sparse residual, and ships the difference of two checkpoints, within a memory
//! budget.
//!
//! | job | reads | writes |
//! |---|---|---|
//! | [`calibrate`](calibrate()) | inputs of layers | a calibration file: how large these inputs are, and how they depend on each other |
//! | [`split`](split()) | a checkpoint | a split file: base and residual of every linear layer |
//! | [`materialize`](materialize()) | a split file | a dense checkpoint, for any alpha |
//! | [`verify`](verify()) | a split file | nothing; reports whether it is sound and how far it is from a checkpoint |
//! | [`diff`](diff()) | two checkpoints | a delta: what changed |
//! | [`patch`](patch()) | a checkpoint and a delta | the new checkpoint, bit for bit |
//! | [`apply_into`] | tensors in memory and a delta | the new values, into the same memory |
//!
//! A linear layer `W [rows, cols]` = `[out_features, in_features]` becomes `W ≈ base + alpha · residual`. The base is a
//! quantised copy of `W` or the tensor of another checkpoint. The residual holds the weights at which the base is
//! furthest off, as a gap-encoded sparse matrix. [`SplitFile`] loads single layers of such a file.
//!
//! Every job streams: tensor by tensor, and inside a tensor in blocks of rows. The [`Budget`](residua_memory::Budget)
//! sets the size of the blocks, so a tensor may be larger than the budget. The result is the same, bit for bit,
//! whatever the budget and the number of threads. A [`Progress`] watches a job and may stop it. The output appears
//! complete or not at all.

mod apply;
mod base_file;
mod calibrate;
mod delta;
mod diff;
mod error;
mod file;
mod float;
mod layer_reader;
mod materialize;
mod model_folder;
mod options;
mod output_error;
mod passed;
mod patch;
mod paths;
mod product;
mod progress;
mod report;
mod rows;
mod split;
mod temporary_folder;
mod verify;

pub use apply::{TensorMut, apply_into};
pub use base_file::BaseLocation;
pub use calibrate::{
    ActivationsAt, CalibrateOptions, CalibrateReport, CalibratedTensor, LayerInputs, Statistic, calibrate,
};
pub use delta::{
    DeltaOp, DiffReport, DiffTensor, ParseDeltaOpError, PatchReport, PatchedTensor, Stored, delta_sizes,
    read_delta, report_delta,
};
pub use diff::diff;
pub use error::SplitError;
pub use file::{LayerBase, SplitFile, SplitLayer};
pub use materialize::materialize;
pub use model_folder::{FolderReport, split_folder};
pub use options::{
    BaseSpec, DiffOptions, Importance, MaterializeOptions, ParseBaseError, Selection, SplitOptions,
    VerifyOptions,
};
pub use patch::patch;
pub use paths::{Delta, New, Old, Output};
pub use progress::{NoProgress, Progress};
pub use report::{
    MaterializeReport, MaterializedTensor, PassReason, PassedTensor, PlaneBytes, SplitReport, TensorReport,
    VerifiedTensor, VerifyReport,
};
pub use residua_memory::ErrorKind;
pub use split::split;
pub use verify::verify;
