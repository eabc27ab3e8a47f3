//! Class Gaussians that follow a fine-tuned model, within a memory budget.
//!
//! A classifier that learns class after class keeps a Gaussian of each class's features, and no samples. Every new task
//! changes the model and moves the features of old classes: their Gaussians go stale. A [`Compensator`] learns how
//! features move from samples of the *new* task, seen by the model before and after it (a [`FeatureSource`]). Then it
//! moves the [`ClassStatistics`] of old classes.
//!
//! Features are slices of f32, or of f64 where a source has them ([`Floats`]), row-major `[n, d]` as in NumPy. Means,
//! covariances and maps are [`nalgebra`] vectors and matrices. Every large buffer takes a reservation of a
//! [`Budget`](residua_memory::Budget). The same input gives the same bits for any number of threads and any size of batches.
//!
//! ```
//! use residua_compensate::classify::{Lda, LdaOptions};
//! use residua_compensate::*;
//! use residua_memory::Budget;
//!
//! # fn main() -> Result<()> {
//! let budget = Budget::new(64 << 20);
//! // Task 1: classes 0 and 1, as the first model sees them; rows of 2 features.
//! let old = [0.0, 1.0, 0.5, 1.5, 4.0, 5.0, 4.5, 4.0f32];
//! let mut source = MemorySource::labelled(2, &old, &[0, 0, 1, 1])?;
//! let stale = ClassStatistics::collect(&mut source, &StatisticsOptions::default(), &budget)?;
//!
//! // Task 2: new samples before and after the model was tuned on them. The tuning doubled every feature.
//! let before = [1.0, 0.0, 0.0, 2.0, 3.0, 1.0, 5.0, 2.0f32];
//! let after = before.map(|v| 2.0 * v);
//! let mut pairs = MemorySource::pairs(2, &before, &after)?;
//! let moved = Linear::default().fit(&mut pairs, &budget)?.apply(&stale, &budget)?;
//! assert!((moved.get(1).unwrap().mean()[0] - 8.5).abs() < 0.01);
//!
//! let classifier = Lda::new(&moved, LdaOptions::default(), &budget)?;
//! assert_eq!(classifier.predict(&[8.0, 9.0], &budget)?, [1]);
//! # Ok(())
//! # }
//! ```

mod algebra;
mod cache;
pub mod classify;
pub mod compensator;
mod error;
mod setters;
pub mod source;
pub mod statistics;
mod tables;
mod tag;
pub mod tasks;

pub use cache::{CacheCounters, CacheOptions, CachePrecision, FeatureCache};
pub use classify::{Classifier, Lda, Ncm, Qda};
pub use compensator::{Attention, Compensator, Linear, Method, Mode, Rff, WeakNonlinear};
pub use error::{CompensateError, Content, Result};
pub use nalgebra;
pub use source::{FeatureBlock, FeatureSource, Floats, MemorySource, NpySource, Side};
pub use statistics::{
    ClassGaussian, ClassStatistics, Covariance, Precision, StatisticsBuilder, StatisticsOptions, Storage,
};
pub use tag::Tag;
pub use tasks::{Pairs, Task, TaskSequence, Variant};
