//! The shaders, put together from `kernels/wgsl`, and their pipelines.
//!
//! A shader is one source for all its uses: what differs between them are pipeline constants, the element that
//! threads work on (one value or four of a batch), and how a team of threads adds up (through workgroup memory or
//! subgroups), each in a small file of its own that the kernel is joined with.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use residua_backend::BackendError;

use crate::gpu::Gpu;

/// A kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// `y = alpha·A·x + beta·y` for a gap-encoded matrix.
    GapSpmm,
    /// `y = base·x + alpha·(residual·x)`.
    GapForward,
    /// Adds up the segments of long rows.
    SegmentSum,
    /// `y = beta·y`.
    Scale,
    /// `y = alpha·A·x + beta·y` for plain CSR.
    CsrSpmv,
}

/// What threads read of `x` and add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// One value.
    One,
    /// Four neighbouring values of a batch.
    Four,
}

macro_rules! wgsl {
    ($name:literal) => {
        include_str!(concat!("../../../kernels/wgsl/", $name, ".wgsl"))
    };
}

impl Kernel {
    /// Every kernel.
    pub const ALL: [Self; 5] =
        [Self::GapSpmm, Self::GapForward, Self::SegmentSum, Self::Scale, Self::CsrSpmv];

    /// The name of its file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GapSpmm => "gap_spmm",
            Self::GapForward => "gap_forward",
            Self::SegmentSum => "segment_sum",
            Self::Scale => "scale",
            Self::CsrSpmv => "csr_spmv",
        }
    }

    /// The cells it is used with.
    pub const fn cells(self) -> &'static [Cell] {
        match self {
            Self::CsrSpmv => &[Cell::One],
            _ => &[Cell::One, Cell::Four],
        }
    }

    /// Whether threads add up in teams.
    pub const fn has_teams(self) -> bool {
        matches!(self, Self::GapSpmm | Self::GapForward | Self::CsrSpmv)
    }

    /// Its source, with subgroup operations or without.
    pub fn source(self, cell: Cell, subgroups: bool) -> String {
        let cell = match cell {
            Cell::One => wgsl!("cell_1"),
            Cell::Four => wgsl!("cell_4"),
        };
        let team = match (self.has_teams(), subgroups) {
            (false, _) => "",
            (true, false) => wgsl!("team_workgroup"),
            (true, true) => wgsl!("team_subgroup"),
        };
        let (slice, kernel) = match self {
            Self::GapSpmm => (wgsl!("gap_slice"), wgsl!("gap_spmm")),
            Self::GapForward => (wgsl!("gap_slice"), wgsl!("gap_forward")),
            Self::SegmentSum => ("", wgsl!("segment_sum")),
            Self::Scale => ("", wgsl!("scale")),
            Self::CsrSpmv => ("", wgsl!("csr_spmv")),
        };
        [cell, team, slice, kernel].concat()
    }

    /// Its storage bindings from 1 on: whether kernels write it.
    const fn bindings(self) -> &'static [bool] {
        match self {
            Self::GapSpmm => &[false, false, false, true, true],
            Self::GapForward => &[false, false, false, true, true, false, false],
            Self::SegmentSum => &[false, false, true],
            Self::Scale => &[true],
            Self::CsrSpmv => &[false, false, false, false, true],
        }
    }
}

/// Pipeline constants by name.
pub(crate) type Constants = Vec<(&'static str, u32)>;

type Key = (Kernel, Cell, Constants);

/// Pipelines that were made, by what they were made for.
#[derive(Debug)]
pub(crate) struct Kernels {
    subgroup: Option<u32>,
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    modules: HashMap<(Kernel, Cell), wgpu::ShaderModule>,
    pipelines: HashMap<Key, wgpu::ComputePipeline>,
    layouts: HashMap<Kernel, wgpu::BindGroupLayout>,
}

impl Kernels {
    /// With subgroup operations where the size of the smallest subgroup is given.
    pub(crate) fn new(subgroup: Option<u32>) -> Self {
        Self { subgroup, made: Mutex::default() }
    }

    /// A kernel with its constants, made once.
    pub(crate) fn pipeline(
        &self,
        gpu: &Gpu,
        kernel: Kernel,
        cell: Cell,
        mut constants: Constants,
    ) -> Result<(wgpu::ComputePipeline, wgpu::BindGroupLayout), BackendError> {
        if let Some(subgroup) = self.subgroup.filter(|_| kernel.has_teams()) {
            constants.push(("SUBGROUP", subgroup));
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let layout = match made.layouts.get(&kernel) {
            Some(layout) => layout.clone(),
            None => {
                let layout = gpu.scoped(kernel.name(), 0, || layout(gpu, kernel))?;
                made.layouts.entry(kernel).or_insert(layout).clone()
            }
        };
        let key = (kernel, cell, constants);
        if let Some(pipeline) = made.pipelines.get(&key) {
            return Ok((pipeline.clone(), layout));
        }
        let module = match made.modules.get(&(kernel, cell)) {
            Some(module) => module.clone(),
            None => {
                let source = kernel.source(cell, self.subgroup.is_some());
                let descriptor = wgpu::ShaderModuleDescriptor {
                    label: Some(kernel.name()),
                    source: wgpu::ShaderSource::Wgsl(source.into()),
                };
                let module = gpu.scoped(kernel.name(), 0, || gpu.device.create_shader_module(descriptor))?;
                made.modules.entry((kernel, cell)).or_insert(module).clone()
            }
        };
        let constants: Vec<(&str, f64)> =
            key.2.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let pipeline = gpu.scoped(kernel.name(), 0, || {
            let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                ..Default::default()
            });
            gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
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
        made.pipelines.insert(key, pipeline.clone());
        Ok((pipeline, layout))
    }
}

fn layout(gpu: &Gpu, kernel: Kernel) -> wgpu::BindGroupLayout {
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
    gpu.device.create_bind_group_layout(&descriptor)
}
