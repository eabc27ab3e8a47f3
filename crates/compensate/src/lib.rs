//! Class Gaussians that follow a fine-tuned model, within a memory budget.
//!
//! A classifier that learns class after class keeps a Gaussian of each class's features, and no samples.
//! Every new task moves the model, and with it the features of old classes, whose Gaussians go stale. From
//! features of the *new* task's samples before and after (a [`FeatureSource`]) a [`Compensator`] learns how
//! features move, and moves the old [`ClassStatistics`] along.
//!
//! Matrices of features are `[d, n]` nalgebra matrices: a column for each sample, the same bytes as NumPy's
//! `[n, d]`. Every large buffer takes a reservation of a [`Budget`](residua_memory::Budget); the same input
//! gives the same bits whatever the number of threads and the size of batches.

mod algebra;
pub mod classify;
pub mod compensator;
mod error;
pub mod source;
pub mod statistics;

pub use classify::{Classifier, Lda, Ncm, Qda};
pub use compensator::{Compensator, Linear, Method, Mode};
pub use error::{CompensateError, Result};
pub use source::{FeatureBlock, FeatureSource, MemorySource, Side};
pub use statistics::{ClassGaussian, ClassStatistics, Covariance, Precision, StatisticsBuilder, Storage};
