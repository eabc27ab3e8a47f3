//! Threads.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};
use residua_backend::BackendError;

/// With fewer multiplications, one thread does the work. So many take it about 200 µs with one f32 vector, and 40 µs with one
/// of integers. Waking others for less gains little, and where a program has other threads that wait for work, such as
/// torch's, a thread that joins late loses its core in the middle of its share.
const WORTH_THREADS: usize = 2 << 20;

/// A thread pool, or the calling thread alone.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Option<Arc<Pools>>);

/// A forked child has its parent's memory, but none of its threads, and would wait for them forever. So it starts its
/// own.
#[derive(Debug)]
struct Pools {
    own: Started,
    /// Of a child. A child of that child works on its calling thread.
    child: OnceLock<Option<Started>>,
}

/// Threads, and the process that they run in.
#[derive(Debug)]
struct Started {
    process: u32,
    /// There until it is dropped.
    pool: Option<ThreadPool>,
}

impl Started {
    fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let name = |i| format!("residua-cpu-{i}");
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(name).build()?;
        Ok(Self { process: std::process::id(), pool: Some(pool) })
    }

    /// The threads, if they run in this process.
    fn here(&self) -> Option<&ThreadPool> {
        self.pool.as_ref().filter(|_| self.process == std::process::id())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.here().is_none() {
            // There is nothing to stop here, and waiting for it would take forever.
            std::mem::forget(self.pool.take());
        }
    }
}

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
        let own = Started::new(threads)
            .map_err(|error| BackendError::Device { backend: "cpu", message: error.to_string() })?;
        Ok(Self(Some(Arc::new(Pools { own, child: OnceLock::new() }))))
    }

    pub(crate) fn threads(&self) -> usize {
        self.pool().map_or(1, ThreadPool::current_num_threads)
    }

    /// The threads of this process; `None` is the calling thread.
    fn pool(&self) -> Option<&ThreadPool> {
        let Pools { own, child } = &**self.0.as_ref()?;
        own.here().or_else(|| {
            let threads = own.pool.as_ref()?.current_num_threads();
            child.get_or_init(|| Started::new(threads).ok()).as_ref()?.here()
        })
    }

    /// Does `work` on every item; results are in order. `cost` is the approximate number of multiplications of all
    /// items.
    pub(crate) fn map<T, R>(&self, cost: usize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R>
    where
        T: Send,
        R: Send,
    {
        match self.pool() {
            // Items are large, so every one may go to another thread.
            Some(pool) if cost >= WORTH_THREADS => {
                pool.install(|| items.into_par_iter().with_max_len(1).map(&work).collect())
            }
            _ => items.into_iter().map(work).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forked_child_starts_its_own_threads() {
        // A child sees the pool of another process; so does this test.
        let mut own = Started::new(2).unwrap();
        own.process += 1;
        let pool = Pool(Some(Arc::new(Pools { own, child: OnceLock::new() })));
        assert_eq!(pool.threads(), 2);
        let name = |_| std::thread::current().name().map(str::to_owned);
        assert!(
            pool.map(WORTH_THREADS, vec![(); 8], name)
                .iter()
                .all(|name| { name.as_deref().is_some_and(|name| name.starts_with("residua-cpu-")) })
        );
        // Of a grandchild there is the calling thread alone.
        let mut child = Started::new(2).unwrap();
        child.process += 1;
        let mut own = Started::new(2).unwrap();
        own.process += 1;
        let pool = Pool(Some(Arc::new(Pools { own, child: OnceLock::from(Some(child)) })));
        assert_eq!((pool.threads(), pool.map(WORTH_THREADS, vec![1, 2], |n| n + 1)), (1, vec![2, 3]));
    }
}
