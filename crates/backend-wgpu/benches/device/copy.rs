//! The bandwidth of copies on the device.

use std::time::Instant;

use residua_backend_wgpu::{WgpuBackend, wgpu};

use super::shared::Result;

/// Copies in one submission: enough that the cost of submitting is small.
const COPIES: usize = 40;
const ROUNDS: usize = 8;

/// Bytes that a copy of `bytes` reads and writes per second: the best of several rounds.
pub(crate) fn bandwidth(gpu: &WgpuBackend, bytes: usize) -> Result<f64> {
    let (device, queue) = gpu.wgpu();
    let bytes = (bytes as u64).min(gpu.adapter().buffer_limit / 4) / 16 * 16;
    let buffer = || {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage: wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        })
    };
    let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let (from, to) = (buffer(), buffer());
    if let Some(error) = pollster::block_on(scope.pop()) {
        return Err(format!("two buffers of {bytes} bytes to copy: {error}").into());
    }
    let mut best = 0f64;
    // The first round also clears the new buffers.
    for round in 0..=ROUNDS {
        let mut encoder = device.create_command_encoder(&Default::default());
        (0..COPIES).for_each(|_| encoder.copy_buffer_to_buffer(&from, 0, &to, 0, bytes));
        let commands = encoder.finish();
        let start = Instant::now();
        queue.submit([commands]);
        device.poll(wgpu::PollType::wait_indefinitely())?;
        if round > 0 {
            best = best.max((2 * COPIES) as f64 * bytes as f64 / start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}
