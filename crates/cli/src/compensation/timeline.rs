//! The memory of the process while a job runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use residua::memory::process;

/// Time between two samples.
const STEP: Duration = Duration::from_millis(5);

/// Resident bytes over time, by stages of a job.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Seconds since the start, and resident bytes.
    pub(crate) points: Vec<(f64, u64)>,
    /// When each stage began, in seconds, and its name.
    pub(crate) stages: Vec<(f64, String)>,
    /// The total duration in seconds.
    pub(crate) seconds: f64,
}

/// A thread that samples the memory of the process.
#[derive(Debug)]
pub(crate) struct Watch {
    start: Instant,
    stop: Arc<AtomicBool>,
    points: Arc<Mutex<Vec<(f64, u64)>>>,
    stages: Vec<(f64, String)>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts to sample.
    pub(crate) fn start() -> Self {
        let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
        let points = Arc::new(Mutex::new(Vec::new()));
        let (stopped, list) = (stop.clone(), points.clone());
        let look = move || {
            while !stopped.load(Ordering::Relaxed) {
                // Some systems do not report this number; then there are no samples.
                let Some(bytes) = process::current_rss() else { return };
                if let Ok(mut list) = list.lock() {
                    list.push((start.elapsed().as_secs_f64(), bytes));
                }
                std::thread::sleep(STEP);
            }
        };
        let thread = std::thread::Builder::new().name("memory".into()).spawn(look).ok();
        Self { start, stop, points, stages: Vec::new(), thread }
    }

    /// Starts another stage.
    pub(crate) fn stage(&mut self, name: &str) {
        self.stages.push((self.start.elapsed().as_secs_f64(), name.to_owned()));
    }

    /// Stops; returns the samples.
    pub(crate) fn finish(mut self) -> Timeline {
        self.end();
        let points = self.points.lock().map(|mut points| std::mem::take(&mut *points)).unwrap_or_default();
        let stages = std::mem::take(&mut self.stages);
        Timeline { points, stages, seconds: self.start.elapsed().as_secs_f64() }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // The result of this thread does not matter.
            drop(thread.join());
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}
