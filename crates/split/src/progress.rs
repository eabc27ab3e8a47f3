//! Telling the caller how far a long job is.

/// Watches a job. One job may have several parts, each between [`begin`](Self::begin) and
/// [`end`](Self::end). Calls come from one thread at a time.
pub trait Progress: Sync {
    /// A part starts that will [`advance`](Self::advance) by `total_bytes` in all; `what` is a verb phrase
    /// such as "splitting".
    fn begin(&self, what: &str, total_bytes: u64);
    /// Work on a tensor starts.
    fn tensor(&self, name: &str);
    /// `bytes` more of the input are done.
    fn advance(&self, bytes: u64);
    /// The part is done.
    fn end(&self);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn begin(&self, _: &str, _: u64) {}
    fn tensor(&self, _: &str) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}
