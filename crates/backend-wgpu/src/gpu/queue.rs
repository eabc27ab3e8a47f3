//! The queue of dispatches. They are submitted together: a sequence of layers is one submission.

use residua_backend::BackendError;

use super::Gpu;
use super::timing::Stamps;

/// Bytes between the parameters of two dispatches: the largest alignment that a device may require.
const SLOT: usize = 256;
/// Most dispatches in one submission.
const MOST: usize = 256;

/// One run of a kernel.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) pipeline: wgpu::ComputePipeline,
    pub(crate) bindings: wgpu::BindGroup,
    /// The words of the kernel's `Params`.
    pub(crate) params: Vec<u32>,
    pub(crate) groups: [u32; 3],
}

/// Dispatches that wait for their submission.
#[derive(Debug, Default)]
pub(super) struct Queued {
    dispatches: Vec<Dispatch>,
    /// A slot for each dispatch of a submission. Allocated at the first use.
    params: Option<wgpu::Buffer>,
    /// Present while kernels are timed.
    pub(super) stamps: Option<Stamps>,
}

impl Gpu {
    /// The buffer of parameters. A dynamic offset selects the slot of a dispatch.
    pub(crate) fn params(&self) -> Result<wgpu::Buffer, BackendError> {
        let mut queued = self.queued();
        if let Some(params) = &queued.params {
            return Ok(params.clone());
        }
        let descriptor = wgpu::BufferDescriptor {
            label: None,
            size: (MOST * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        };
        let params = self.scoped("parameters", descriptor.size, || self.device.create_buffer(&descriptor))?;
        Ok(queued.params.insert(params).clone())
    }

    /// Queues dispatches in order, without dispatches of another thread between them: one may read what the previous
    /// one wrote to the shared scratch memory.
    pub(crate) fn enqueue(&self, dispatches: Vec<Dispatch>) -> Result<(), BackendError> {
        self.check()?;
        let mut queued = self.queued();
        for dispatch in dispatches {
            debug_assert!(dispatch.params.len() * 4 <= SLOT);
            queued.dispatches.push(dispatch);
            if queued.dispatches.len() == MOST {
                self.submit_queued(&mut queued)?;
            }
        }
        Ok(())
    }

    /// Submits what is queued, as one pass. Devices order dispatches when one writes a buffer that another uses.
    pub(crate) fn submit(&self) -> Result<(), BackendError> {
        self.submit_queued(&mut self.queued())
    }

    fn submit_queued(&self, queued: &mut Queued) -> Result<(), BackendError> {
        self.check()?;
        let dispatches = std::mem::take(&mut queued.dispatches);
        // A queued dispatch implies that the buffer of parameters exists.
        let Some(params) = queued.params.clone().filter(|_| !dispatches.is_empty()) else { return Ok(()) };
        let mut bytes = vec![0u8; dispatches.len() * SLOT];
        for (slot, dispatch) in bytes.chunks_exact_mut(SLOT).zip(&dispatches) {
            let params: &[u8] = bytemuck::cast_slice(&dispatch.params);
            slot[..params.len()].copy_from_slice(params);
        }
        let stamps = queued.stamps.as_mut().and_then(Stamps::next_pass);
        self.scoped("kernels", 0, || {
            // The write happens after the previous submissions and before this one.
            self.queue.write_buffer(&params, 0, &bytes);
            let mut encoder = self.device.create_command_encoder(&Default::default());
            {
                let writes = stamps.as_ref().map(|(set, first)| wgpu::ComputePassTimestampWrites {
                    query_set: set,
                    beginning_of_pass_write_index: Some(*first),
                    end_of_pass_write_index: Some(first + 1),
                });
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: writes,
                });
                for (slot, dispatch) in dispatches.iter().enumerate() {
                    pass.set_pipeline(&dispatch.pipeline);
                    pass.set_bind_group(0, &dispatch.bindings, &[(slot * SLOT) as u32]);
                    let [x, y, z] = dispatch.groups;
                    pass.dispatch_workgroups(x, y, z);
                }
            }
            self.queue.submit([encoder.finish()]);
        })
    }

    /// Submits what is queued and waits until it is done.
    pub(crate) fn finish(&self) -> Result<(), BackendError> {
        self.submit()?;
        self.wait()
    }
}
