//! Launches captured as a CUDA graph.

use std::sync::Arc;

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
    executable: CUgraphExec,
    /// They hold what their arguments point to.
    _launches: Vec<Launch>,
}

// SAFETY: the handles are names for what the driver guards itself; the only call is a launch on one stream.
unsafe impl Send for Graph {}
// SAFETY: as above.
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
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives, and the capture ends below.
        unsafe { result::stream::begin_capture(captured.handle, mode) }.named("cuStreamBeginCapture")?;
        let started = launches.iter().try_for_each(|launch| captured.start(launch));
        // SAFETY: as above. A capture has to be ended even when a launch failed.
        let graph = unsafe { result::stream::end_capture(captured.handle) }.named("cuStreamEndCapture");
        started?;
        let graph = graph?;
        // SAFETY: the graph was captured just now.
        let executable = unsafe { result::graph::instantiate(graph, CUgraphInstantiate_flags(0)) };
        match executable.named("cuGraphInstantiate") {
            Ok(executable) => Ok(Self { stream, graph, executable, _launches: launches }),
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
        // SAFETY: both live; memory that the launches use is held.
        unsafe { result::graph::launch(self.executable, self.stream.handle) }.named("cuGraphLaunch")
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Replays must be over before the memory that they use goes.
        if self.stream.device.enter().is_ok() {
            let _ = self.stream.wait();
            // SAFETY: made in `new`, destroyed once.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}
