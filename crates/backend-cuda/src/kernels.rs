//! The compiled kernels, and their source for drivers that refuse them. `cargo xtask kernels` writes both.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use residua_format::ValueType;

/// Kernels that are compiled together.
///
/// A driver compiles a module when one of its kernels is first needed, so kernels that few programs use have modules of
/// their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Module {
    /// `gap.cu`: products and quantised layers, for residuals of a value type.
    Gap(ValueType),
    /// `dense.cu`: layers with a dense base, for residuals of a value type.
    Dense(ValueType),
    /// `csr.cu`.
    Csr,
    /// `coo.cu`.
    Coo,
    /// `peer_coo.cu`.
    #[cfg(feature = "peers")]
    PeerCoo,
}

/// A module's files: `ptx/NAME.ptx.gz` and `ptx/SOURCE.cu`.
macro_rules! files {
    ($name:literal, $source:literal) => {
        Files {
            name: $name,
            ptx: include_bytes!(concat!("../ptx/", $name, ".ptx.gz")),
            source: include_str!(concat!("../ptx/", $source, ".cu")),
        }
    };
}

struct Files {
    name: &'static str,
    ptx: &'static [u8],
    source: &'static str,
}

impl Module {
    fn files(self) -> Files {
        match self {
            Self::Gap(ValueType::F32) => files!("gap_f32", "gap"),
            Self::Gap(ValueType::F16) => files!("gap_f16", "gap"),
            Self::Gap(ValueType::Bf16) => files!("gap_bf16", "gap"),
            Self::Gap(ValueType::I8) => files!("gap_i8", "gap"),
            Self::Dense(ValueType::F32) => files!("dense_f32", "dense"),
            Self::Dense(ValueType::F16) => files!("dense_f16", "dense"),
            Self::Dense(ValueType::Bf16) => files!("dense_bf16", "dense"),
            Self::Dense(ValueType::I8) => files!("dense_i8", "dense"),
            Self::Csr => files!("csr", "csr"),
            Self::Coo => files!("coo", "coo"),
            #[cfg(feature = "peers")]
            Self::PeerCoo => files!("peer_coo", "peer_coo"),
        }
    }

    /// The name, also in `ptx/modules.txt`.
    pub(crate) fn name(self) -> &'static str {
        self.files().name
    }

    /// PTX for compute capability 8.0 and newer.
    ///
    /// # Errors
    /// The committed file is damaged.
    pub(crate) fn ptx(self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        GzDecoder::new(self.files().ptx).read_to_end(&mut text)?;
        Ok(text)
    }

    /// The CUDA C++ of the PTX, without `#include` lines that a compiler would have to search.
    pub(crate) fn source(self) -> &'static str {
        self.files().source
    }

    /// The compiler options for the source, except the architecture.
    pub(crate) fn options(self) -> Vec<String> {
        let mut options = vec!["--std=c++17".to_owned()];
        if let Self::Gap(value_type) | Self::Dense(value_type) = self {
            options.push(format!("-DRESIDUA_VALUE=value_{value_type}"));
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_for_the_oldest_architecture_and_holds_its_kernels() {
        let gap =
            ["spmm_g8_b1", "spmm_g8_b8", "spmm_g16_b1", "spmm_g16_b8", "forward_int4_b1", "forward_int8_b8"];
        let dense = ["forward_f32_b1", "forward_f16_b8", "forward_bf16_b1", "forward_bf16_b8"];
        let gap = ValueType::ALL.map(|value_type| (Module::Gap(value_type), &gap[..]));
        let dense = ValueType::ALL.map(|value_type| (Module::Dense(value_type), &dense[..]));
        let others = [
            (Module::Csr, &["csr_b1", "csr_b8", "scale"][..]),
            (Module::Coo, &["coo_count", "coo_scan", "coo_deal", "coo_sort", "coo_merge"][..]),
        ];
        #[cfg(feature = "peers")]
        let others =
            [others.as_slice(), &[(Module::PeerCoo, &["peer_coo_per_entry", "peer_coo_scan"])]].concat();
        for (module, kernels) in gap.into_iter().chain(dense).chain(others) {
            let ptx = String::from_utf8(module.ptx().unwrap()).unwrap();
            assert!(ptx.contains(".target sm_80"), "{}", module.name());
            for kernel in kernels {
                assert!(ptx.contains(&format!(".entry {kernel}(")), "{}: {kernel}", module.name());
                assert!(module.source().contains(kernel), "{kernel}");
            }
        }
    }

    #[test]
    fn the_list_of_modules_names_each_with_its_value_type() {
        let list = include_str!("../ptx/modules.txt");
        for value_type in ValueType::ALL {
            for module in [Module::Gap(value_type), Module::Dense(value_type)] {
                let value = format!("value_{value_type}");
                let is = |line: &str| line.starts_with(module.name()) && line.contains(&value);
                assert!(list.lines().any(is), "{}", module.name());
            }
        }
    }
}
