//! naga parses and validates every form of every shader, and translates it for Vulkan, Metal and Direct3D 12. Needs no
//! device.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use residua_backend_wgpu::kernels::{Cell, Kernel};

/// What every device has. `unpack2x16float` belongs to the language; the type f16 does not.
const BASELINE: Capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;

/// The constants of a kernel, for every type of values, gaps and bases.
fn constants(kernel: Kernel, subgroups: bool) -> Vec<Vec<(&'static str, f64)>> {
    let mut threads = vec![("THREADS", 256.0)];
    if subgroups && kernel.has_teams() {
        threads.push(("SUBGROUP", 8.0));
    }
    let slices = |more: &[(&'static str, f64)]| {
        let mut all = Vec::new();
        for gap_bits in [8.0, 16.0] {
            for values in 0..4 {
                let mut one = threads.clone();
                one.extend([("GAP_BITS", gap_bits), ("VALUES", values.into()), ("CHUNKS", 4.0)]);
                one.extend(more);
                all.push(one);
            }
        }
        all
    };
    match kernel {
        Kernel::GapSpmm => slices(&[]),
        Kernel::GapForward => {
            [4.0, 8.0].into_iter().flat_map(|bits| slices(&[("CODE_BITS", bits)])).collect()
        }
        Kernel::GapForwardDense => {
            [0.0, 1.0, 2.0].into_iter().flat_map(|values| slices(&[("BASE_VALUES", values)])).collect()
        }
        Kernel::CsrSpmv => [1.0, 64.0].map(|team| [threads.clone(), vec![("TEAM", team)]].concat()).to_vec(),
        Kernel::SegmentSum | Kernel::Scale => vec![threads],
    }
}

fn valid(source: &str, capabilities: Capabilities) -> Result<(naga::Module, ModuleInfo), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .map_err(|error| error.emit_to_string(source))?;
    Ok((module, info))
}

/// Sets the constants and writes the shader in the language of each interface.
fn translate(
    module: &naga::Module,
    info: &ModuleInfo,
    constants: &[(&'static str, f64)],
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Debug| format!("{constants:?}: {error:?}");
    let values = constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
    let entry = (naga::ShaderStage::Compute, "main");
    let (module, info) =
        naga::back::pipeline_constants::process_overrides(module, info, Some(entry), &values)
            .map_err(|error| text(&error))?;
    let options = spv::Options { lang_version: (1, 3), ..Default::default() };
    spv::write_vec(&module, &info, &options, None).map_err(|error| text(&error))?;
    let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    msl::write_string(&module, &info, &options, &Default::default()).map_err(|error| text(&error))?;
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_0,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut written = String::new();
    let mut writer = hlsl::Writer::new(&mut written, &options, &hlsl::PipelineOptions { entry_point: None });
    writer.write(&module, &info, None).map_err(|error| text(&error))?;
    Ok(())
}

fn check(subgroups: bool, capabilities: Capabilities) {
    let mut checked = 0;
    for kernel in Kernel::ALL.into_iter().filter(|kernel| !subgroups || kernel.has_teams()) {
        for &cell in kernel.cells() {
            let what = format!("{} with cell {cell:?}", kernel.name());
            let source = kernel.source(cell, subgroups);
            let (module, info) =
                valid(&source, capabilities).unwrap_or_else(|error| panic!("{what}: {error}"));
            for constants in constants(kernel, subgroups) {
                translate(&module, &info, &constants).unwrap_or_else(|error| panic!("{what}: {error}"));
                checked += 1;
            }
        }
    }
    // One kernel alone has 48 forms.
    assert!(checked > 90, "{checked} shaders");
}

#[test]
fn shaders_are_valid_without_any_extension() {
    check(false, BASELINE);
}

#[test]
fn subgroup_variants_are_valid() {
    check(true, BASELINE | Capabilities::SUBGROUP);
}

#[test]
fn subgroup_variants_need_subgroups() {
    assert!(valid(&Kernel::GapSpmm.source(Cell::One, true), BASELINE).is_err());
}

#[test]
fn a_broken_shader_is_refused() {
    let source = Kernel::GapSpmm.source(Cell::One, false);
    for (good, bad) in
        [("data[at]", "data[at].x"), ("let own =", "let own : u32 ="), ("params.beta != 0.0", "params.beta")]
    {
        assert!(source.contains(good), "{good}");
        assert!(valid(&source.replace(good, bad), BASELINE).is_err(), "{bad}");
    }
}
