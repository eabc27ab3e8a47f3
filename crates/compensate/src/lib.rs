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
//!
//! ```
//! use residua_compensate::classify::{Lda, Prior, Ridge};
//! use residua_compensate::*;
//! use residua_memory::Budget;
//!
//! # fn main() -> Result<()> {
//! let budget = Budget::new(64 << 20);
//! // Task 1: classes 0 and 1, as the first model sees them; rows of 2 features.
//! let old = [0.0, 1.0, 0.5, 1.5, 4.0, 5.0, 4.5, 4.0f32];
//! let mut builder = StatisticsBuilder::new(2, &budget);
//! builder.add_source(&mut MemorySource::new(2, &old, None, Some(&[0, 0, 1, 1]))?, Side::Before)?;
//! let stale = builder.finish(Storage::Smallest, Precision::F32)?;
//!
//! // Task 2: the new samples before and after the model was tuned to them. It doubled every feature.
//! let before = [1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 5.0, 2.0f32];
//! let after = before.map(|v| 2.0 * v);
//! let mut pairs = MemorySource::new(2, &before, Some(&after), None)?;
//! let moved = Linear::default().fit(&mut pairs, &budget)?.apply(&stale, &budget)?;
//! assert!((moved.get(1).unwrap().mean()[0] - 8.5).abs() < 0.01);
//!
//! let classifier = Lda::new(&moved, Ridge::relative(0.1), Prior::Uniform, &budget)?;
//! let sample = nalgebra::DMatrix::from_column_slice(2, 1, &[8.0, 9.0f32]);
//! assert_eq!(classifier.predict(sample.as_view(), &budget)?, [1]);
//! # Ok(())
//! # }
//! ```

mod algebra;
mod cache;
pub mod classify;
pub mod compensator;
pub mod drift;
mod error;
pub mod source;
pub mod statistics;

pub use cache::{CacheCounters, CacheOptions, CachePrecision, FeatureCache};
pub use classify::{Classifier, Lda, Ncm, Qda};
pub use compensator::{Attention, Compensator, Linear, Method, Mode, Rff, WeakNonlinear};
pub use drift::{DriftCompensator, Pairs, Task, Variant};
pub use error::{CompensateError, Result};
pub use source::{FeatureBlock, FeatureSource, MemorySource, Side};
pub use statistics::{ClassGaussian, ClassStatistics, Covariance, Precision, StatisticsBuilder, Storage};
