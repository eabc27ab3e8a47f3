//! Launches captured as a CUDA graph.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::result;
use cudarc::driver::sys::{CUgraph, CUgraphExec, CUgraphInstantiate_flags, CUstreamCaptureMode};
use residua_backend::BackendError;

use super::status::Named;
use super::stream::Stream;
use crate::driver::Recorded;
use crate::launch::Launch;

/// Launches that one call starts.
#[derive(Debug)]
pub(super) struct Graph {
    stream: Arc<Stream>,
    graph: CUgraph,
    /// The driver does not guard it: one launch at a time.
    executable: Mutex<CUgraphExec>,
    /// They hold what their arguments point to.
    _launches: Vec<Launch>,
}

// SAFETY: the handles are names for the driver's own, which any thread may use, though not two at once.
unsafe impl Send for Graph {}
// SAFETY: the only call on a shared graph is a launch, behind a mutex.
unsafe impl Sync for Graph {}

impl Graph {
    pub(super) fn new(stream: Arc<Stream>, launches: Vec<Launch>) -> Result<Self, BackendError> {
        stream.device.enter()?;
        // Loading a module is not allowed while a stream is captured.
        for launch in &launches {
            stream.device.function(launch.module, launch.kernel)?;
        }
        // A stream of its own, so that other threads' work on the first is not captured.
        let captured = Stream::new(stream.device.clone())?;
        // Relaxed, because the driver may put off loading a kernel until it is launched. Nothing else is called meanwhile.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream lives, and the capture ends below.
        unsafe { result::stream::begin_capture(captured.handle, mode) }.named("cuStreamBeginCapture")?;
        let started = launches.iter().try_for_each(|launch| captured.start(launch));
        // SAFETY: as above. A capture has to be ended even when a launch failed.
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
                Ok(Self { stream, graph, executable: Mutex::new(executable), _launches: launches })
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
        self.stream.device.enter()?;
        let executable = self.executable.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: both live; memory that the launches use is held.
        unsafe { result::graph::launch(*executable, self.stream.handle) }.named("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Replays must be over before the memory that they use goes.
        if self.stream.device.enter().is_ok() {
            let _ = self.stream.wait();
            let executable = *self.executable.get_mut().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: made in `new`, destroyed once.
            let _ = unsafe { result::graph::exec_destroy(executable) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}
