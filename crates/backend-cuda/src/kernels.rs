//! The compiled kernels, and their source for drivers that refuse them. `cargo xtask kernels` writes both.

use residua_format::ValueType;

use crate::launch::Module;

/// PTX for compute capability 8.0 and newer.
pub(crate) fn ptx(module: Module) -> &'static str {
    match module {
        Module::Gap(ValueType::F32) => include_str!("../ptx/gap_f32.ptx"),
        Module::Gap(ValueType::F16) => include_str!("../ptx/gap_f16.ptx"),
        Module::Gap(ValueType::Bf16) => include_str!("../ptx/gap_bf16.ptx"),
        Module::Gap(ValueType::I8) => include_str!("../ptx/gap_i8.ptx"),
        Module::Csr => include_str!("../ptx/csr.ptx"),
        Module::Coo => include_str!("../ptx/coo.ptx"),
        #[cfg(feature = "peers")]
        Module::PeerCoo => include_str!("../ptx/peer_coo.ptx"),
    }
}

/// The CUDA C++ that the PTX comes from, in one piece.
pub(crate) fn source(module: Module) -> &'static str {
    match module {
        Module::Gap(_) => include_str!("../ptx/gap.cu"),
        Module::Csr => include_str!("../ptx/csr.cu"),
        Module::Coo => include_str!("../ptx/coo.cu"),
        #[cfg(feature = "peers")]
        Module::PeerCoo => include_str!("../ptx/peer_coo.cu"),
    }
}

/// The compiler options that go with the source, the architecture left out.
pub(crate) fn options(module: Module) -> Vec<String> {
    let mut options = vec!["--std=c++17".to_owned()];
    if let Module::Gap(value_type) = module {
        options.push(format!("-DRESIDUA_VALUE=value_{value_type}"));
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_for_the_oldest_architecture_and_bears_its_kernels() {
        let gap =
            ["spmm_g8_b1", "spmm_g8_b8", "spmm_g16_b1", "spmm_g16_b8", "forward_int4_b1", "forward_int8_b8"];
        let modules = ValueType::ALL.map(|value_type| (Module::Gap(value_type), &gap[..]));
        let others = [
            (Module::Csr, &["csr_b1", "csr_b8", "scale"][..]),
            (Module::Coo, &["coo_count", "coo_scan", "coo_deal", "coo_sort", "coo_merge"][..]),
        ];
        #[cfg(feature = "peers")]
        let others =
            [others.as_slice(), &[(Module::PeerCoo, &["peer_coo_per_entry", "peer_coo_scan"])]].concat();
        for (module, kernels) in modules.into_iter().chain(others) {
            assert!(ptx(module).contains(".target sm_80"), "{}", module.name());
            for kernel in kernels {
                assert!(ptx(module).contains(&format!(".entry {kernel}(")), "{}: {kernel}", module.name());
                assert!(source(module).contains(kernel), "{kernel}");
            }
        }
    }
}
