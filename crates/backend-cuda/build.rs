//! Builds the emulator where its feature is on; users have nothing to build.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "emulator")]
    emulator::build();
}

#[cfg(feature = "emulator")]
mod emulator {
    use std::path::{Path, PathBuf};

    /// Modules, their source files and the value type they are compiled for.
    const MODULES: [(&str, &str, &str); 7] = [
        ("gap_f32", "gap.cu", "value_f32"),
        ("gap_f16", "gap.cu", "value_f16"),
        ("gap_bf16", "gap.cu", "value_bf16"),
        ("gap_i8", "gap.cu", "value_i8"),
        ("csr", "csr.cu", ""),
        ("coo", "coo.cu", ""),
        ("peer_coo", "peer_coo.cu", ""),
    ];

    pub(super) fn build() {
        let here = Path::new("emulator");
        let kernels = Path::new("../../kernels/cuda");
        println!("cargo::rerun-if-changed=emulator");
        println!("cargo::rerun-if-changed={}", kernels.display());
        let mut compiler = cc::Build::new();
        compiler
            .cpp(true)
            // The code is C++ but needs no library of it, so that the binary runs anywhere.
            .cpp_link_stdlib(None)
            .std("c++17")
            .flag("-fno-exceptions")
            .flag("-fno-rtti")
            .flag("-fno-threadsafe-statics")
            .flag("-Wno-unknown-pragmas")
            .opt_level(2)
            .define("RESIDUA_HOST", None)
            .include(here)
            .include(kernels)
            .file(here.join("emulator.cpp"))
            .files(MODULES.iter().map(module_file));
        // The same fused multiply-add as a GPU's, in an instruction instead of a call.
        if std::env::var("HOST") == std::env::var("TARGET") && fma_is_here() {
            compiler.flag("-mfma");
        }
        if std::env::var("CARGO_CFG_SANITIZE").is_ok_and(|sanitizers| sanitizers.contains("address")) {
            compiler.flag("-fsanitize=address").flag("-fno-omit-frame-pointer").flag("-g1");
            // Vector loads from odd addresses, too.
            compiler.flag("-fsanitize=alignment,bounds").flag("-fsanitize-undefined-trap-on-error");
        }
        compiler.compile("residua_emulator");
    }

    /// A file that compiles one module.
    fn module_file((module, source, value): &(&str, &str, &str)) -> PathBuf {
        let folder = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
        let path = folder.join(format!("{module}.cpp"));
        let text = format!(
            "#define RESIDUA_MODULE {module}\n#define RESIDUA_VALUE {value}\n#include \"{source}\"\n\
             void residua_link_{module}() {{}}\n"
        );
        if let Err(error) = std::fs::write(&path, text) {
            println!("cargo::error={}: {error}", path.display());
        }
        path
    }

    fn fma_is_here() -> bool {
        #[cfg(target_arch = "x86_64")]
        return std::arch::is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}
