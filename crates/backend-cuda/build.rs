//! Builds the emulator if its feature is on. Without it nothing is built.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "emulator")]
    emulator::build();
}

#[cfg(feature = "emulator")]
mod emulator {
    use std::fs;
    use std::io::{self, Read};
    use std::path::{Path, PathBuf};

    /// The copies of `kernels/cuda` in this crate, and their PTX.
    const KERNELS: &str = "ptx";

    /// A line of `modules.txt`.
    struct Module {
        name: String,
        source: String,
        value: String,
    }

    pub(super) fn build() {
        println!("cargo::rerun-if-changed=emulator");
        println!("cargo::rerun-if-changed={KERNELS}");
        if let Err(error) = modules().and_then(|modules| build_modules(&modules)) {
            println!("cargo::error=the emulator: {error}");
        }
    }

    fn modules() -> io::Result<Vec<Module>> {
        let text = fs::read_to_string(Path::new(KERNELS).join("modules.txt"))?;
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let modules = lines.map(|line| {
            let mut words = line.split_whitespace().map(str::to_owned);
            let mut word = || words.next().unwrap_or_default();
            Module { name: word(), source: word(), value: word() }
        });
        Ok(modules.collect())
    }

    fn out() -> PathBuf {
        PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default())
    }

    fn build_modules(modules: &[Module]) -> io::Result<()> {
        let here = Path::new("emulator");
        let all: String = modules.iter().map(|module| format!("each({}) ", module.name)).collect();
        let mut compiler = cc::Build::new();
        compiler
            .cpp(true)
            // The code is C++ but does not use the C++ library, so that the binary runs on any machine.
            .cpp_link_stdlib(None)
            .std("c++17")
            .flag("-fno-exceptions")
            .flag("-fno-rtti")
            .flag("-fno-threadsafe-statics")
            .flag("-Wno-unknown-pragmas")
            .opt_level(2)
            .define("RESIDUA_HOST", None)
            .define("RESIDUA_MODULES(each)", all.as_str())
            .include(here)
            .include(KERNELS)
            .file(here.join("emulator.cpp"));
        for module in modules {
            compiler.file(module_file(module)?);
        }
        // A GPU's fused multiply-add, as an instruction and not as a function call.
        if std::env::var("HOST") == std::env::var("TARGET") && fma_is_here() {
            compiler.flag("-mfma");
        }
        let sanitized = std::env::var("CARGO_CFG_SANITIZE");
        if sanitized.as_ref().is_ok_and(|sanitizers| sanitizers.contains("address")) {
            compiler.flag("-fsanitize=address").flag("-fno-omit-frame-pointer").flag("-g1");
            // This also catches vector loads from unaligned addresses.
            compiler.flag("-fsanitize=alignment,bounds").flag("-fsanitize-undefined-trap-on-error");
        }
        let objects = compiler.compile_intermediates();
        cc::Build::new().cpp_link_stdlib(None).objects(&objects).compile("residua_emulator");
        let is_linux = std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux");
        let library = if is_linux && sanitized.is_err() { Some(driver(modules, &objects)?) } else { None };
        // Tests find the played driver through this variable. It is empty if there is none.
        let library = library.unwrap_or_default();
        println!("cargo::rustc-env=RESIDUA_PLAYED_DRIVER={}", library.display());
        Ok(())
    }

    /// A source file that compiles one module.
    fn module_file(Module { name, source, value }: &Module) -> io::Result<PathBuf> {
        let path = out().join(format!("{name}.cpp"));
        let text = format!(
            "#define RESIDUA_MODULE {name}\n#define RESIDUA_VALUE {value}\n#include \"{source}\"\n\
             void residua_link_{name}() {{}}\n"
        );
        fs::write(&path, text)?;
        Ok(path)
    }

    /// A `libcuda.so` that plays a GPU with the emulator, to test the code that calls the real driver.
    fn driver(modules: &[Module], emulator: &[PathBuf]) -> io::Result<PathBuf> {
        let known = out().join("known_ptx.cpp");
        fs::write(&known, known_ptx(modules)?)?;
        let mut compiler = cc::Build::new();
        compiler.cpp(true).std("c++17").opt_level(1);
        let objects = compiler.file("emulator/driver.cpp").file(known).compile_intermediates();
        // A folder that cargo does not add to the loader's path: no program may take this library for a real driver.
        let folder = out().join("played");
        fs::create_dir_all(&folder)?;
        let library = folder.join("libcuda.so");
        let mut link = compiler.get_compiler().to_command();
        let status = link.arg("-shared").args(objects).args(emulator).arg("-o").arg(&library).status()?;
        if status.success() {
            Ok(library)
        } else {
            Err(io::Error::other(format!("the linker ends with {status}")))
        }
    }

    /// A table of hashes. The played driver recognises the PTX of each module by it.
    fn known_ptx(modules: &[Module]) -> io::Result<String> {
        let mut entries = String::new();
        for Module { name, .. } in modules {
            let file = fs::File::open(Path::new(KERNELS).join(format!("{name}.ptx.gz")))?;
            let mut text = Vec::new();
            flate2::read::GzDecoder::new(file).read_to_end(&mut text)?;
            // FNV-1a (G. Fowler, L. C. Noll, K.-P. Vo), as in driver.cpp.
            let hash = text.iter().fold(14_695_981_039_346_656_037u64, |hash, &byte| {
                (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
            });
            entries += &format!("    {{\"{name}\", {hash}ull}},\n");
        }
        Ok(format!(
            "#include <stddef.h>\n#include <stdint.h>\nstruct KnownPtx {{ const char* module; uint64_t hash; }};\n\
             extern const KnownPtx KNOWN_PTX[] = {{\n{entries}}};\nextern const size_t KNOWN_PTX_COUNT = {};\n",
            modules.len()
        ))
    }

    fn fma_is_here() -> bool {
        #[cfg(target_arch = "x86_64")]
        return std::arch::is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }
}
