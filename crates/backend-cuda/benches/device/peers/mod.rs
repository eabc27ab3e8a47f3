//! cuSPARSE and cuBLAS on the same device, if their libraries are installed, and a copy that measures bandwidth.
//!
//! Memory, the stream and graphs use cudarc's safe interface; only calls of the two libraries are `unsafe`.

mod dense;
mod sparse;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr};
use residua_format::Csr;

use super::shared::Result;
use super::shared::timing::{Run, Sequence};
use dense::{Dense, DenseProduct};
use sparse::Sparse;

/// The peers of one device, each with the reason if it is absent.
pub(crate) struct Peers {
    stream: Arc<CudaStream>,
    sparse: Result<Sparse, String>,
    dense: Result<Rc<Dense>, String>,
}

/// A contestant's name, and whether it runs `cold` or `warm`.
pub(crate) type Name = (String, &'static str);

/// Names of the peers in rows of the report.
pub(crate) const SPARSE: &str = "cuSPARSE CSR f32";
const DENSE: &str = "cuBLAS dense bf16";

/// The contestants of a product, and notes about absent ones.
#[derive(Default)]
pub(crate) struct Contestants<'a> {
    pub(crate) sequences: Vec<(Name, Sequence<'a>)>,
    pub(crate) notes: Vec<String>,
}

/// One product of a peer, on the stream that its handle was made with.
trait Product {
    fn launch(&self) -> Result;
}

impl Peers {
    /// Opens the peers on the primary context of a GPU. The backend uses the same context.
    pub(crate) fn open(device: usize) -> Result<Self> {
        let context = CudaContext::new(device)?;
        // SAFETY: all memory that comes from this context is used on the one stream made below.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        // The bindings panic if a library lacks a function. Such a library counts as absent.
        let (sparse, dense) = (guarded(|| Sparse::open(&stream)), guarded(|| Dense::open(&stream)));
        Ok(Self { stream, sparse, dense: dense.map(Rc::new) })
    }

    /// The absent peers, with the reasons.
    pub(crate) fn absent(&self) -> Vec<String> {
        let reasons = [("cuSPARSE", self.sparse.as_ref().err()), ("cuBLAS", self.dense.as_ref().err())];
        reasons.into_iter().filter_map(|(name, why)| Some(format!("{name}: {}", why?))).collect()
    }

    /// Bytes per second that a copy of `bytes` bytes reads and writes: the best of ten.
    pub(crate) fn copy_bandwidth(&self, bytes: usize) -> Result<f64> {
        let (free, _) = self.stream.context().mem_get_info()?;
        let bytes = bytes.min(free / 4).max(1);
        let (from, mut to) = (self.stream.alloc_zeros::<u8>(bytes)?, self.stream.alloc_zeros::<u8>(bytes)?);
        self.stream.synchronize()?;
        let mut best = 0f64;
        for _ in 0..10 {
            let start = Instant::now();
            for _ in 0..10 {
                self.stream.memcpy_dtod(&from, &mut to)?;
            }
            self.stream.synchronize()?;
            best = best.max(20.0 * bytes as f64 / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }

    /// `Y = A·X` by every peer that is present, cold and warm. `x` is `[cols][batch]`.
    pub(crate) fn products<'a>(
        &self,
        csr: &Csr<f32, u32>,
        batch: usize,
        x: &[f32],
        cold_bytes: usize,
        warm_launches: usize,
    ) -> Contestants<'a> {
        let mut contestants = Contestants::default();
        let shape = [csr.rows(), csr.cols()];
        if let Ok(sparse) = &self.sparse {
            let bytes = csr.nnz() * 8 + (csr.rows() + 1) * 4;
            let copies = cold_bytes.div_ceil(bytes.max(1)).clamp(1, 128);
            let all = guarded(|| sparse.products(csr, batch, x, copies));
            self.enter(&mut contestants, SPARSE, all, warm_launches);
        }
        if let Ok(dense) = &self.dense {
            let bytes = csr.rows() * csr.cols() * 2;
            let copies = cold_bytes.div_ceil(bytes.max(1)).clamp(1, 16);
            let all = guarded(|| DenseProduct::several(dense, shape, batch, copies));
            self.enter(&mut contestants, DENSE, all, warm_launches);
        }
        for note in &mut contestants.notes {
            *note = format!("{note}, at {shape:?} with {} entries, batch {batch}", csr.nnz());
        }
        contestants
    }

    /// Adds a sequence over all copies and one that repeats the first copy, or a note.
    fn enter<P: Product + 'static>(
        &self,
        contestants: &mut Contestants<'_>,
        name: &str,
        copies: Result<Vec<P>, String>,
        warm_launches: usize,
    ) {
        let copies = match copies {
            Ok(copies) => Rc::new(copies),
            Err(why) => return contestants.notes.push(format!("{name}: {why}")),
        };
        for (mode, launches) in [("cold", copies.len()), ("warm", warm_launches)] {
            let copies = copies.clone();
            let launch_all = move || -> Result {
                (0..launches).try_for_each(|i| copies[if mode == "cold" { i } else { 0 }].launch())
            };
            match guarded(|| self.sequence(launch_all)) {
                Ok((run, captured)) => {
                    let plain = if captured { "" } else { " (no graph)" };
                    contestants
                        .sequences
                        .push(((format!("{name}{plain}"), mode), Sequence { launches, run }));
                }
                Err(why) => contestants.notes.push(format!("{name}, {mode}: {why}")),
            }
        }
    }

    /// Launches as a graph, or one by one if they cannot be captured. Also returns whether they were captured.
    fn sequence<'a>(&self, launch_all: impl Fn() -> Result + 'a) -> Result<(Run<'a>, bool)> {
        // What is set up at a first call must not be set up while a graph is captured.
        launch_all()?;
        self.stream.synchronize()?;
        // Relaxed, because the libraries may make other calls meanwhile.
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED)?;
        let launched = launch_all();
        // A capture has to be ended even when a launch failed.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        let stream = self.stream.clone();
        if let (Ok(()), Ok(Some(graph))) = (launched, graph)
            && timed(&stream, 1, || Ok(graph.launch()?)).is_ok()
        {
            let run = move |times: usize| {
                // Keeps the memory that the launches of the graph use.
                let _held = &launch_all;
                timed(&stream, times, || Ok(graph.launch()?))
            };
            return Ok((Box::new(run), true));
        }
        Ok((Box::new(move |times| timed(&stream, times, &launch_all)), false))
    }
}

/// Seconds of a number of calls and one wait.
fn timed(stream: &CudaStream, times: usize, call: impl Fn() -> Result) -> Result<f64> {
    let start = Instant::now();
    (0..times).try_for_each(|_| call())?;
    stream.synchronize()?;
    Ok(start.elapsed().as_secs_f64())
}

/// Turns a failure or panic into one line of the report.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => Err(panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".into())),
    }
}

/// The address of memory, for a C function. The memory must live as long as the function may use it.
fn pointer<T>(memory: &CudaSlice<T>) -> *mut std::ffi::c_void {
    memory.device_ptr(memory.stream()).0 as *mut _
}

/// 1 and 0. The libraries read them at each call.
static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const std::ffi::c_void {
    std::ptr::from_ref(value).cast()
}
