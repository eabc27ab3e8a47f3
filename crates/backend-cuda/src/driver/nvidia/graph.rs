//! Launches captured as a CUDA graph.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use residua_backend::BackendError;

use super::queue::Queue;
use super::status::Named;
use crate::driver::Recorded;
use crate::launch::Launch;

/// Launches that one call starts.
#[derive(Debug)]
pub(super) struct Graph {
    queue: Arc<Queue>,
    graph: CUgraph,
    /// The driver does not synchronise it: one launch at a time.
    executable: Mutex<CUgraphExec>,
    /// They keep the memory that their arguments point to.
    _launches: Vec<Launch>,
}

// SAFETY: any thread may use the handles, though not two threads at once.
unsafe impl Send for Graph {}
// SAFETY: a shared graph is only launched, behind a mutex.
unsafe impl Sync for Graph {}

impl Graph {
    pub(super) fn new(queue: Arc<Queue>, launches: Vec<Launch>) -> Result<Self, BackendError> {
        queue.device.enter()?;
        // No module may be loaded during a capture.
        for launch in &launches {
            queue.device.function(launch.module, launch.kernel)?;
        }
        // A separate queue: other threads may use the first one, and that work must not be captured.
        let captured = Queue::new(queue.device.clone())?;
        // Relaxed, because the driver may load a kernel only when it is launched. No other call happens meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives, and the capture ends below.
        unsafe { result::stream::begin_capture(captured.handle, mode) }.named("cuStreamBeginCapture")?;
        let started = launches.iter().try_for_each(|launch| captured.start(launch));
        // SAFETY: as above. A capture must be ended even if a launch failed.
        let graph = unsafe { result::stream::end_capture(captured.handle) }.named("cuStreamEndCapture");
        if let (Err(_), Ok(graph)) = (&started, &graph) {
            // SAFETY: captured just now, and nothing was made from it.
            let _ = unsafe { result::graph::destroy(*graph) };
        }
        started?;
        let graph = graph?;
        // SAFETY: the graph was captured just now.
        let executable = unsafe { result::graph::instantiate(graph, CUgraphInstantiate_flags(0)) };
        match executable.named("cuGraphInstantiate") {
            Ok(executable) => {
                Ok(Self { queue, graph, executable: Mutex::new(executable), _launches: launches })
            }
            Err(error) => {
                // SAFETY: nothing was made from it.
                let _ = unsafe { result::graph::destroy(graph) };
                Err(error)
            }
        }
    }
}

impl Recorded for Graph {
    fn replay(&self) -> Result<(), BackendError> {
        self.queue.device.enter()?;
        let executable = self.executable.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both live, and the launches keep the memory that they use.
        unsafe { result::graph::launch(*executable, self.queue.handle) }.named("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Replays must finish before the memory that they use is freed.
        if self.queue.device.enter().is_ok() {
            let _ = self.queue.wait();
            let executable = *self.executable.get_mut().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: made in `new`, destroyed once.
            let _ = unsafe { result::graph::exec_destroy(executable) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}
