//! How a caller watches a long job, and stops it.

use crate::SplitError;

/// Watches a job, and may stop it. Every method has a default: it watches nothing and never stops.
///
/// A job may have several parts, each between [`begin`](Self::begin) and [`end`](Self::end). Calls come from one
/// thread at a time.
pub trait Progress: Sync {
    /// A part starts; its calls of [`advance`](Self::advance) add up to `total_bytes`. `what` is a participle such as
    /// "splitting".
    fn begin(&self, what: &str, total_bytes: u64) {
        let _ = (what, total_bytes);
    }

    /// Work on a tensor starts.
    fn tensor(&self, name: &str) {
        let _ = name;
    }

    /// `bytes` more of the input are done.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The part is done.
    fn end(&self) {}

    /// Whether the job should stop. A job asks between blocks of work, so the answer must be cheap: one load of an
    /// atomic flag. After `true` the job fails with [`SplitError::Interrupted`] and leaves nothing behind.
    fn stop(&self) -> bool {
        false
    }
}

/// Watches nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {}

/// Ends a job whose caller wants it to stop.
pub(crate) fn check_stop(progress: &dyn Progress) -> Result<(), SplitError> {
    if progress.stop() { Err(SplitError::Interrupted) } else { Ok(()) }
}
