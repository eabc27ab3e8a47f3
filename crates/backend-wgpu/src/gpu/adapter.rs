//! The adapters of this machine, and how one is chosen.

use residua_backend::BackendError;

use crate::NAME;

/// An adapter, as its driver describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdapterInfo {
    /// Its number. Adapters are numbered in order of preference.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// Discrete, integrated or virtual GPU, or software.
    pub kind: &'static str,
    /// Vulkan, Metal or Direct3D 12.
    pub api: &'static str,
    /// The driver and its version.
    pub driver: String,
    /// Most bytes in one binding. Larger matrices are split by rows.
    pub binding_limit: u64,
    /// Most bytes in one buffer.
    pub buffer_limit: u64,
    /// Most bytes of memory of one workgroup.
    pub workgroup_memory: u32,
    /// Most threads in one workgroup.
    pub workgroup_threads: u32,
    /// The smallest and the largest subgroup size, if the adapter supports subgroup operations.
    pub subgroups: Option<(u32, u32)>,
    /// Whether the device's clock can time kernels.
    pub timestamps: bool,
}

impl AdapterInfo {
    fn new(index: usize, adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        Self {
            index,
            name: info.name,
            kind: kind(info.device_type),
            api: match info.backend {
                wgpu::Backend::Vulkan => "Vulkan",
                wgpu::Backend::Metal => "Metal",
                wgpu::Backend::Dx12 => "Direct3D 12",
                _ => "another interface",
            },
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            binding_limit: limits.max_storage_buffer_binding_size,
            buffer_limit: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            subgroups: subgroups.then_some((info.subgroup_min_size, info.subgroup_max_size)),
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        }
    }

    /// Whether it is software that emulates a GPU on the processor.
    pub fn is_software(&self) -> bool {
        self.kind == kind(wgpu::DeviceType::Cpu)
    }
}

fn kind(device_type: wgpu::DeviceType) -> &'static str {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete GPU",
        wgpu::DeviceType::IntegratedGpu => "integrated GPU",
        wgpu::DeviceType::VirtualGpu => "virtual GPU",
        wgpu::DeviceType::Cpu => "software",
        wgpu::DeviceType::Other => "other",
    }
}

/// The adapters of this machine, the preferred one first. Empty when there is no driver.
pub fn adapters() -> Vec<AdapterInfo> {
    found().into_iter().map(|(info, _)| info).collect()
}

fn found() -> Vec<(AdapterInfo, wgpu::Adapter)> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        // No validation layers and no debug labels. Debug assertions would switch them on.
        flags: wgpu::InstanceFlags::empty(),
        // If the driver reports a memory budget, stay below it. Beyond it, memory moves to the host, or allocations
        // fail where no error scope catches them.
        memory_budget_thresholds: wgpu::MemoryBudgetThresholds {
            for_resource_creation: Some(95),
            for_device_loss: None,
        },
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(|adapter| match adapter.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    });
    let described = |(index, adapter)| (AdapterInfo::new(index, &adapter), adapter);
    adapters.into_iter().enumerate().map(described).collect()
}

/// The adapter with this number or this part of a name; by default the preferred one.
pub(super) fn choose(wanted: Option<&str>) -> Result<(AdapterInfo, wgpu::Adapter), BackendError> {
    pick(found(), wanted, |(info, _)| info)
}

fn pick<T>(
    mut found: Vec<T>,
    wanted: Option<&str>,
    info: impl Fn(&T) -> &AdapterInfo,
) -> Result<T, BackendError> {
    if found.is_empty() {
        return Err(BackendError::Unavailable {
            backend: NAME,
            missing: "a device with a Vulkan, Metal or Direct3D 12 driver".into(),
            install: "install the driver of your GPU, or one in software (Debian: apt install \
                      mesa-vulkan-drivers libvulkan1)"
                .into(),
        });
    }
    let Some(wanted) = wanted else { return Ok(found.swap_remove(0)) };
    let position = match wanted.trim().parse() {
        Ok(index) => Some(index).filter(|&index: &usize| index < found.len()),
        Err(_) => {
            let part = wanted.trim().to_lowercase();
            found.iter().position(|one| info(one).name.to_lowercase().contains(&part))
        }
    };
    match position {
        Some(position) => Ok(found.swap_remove(position)),
        None => {
            let one = |one| format!("{} {:?}", info(one).index, info(one).name);
            let present = found.iter().map(one).collect::<Vec<_>>().join(", ");
            Err(BackendError::NoSuchDevice { backend: NAME, wanted: wanted.into(), present })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(names: &[&str]) -> Vec<AdapterInfo> {
        let one = |(index, name): (usize, &&str)| AdapterInfo {
            index,
            name: (*name).into(),
            kind: "discrete GPU",
            api: "Vulkan",
            driver: String::new(),
            binding_limit: 0,
            buffer_limit: 0,
            workgroup_memory: 0,
            workgroup_threads: 0,
            subgroups: None,
            timestamps: false,
        };
        names.iter().enumerate().map(one).collect()
    }

    fn picked(names: &[&str], wanted: Option<&str>) -> Result<usize, BackendError> {
        pick(machine(names), wanted, |info| info).map(|info| info.index)
    }

    #[test]
    fn adapters_are_chosen_by_number_or_part_of_a_name() {
        let names = ["GeForce RTX 9000", "llvmpipe (LLVM 15.0.6, 256 bits)"];
        assert_eq!(picked(&names, None), Ok(0));
        assert_eq!(picked(&names, Some("1")), Ok(1));
        assert_eq!(picked(&names, Some("LLVMpipe")), Ok(1));
        assert_eq!(picked(&names, Some(" geforce ")), Ok(0));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        for wanted in ["2", "radeon", "-1"] {
            let error = picked(&["GeForce", "llvmpipe"], Some(wanted)).unwrap_err();
            assert!(matches!(&error, BackendError::NoSuchDevice { wanted: w, .. } if w == wanted), "{error}");
            let text = error.to_string();
            assert!(text.contains("0 \"GeForce\", 1 \"llvmpipe\""), "{text}");
        }
    }

    #[test]
    fn a_machine_without_adapters_says_what_to_install() {
        for wanted in [None, Some("0"), Some("llvmpipe")] {
            let error = picked(&[], wanted).unwrap_err();
            assert!(matches!(error, BackendError::Unavailable { backend: "wgpu", .. }), "{error}");
            assert!(error.to_string().contains("mesa-vulkan-drivers"), "{error}");
        }
    }
}
