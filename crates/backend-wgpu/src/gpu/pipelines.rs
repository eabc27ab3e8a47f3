//! Pipelines: shaders that were compiled for a device, each compiled once.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use residua_backend::BackendError;

use super::Gpu;
use crate::kernels::{Cell, Constants, Kernel};

/// The pipelines of a device.
#[derive(Debug)]
pub(super) struct Pipelines {
    subgroup: Option<u32>,
    compiled: Mutex<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    modules: HashMap<(Kernel, Cell), wgpu::ShaderModule>,
    pipelines: HashMap<(Kernel, Cell, Constants), wgpu::ComputePipeline>,
    layouts: HashMap<Kernel, wgpu::BindGroupLayout>,
}

impl Pipelines {
    /// `subgroup` is the smallest subgroup size; without it shaders use no subgroup operations.
    pub(super) fn new(subgroup: Option<u32>) -> Self {
        Self { subgroup, compiled: Mutex::default() }
    }
}

impl Gpu {
    /// A kernel with its constants.
    pub(crate) fn pipeline(
        &self,
        kernel: Kernel,
        cell: Cell,
        mut constants: Constants,
    ) -> Result<(wgpu::ComputePipeline, wgpu::BindGroupLayout), BackendError> {
        let Pipelines { subgroup, compiled } = &self.pipelines;
        if let Some(subgroup) = subgroup.filter(|_| kernel.has_teams()) {
            constants.push(("SUBGROUP", subgroup));
        }
        let mut compiled = compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = match compiled.layouts.get(&kernel) {
            Some(layout) => layout.clone(),
            None => {
                let layout = self.scoped(kernel.name(), 0, || self.layout(kernel))?;
                compiled.layouts.entry(kernel).or_insert(layout).clone()
            }
        };
        let key = (kernel, cell, constants);
        if let Some(pipeline) = compiled.pipelines.get(&key) {
            return Ok((pipeline.clone(), layout));
        }
        let module = match compiled.modules.get(&(kernel, cell)) {
            Some(module) => module.clone(),
            None => {
                let source = kernel.source(cell, subgroup.is_some());
                let descriptor = wgpu::ShaderModuleDescriptor {
                    label: Some(kernel.name()),
                    source: wgpu::ShaderSource::Wgsl(source.into()),
                };
                let module =
                    self.scoped(kernel.name(), 0, || self.device.create_shader_module(descriptor))?;
                compiled.modules.entry((kernel, cell)).or_insert(module).clone()
            }
        };
        let constants: Vec<(&str, f64)> =
            key.2.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let pipeline = self.scoped(kernel.name(), 0, || {
            let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                ..Default::default()
            });
            self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(kernel.name()),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    // Every kernel writes its workgroup memory before it reads it.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        })?;
        compiled.pipelines.insert(key, pipeline.clone());
        Ok((pipeline, layout))
    }

    fn layout(&self, kernel: Kernel) -> wgpu::BindGroupLayout {
        let entry = |binding, ty, dynamic| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: dynamic, min_binding_size: None },
            count: None,
        };
        let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true)];
        for (number, written) in kernel.bindings().iter().enumerate() {
            let ty = wgpu::BufferBindingType::Storage { read_only: !written };
            entries.push(entry(1 + number as u32, ty, false));
        }
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some(kernel.name()), entries: &entries };
        self.device.create_bind_group_layout(&descriptor)
    }
}
