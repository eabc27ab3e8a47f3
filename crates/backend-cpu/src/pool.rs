//! Threads.

use std::sync::Arc;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use residua_backend::BackendError;

/// With fewer multiplications, waking threads costs more time than they save.
const WORTH_THREADS: usize = 64 << 10;

/// A thread pool, or the calling thread alone.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Option<Arc<ThreadPool>>);

impl Pool {
    /// Threads that the machine offers.
    pub(crate) fn machine() -> usize {
        std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// `threads` threads; 0 is as many as the machine offers. One thread is the caller's.
    pub(crate) fn new(threads: usize) -> Result<Self, BackendError> {
        let threads = if threads == 0 { Self::machine() } else { threads };
        if threads == 1 {
            return Ok(Self(None));
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("residua-cpu-{i}"))
            .build()
            .map_err(|error| BackendError::Device { backend: "cpu", message: error.to_string() })?;
        Ok(Self(Some(Arc::new(pool))))
    }

    pub(crate) fn threads(&self) -> usize {
        self.0.as_ref().map_or(1, |pool| pool.current_num_threads())
    }

    /// Does `work` on every item; results are in order. `cost` is the approximate number of multiplications of all items.
    pub(crate) fn map<T, R>(&self, cost: usize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>
    where
        T: Send,
        R: Send,
    {
        match &self.0 {
            // Items are large, so every one may go to another thread.
            Some(pool) if cost >= WORTH_THREADS => {
                pool.install(|| items.into_par_iter().with_max_len(1).map(&work).collect())
            }
            _ => items.into_iter().map(work).collect(),
        }
    }
}
