//! Shaders for comparison, run through wgpu itself.

use residua_backend_wgpu::WgpuBackend;
use residua_backend_wgpu::wgpu::util::{BufferInitDescriptor, DeviceExt};
use residua_backend_wgpu::wgpu::{
    self, BufferUsages, ComputePipelineDescriptor, ShaderModuleDescriptor, ShaderSource,
};
use residua_format::Csr;

use crate::Result;

/// A shader over the rows of a CSR matrix.
pub(crate) struct Plain {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    bindings: wgpu::BindGroup,
    groups: u32,
    y: wgpu::Buffer,
}

impl Plain {
    /// `positions` is the shader's plane of columns or gaps, `groups` its number of workgroups.
    pub(crate) fn new(
        backend: &WgpuBackend,
        source: &'static str,
        csr: &Csr<f32, u32>,
        positions: &[u32],
        x: &[f32],
        groups: u32,
    ) -> Self {
        let (device, queue) = backend.wgpu();
        let buffer = |contents: &[u8], usage| {
            let usage = BufferUsages::STORAGE | usage;
            device.create_buffer_init(&BufferInitDescriptor { label: None, contents, usage })
        };
        let y = buffer(&vec![0; 4 * csr.rows()], BufferUsages::COPY_SRC);
        let planes = [
            buffer(bytemuck::cast_slice(csr.row_ptr()), BufferUsages::empty()),
            buffer(bytemuck::cast_slice(positions), BufferUsages::empty()),
            buffer(bytemuck::cast_slice(csr.values()), BufferUsages::empty()),
            buffer(bytemuck::cast_slice(x), BufferUsages::empty()),
            y.clone(),
        ];
        let module = device.create_shader_module(ShaderModuleDescriptor {
            label: None,
            source: ShaderSource::Wgsl(source.into()),
        });
        let pipeline = device.create_compute_pipeline(&ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: None,
            compilation_options: Default::default(),
            cache: None,
        });
        let entries: Vec<_> = (0..)
            .zip(&planes)
            .map(|(binding, plane)| wgpu::BindGroupEntry { binding, resource: plane.as_entire_binding() })
            .collect();
        let bindings = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Self { device: device.clone(), queue: queue.clone(), pipeline, bindings, groups, y }
    }

    /// Runs the shader several times in one submission and waits.
    pub(crate) fn run(&self, times: usize) -> Result<()> {
        let mut encoder = self.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &self.bindings, &[]);
            (0..times).for_each(|_| pass.dispatch_workgroups(self.groups, 1, 1));
        }
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(())
    }

    /// The result.
    pub(crate) fn y(&self) -> Result<Vec<f32>> {
        let size = self.y.size();
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let staging = self.device.create_buffer(&descriptor);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(&self.y, 0, &staging, 0, size);
        self.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(wgpu::MapMode::Read, |_| {});
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        let view = staging.slice(..).get_mapped_range()?;
        Ok(bytemuck::pod_collect_to_vec(&view))
    }
}
