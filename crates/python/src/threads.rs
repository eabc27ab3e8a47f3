//! Threads: started when they are first needed, once in each process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use residua::{Activations, Budget, Device, DeviceOptions};

use crate::error::{ResiduaError, exception, usage};

/// More threads take minutes to start.
const MOST: usize = 1024;

/// Threads that the caller wants; 0 is one per core.
static WANTED: AtomicUsize = AtomicUsize::new(0);

/// The threads that jobs run on.
struct Started {
    /// A forked child has its parent's memory and none of its threads.
    process: u32,
    threads: usize,
    pool: Arc<ThreadPool>,
}

/// Locked only by threads that hold the interpreter's lock. So it is free at every `os.fork`.
static POOL: Mutex<Option<Started>> = Mutex::new(None);
/// The processor, for this number of threads. Locked like [`POOL`].
static DEVICES: Mutex<Vec<(usize, Activations, Device)>> = Mutex::new(Vec::new());

/// The number of threads that jobs, and layers that are loaded from now on, work with.
#[pyfunction]
pub(crate) fn get_num_threads() -> usize {
    match WANTED.load(Ordering::Relaxed) {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted,
    }
}

/// Sets the number of threads of jobs, and of layers that are loaded from now on.
///
/// Args:
///     threads: 0 (the default of the package) is one per core.
///
/// Raises:
///     UsageError: the number is larger than 1024.
#[pyfunction]
#[pyo3(signature = (threads, /))]
pub(crate) fn set_num_threads(threads: usize) -> PyResult<()> {
    if threads > MOST {
        return Err(usage(format!("{threads} threads; the largest number is {MOST}, and 0 is one per core")));
    }
    WANTED.store(threads, Ordering::Relaxed);
    Ok(())
}

/// The pool of this process.
pub(crate) fn pool(_py: Python<'_>) -> PyResult<Arc<ThreadPool>> {
    let (process, threads) = (std::process::id(), get_num_threads());
    let mut started = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(started) = &*started
        && (started.process, started.threads) == (process, threads)
    {
        return Ok(Arc::clone(&started.pool));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("residua-{i}"))
        .build()
        .map_err(|error| ResiduaError::new_err(error.to_string()))?;
    let pool = Arc::new(pool);
    let new = Started { process, threads, pool: Arc::clone(&pool) };
    if let Some(old) = started.replace(new)
        && old.process != process
    {
        // Its threads run in the parent. There is nothing here to stop.
        std::mem::forget(old);
    }
    Ok(pool)
}

/// The processor of this machine.
pub(crate) fn device(_py: Python<'_>, activations: Activations) -> PyResult<Device> {
    let threads = get_num_threads();
    let mut opened = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
    opened.retain(|(of, ..)| *of == threads);
    if let Some((.., device)) = opened.iter().find(|(_, of, _)| *of == activations) {
        return Ok(device.clone());
    }
    let options = DeviceOptions::default().threads(threads).activations(activations);
    let device = Device::open_with("cpu", &options, &Budget::unlimited()).map_err(exception)?;
    opened.push((threads, activations, device.clone()));
    Ok(device)
}
