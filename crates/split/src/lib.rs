//! Splits a checkpoint into a low-precision base and a sparse residual, within a memory budget.
//!
//! For every linear layer `W [rows, cols]` = `[out_features, in_features]`, [`split`] finds a base (a
//! quantised copy, or another checkpoint's tensor) and keeps the weights at which the base is furthest off
//! as a gap-encoded sparse residual, so that `W ≈ base + alpha · residual`. [`materialize`] turns the file
//! back into a dense checkpoint for any alpha, [`verify`] checks it and measures what it lost.
//!
//! Everything is streamed: tensor by tensor, and inside a tensor in blocks of rows whose size follows from
//! the [`Budget`](residua_memory::Budget), so that even one tensor larger than the budget works. The
//! result is the same, bit for bit, whatever the budget and the number of threads.

mod columns;
mod cut;
pub mod diff;
mod emit;
mod encode;
mod error;
mod file;
mod float;
mod histogram;
mod job;
mod layer;
mod materialize;
mod options;
mod progress;
mod report;
mod residual;
mod room;
mod rows;
mod score;
mod select;
mod sift;
mod split;
mod spool;
mod tensor;
mod verify;

pub use error::SplitError;
pub use file::{LayerBase, SplitFile, SplitLayer};
pub use materialize::materialize;
pub use options::{BaseSpec, Importance, Selection, SplitOptions};
pub use progress::{NoProgress, Progress};
pub use report::{
    MaterializeReport, MaterializedTensor, PassedTensor, PlaneBytes, SplitReport, TensorReport,
    VerifiedTensor, VerifyReport,
};
pub use residua_memory::ErrorKind;
pub use split::split;
pub use verify::verify;
