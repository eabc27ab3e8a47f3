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
        let objects = compiler.compile_intermediates();
        cc::Build::new().cpp_link_stdlib(None).objects(&objects).compile("residua_emulator");
        driver(&objects);
    }

    /// A libcuda that plays a GPU by the emulator, for the tests of what talks to the real one; they find it through
    /// `RESIDUA_PLAYED_DRIVER`, which is empty where there is none.
    fn driver(emulator: &[PathBuf]) {
        println!("cargo::rerun-if-changed=ptx");
        let sanitized = std::env::var_os("CARGO_CFG_SANITIZE").is_some();
        if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") || sanitized {
            println!("cargo::rustc-env=RESIDUA_PLAYED_DRIVER=");
            return;
        }
        let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
        let hashes = out.join("known_ptx.cpp");
        if let Err(error) = std::fs::write(&hashes, known_ptx()) {
            println!("cargo::error={}: {error}", hashes.display());
        }
        let mut compiler = cc::Build::new();
        compiler.cpp(true).std("c++17").opt_level(1);
        let objects = compiler.file("emulator/driver.cpp").file(hashes).compile_intermediates();
        // Not where cargo has the loader look for libraries: it must not be taken for the driver of a GPU.
        let folder = out.join("played");
        if let Err(error) = std::fs::create_dir_all(&folder) {
            println!("cargo::error={}: {error}", folder.display());
        }
        let library = folder.join("libcuda.so");
        let mut link = compiler.get_compiler().to_command();
        link.arg("-shared").args(objects).args(emulator).arg("-o").arg(&library);
        match link.status() {
            Ok(status) if status.success() => {}
            other => println!("cargo::error={}: {other:?}", library.display()),
        }
        println!("cargo::rustc-env=RESIDUA_PLAYED_DRIVER={}", library.display());
    }

    /// The table by which the played driver knows the modules.
    fn known_ptx() -> String {
        let entry = |(module, _, _): &(&str, &str, &str)| {
            let text = std::fs::read(format!("ptx/{module}.ptx")).unwrap_or_default();
            // FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo), as in driver.cpp.
            let hash = text.iter().fold(14_695_981_039_346_656_037u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
            });
            format!("    {{\"{module}\", {hash}ull}},\n")
        };
        let entries: String = MODULES.iter().map(entry).collect();
        format!(
            "#include <stddef.h>\n#include <stdint.h>\nstruct KnownPtx {{ const char* module; uint64_t hash; }};\n\
             extern const KnownPtx KNOWN_PTX[] = {{\n{entries}}};\nextern const size_t KNOWN_PTX_COUNT = {};\n",
            MODULES.len()
        )
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
