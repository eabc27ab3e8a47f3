//! One opened device: its limits, its memory, its pipelines, its queue.

mod adapter;
mod buffer;
mod health;
mod pipelines;
mod queue;
mod timing;

use std::sync::{Arc, Mutex, PoisonError};

use residua_backend::BackendError;

pub use adapter::{AdapterInfo, adapters};
pub(crate) use buffer::{DeviceBuffer, PIECE, Usage, piece_end};
pub(crate) use queue::Dispatch;
pub use timing::{Clock, KernelTime};

use crate::NAME;
use crate::layout::Tuning;
use crate::options::WgpuOptions;
use buffer::Scratch;
use health::Health;
use pipelines::Pipelines;
use queue::Queued;

/// An opened device; operands share it.
#[derive(Debug)]
pub(crate) struct Gpu {
    pub(crate) info: AdapterInfo,
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    /// Bytes that one binding may have.
    pub(crate) binding_limit: u64,
    /// Workgroups that a dispatch may have in each dimension.
    pub(crate) groups_limit: u32,
    /// The smallest subgroup size, when subgroups are used.
    pub(crate) subgroup: Option<u32>,
    pub(crate) tuning: Tuning,
    pipelines: Pipelines,
    health: Arc<Health>,
    queued: Mutex<Queued>,
    scratch: Mutex<Scratch>,
}

/// What the largest kernel needs: threads in a workgroup, storage bindings, bytes of workgroup memory.
const THREADS: u32 = 256;
const STORAGE_BINDINGS: u32 = 7;
const WORKGROUP_MEMORY: u32 = 8 << 10;

impl Gpu {
    pub(crate) fn open(options: &WgpuOptions) -> Result<Arc<Self>, BackendError> {
        let (info, adapter) = adapter::choose(options.adapter.as_deref())?;
        let mut limits = adapter.limits();
        large_enough(&info.name, &limits)?;
        if let Some(limit) = options.binding_limit {
            limits.max_storage_buffer_binding_size = limits.max_storage_buffer_binding_size.min(limit);
        }
        let binding_limit = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / 16 * 16;
        let groups_limit = limits.max_compute_workgroups_per_dimension;
        let wanted = wgpu::Features::SUBGROUP | wgpu::Features::TIMESTAMP_QUERY;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("residua"),
            required_features: adapter.features() & wanted,
            required_limits: limits,
            // Small blocks: memory that is reserved and not used is missing elsewhere.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
            .map_err(|error| BackendError::Device { backend: NAME, message: error.to_string() })?;
        let health = Health::watch(&device);
        let subgroup = info.subgroups.filter(|_| !options.without_subgroups).map(|(least, _)| least);
        let gpu = Self {
            tuning: options.lanes.map_or_else(|| Tuning::of(info.is_software()), Tuning::for_lanes),
            pipelines: Pipelines::new(subgroup),
            scratch: Mutex::default(),
            queued: Mutex::default(),
            info,
            device,
            queue,
            binding_limit,
            groups_limit,
            subgroup,
            health,
        };
        gpu.health.check()?;
        Ok(Arc::new(gpu))
    }

    /// # Errors
    /// When the device is lost, or reported an error that no call returned.
    pub(crate) fn check(&self) -> Result<(), BackendError> {
        self.health.check()
    }

    /// Calls the device. An error that it reports about this call is returned; it names `what` and its `bytes`.
    pub(crate) fn scoped<T>(
        &self,
        what: &str,
        bytes: u64,
        call: impl FnOnce() -> T,
    ) -> Result<T, BackendError> {
        self.health.check()?;
        let scope = |filter| self.device.push_error_scope(filter);
        let memory = scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = scope(wgpu::ErrorFilter::Internal);
        let validation = scope(wgpu::ErrorFilter::Validation);
        let result = call();
        let errors = [validation, internal, memory].map(|scope| pollster::block_on(scope.pop()));
        let error = errors.into_iter().flatten().next();
        if error.is_some() {
            // A lost device makes every call fail. Polling reports the loss: that is the error to return.
            let _ = self.device.poll(wgpu::PollType::Poll);
        }
        self.health.check()?;
        match error {
            None => Ok(result),
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(BackendError::OutOfMemory { backend: NAME, what: what.into(), asked: bytes, free: None })
            }
            Some(error) => {
                let message = format!("{what}: {}", one_line(&error.to_string()));
                Err(BackendError::Device { backend: NAME, message })
            }
        }
    }

    fn queued(&self) -> std::sync::MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for everything that was submitted.
    fn wait(&self) -> Result<(), BackendError> {
        let polled = self.scoped("waiting", 0, || self.device.poll(wgpu::PollType::wait_indefinitely()))?;
        match polled {
            Ok(_) => self.health.check(),
            Err(error) => Err(BackendError::Device { backend: NAME, message: error.to_string() }),
        }
    }
}

/// # Errors
/// When an adapter is too small for the kernels.
fn large_enough(name: &str, limits: &wgpu::Limits) -> Result<(), BackendError> {
    for (what, needed, found) in [
        ("threads in a workgroup", THREADS, limits.max_compute_invocations_per_workgroup),
        ("threads in a workgroup's first dimension", THREADS, limits.max_compute_workgroup_size_x),
        ("storage buffers in a shader", STORAGE_BINDINGS, limits.max_storage_buffers_per_shader_stage),
        ("bytes of workgroup memory", WORKGROUP_MEMORY, limits.max_compute_workgroup_storage_size),
    ] {
        if found < needed {
            return Err(BackendError::Unavailable {
                backend: NAME,
                missing: format!("{needed} {what} ({name} has {found})"),
                install: "choose another adapter".into(),
            });
        }
    }
    Ok(())
}

/// A message of several lines as one line.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_that_is_too_small_is_named_with_the_limit() {
        assert_eq!(large_enough("a GPU", &wgpu::Limits::default()), Ok(()));
        let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..Default::default() };
        let error = large_enough("a phone", &limits).unwrap_err();
        assert!(matches!(error, BackendError::Unavailable { backend: "wgpu", .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("7 storage buffers in a shader (a phone has 4)"), "{text}");
    }
}
