//! Times kernels, with the device's clock if it has one.

use std::time::Instant;

use residua_backend::BackendError;
use residua_memory::Budget;

use super::{Gpu, Usage};
use crate::NAME;

/// The time that kernels took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KernelTime {
    /// Seconds.
    pub seconds: f64,
    /// The clock that measured them.
    pub clock: Clock,
}

/// A clock that times kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The device's timestamps: from the start of the first kernel to the end of the last, summed over submissions.
    Device,
    /// The host's clock, from the first call until everything is done.
    Host,
}

/// Most submissions in one measurement with timestamps.
const PASSES: u32 = 128;

/// The timestamps of a measurement.
#[derive(Debug)]
pub(super) struct Stamps {
    set: wgpu::QuerySet,
    passes: u32,
}

impl Stamps {
    /// The queries for the next pass; `None` when all are used.
    pub(super) fn next_pass(&mut self) -> Option<(wgpu::QuerySet, u32)> {
        self.passes += 1;
        (self.passes <= PASSES).then(|| (self.set.clone(), 2 * (self.passes - 1)))
    }
}

impl Gpu {
    /// Times all kernels that `work` queues. Only one measurement may run at a time.
    pub(crate) fn time(
        &self,
        work: impl FnOnce() -> Result<(), BackendError>,
    ) -> Result<KernelTime, BackendError> {
        self.finish()?;
        if self.info.timestamps {
            let descriptor =
                wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 * PASSES };
            let set = self.scoped("timestamps", 0, || self.device.create_query_set(&descriptor))?;
            self.queued().stamps = Some(Stamps { set, passes: 0 });
        }
        let start = Instant::now();
        let done = work().and_then(|()| self.finish());
        let seconds = start.elapsed().as_secs_f64();
        let stamps = self.queued().stamps.take();
        done?;
        match stamps {
            Some(stamps) if (1..=PASSES).contains(&stamps.passes) => {
                Ok(KernelTime { seconds: self.stamped(&stamps)?, clock: Clock::Device })
            }
            _ => Ok(KernelTime { seconds, clock: Clock::Host }),
        }
    }

    fn stamped(&self, stamps: &Stamps) -> Result<f64, BackendError> {
        let count = 2 * stamps.passes;
        let bytes = 8 * u64::from(count);
        let resolved = self.scoped("timestamps", bytes, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        })?;
        let staging = self.allocate(&Budget::unlimited(), bytes, Usage::Staging, "timestamps")?.buffer;
        self.scoped("timestamps", bytes, || {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.resolve_query_set(&stamps.set, 0..count, &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, 0, bytes);
            self.queue.submit([encoder.finish()]);
            staging.slice(..bytes).map_async(wgpu::MapMode::Read, |_| {});
        })?;
        self.wait()?;
        let view = self.scoped("timestamps", bytes, || staging.slice(..bytes).get_mapped_range())?;
        let view =
            view.map_err(|error| BackendError::Device { backend: NAME, message: error.to_string() })?;
        let ticks: Vec<u64> = view
            .chunks_exact(8)
            .map(|b| u64::from_ne_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        let passes = ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0])).sum::<u64>();
        Ok(passes as f64 * f64::from(self.queue.get_timestamp_period()) * 1e-9)
    }
}
