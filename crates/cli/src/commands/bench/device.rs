//! Products on a device with separate memory: upload and kernels are timed separately.

use residua::memory::Budget;

use super::{Args, Done};
use crate::failure::Result;

#[cfg(not(feature = "cuda"))]
pub(super) fn cuda(_: &Args, budget: &Budget) -> Result<Done> {
    not_built_in("cuda", budget)
}

#[cfg(feature = "cuda")]
pub(super) fn cuda(args: &Args, budget: &Budget) -> Result<Done> {
    use std::time::Instant;

    use residua::backend::{Backend, Shaped};
    use residua::cuda::{CudaBackend, CudaMatrix, CudaOptions};

    use super::{Timing, load, operands};

    let mut options = CudaOptions::default();
    options.device.clone_from(&args.adapter);
    let gpu = CudaBackend::open(&options, budget)?;
    let mut upload_seconds = 0.0;
    let matrices = load(args, budget, |matrix| {
        let start = Instant::now();
        let matrix = gpu.upload(matrix)?;
        gpu.synchronize()?;
        upload_seconds += start.elapsed().as_secs_f64();
        Ok(matrix)
    })?;
    let mut ready = Vec::new();
    for &batch in &args.batch {
        let batch = batch.into();
        let mut operands = operands(&gpu, batch, matrices.iter().map(Shaped::shape), budget)?;
        // One launch for all products, like a runtime.
        let graph = gpu.record(|gpu| {
            let mut all = matrices.iter().zip(&mut operands);
            all.try_for_each(|(matrix, (x, y))| gpu.spmm(1.0, matrix, x, 0.0, y))
        })?;
        ready.push((batch, graph, Vec::new()));
    }
    // The first round is a warm-up.
    for round in 0..=args.repetitions {
        for (_, graph, seconds) in &mut ready {
            let start = Instant::now();
            graph.replay()?;
            gpu.synchronize()?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let nnz = matrices.iter().map(CudaMatrix::nnz).sum();
    let timing = |(batch, _, seconds)| Timing::new(gpu.device(), batch, "host", seconds, nnz);
    Ok(Done {
        matrices: matrices.len(),
        nnz,
        values: args.values.name(),
        bytes: matrices.iter().map(CudaMatrix::bytes).sum(),
        upload_seconds: Some(upload_seconds),
        timings: ready.into_iter().map(timing).collect(),
    })
}

#[cfg(not(feature = "wgpu"))]
pub(super) fn wgpu(_: &Args, budget: &Budget) -> Result<Done> {
    not_built_in("wgpu", budget)
}

#[cfg(not(all(feature = "cuda", feature = "wgpu")))]
fn not_built_in(backend: &str, budget: &Budget) -> Result<Done> {
    // Says how to get it.
    let error = residua::Device::open(backend, budget).err();
    Err(error
        .map_or_else(|| crate::failure::Failure::usage(format!("{backend} is not built in")), Into::into))
}

#[cfg(feature = "wgpu")]
pub(super) fn wgpu(args: &Args, budget: &Budget) -> Result<Done> {
    use std::time::Instant;

    use residua::backend::{Backend, BackendError, Shaped};
    use residua::wgpu::{Clock, WgpuBackend, WgpuMatrix, WgpuOptions};

    use super::{Timing, load, operands};

    let mut options = WgpuOptions::default();
    if let Some(adapter) = &args.adapter {
        options = options.adapter(adapter);
    }
    let gpu = WgpuBackend::open(&options, budget)?;
    let mut upload_seconds = 0.0;
    let matrices = load(args, budget, |matrix| {
        let start = Instant::now();
        let matrix = gpu.upload(matrix)?;
        gpu.synchronize()?;
        upload_seconds += start.elapsed().as_secs_f64();
        Ok(matrix)
    })?;
    let mut ready = Vec::new();
    for &batch in &args.batch {
        let batch = batch.into();
        let operands = operands(&gpu, batch, matrices.iter().map(Shaped::shape), budget)?;
        ready.push((batch, operands, Vec::new(), Clock::Host));
    }
    // The first round builds the kernels; it does not count.
    for round in 0..=args.repetitions {
        for (_, operands, seconds, clock) in &mut ready {
            let time = gpu.time(|| -> Result<(), BackendError> {
                let mut all = matrices.iter().zip(&mut *operands);
                all.try_for_each(|(matrix, (x, y))| gpu.spmm(1.0, matrix, x, 0.0, y))
            })?;
            if round > 0 {
                seconds.push(time.seconds);
                *clock = time.clock;
            }
        }
    }
    let nnz = matrices.iter().map(WgpuMatrix::nnz).sum();
    let timing = |(batch, _, seconds, clock)| {
        let clock = if clock == Clock::Device { "device" } else { "host" };
        Timing::new(gpu.device(), batch, clock, seconds, nnz)
    };
    Ok(Done {
        matrices: matrices.len(),
        nnz,
        values: args.values.name(),
        bytes: matrices.iter().map(WgpuMatrix::bytes).sum(),
        upload_seconds: Some(upload_seconds),
        timings: ready.into_iter().map(timing).collect(),
    })
}
