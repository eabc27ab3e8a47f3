//! CUDA kernels: PTX by NVRTC and what ptxas makes of it, both from their PyPI wheels. Needs no GPU.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::generated::Generated;
use crate::Result;
use crate::project::Project;
use crate::venv::Venv;

/// The PTX version follows the NVRTC release and older drivers refuse newer PTX: the oldest release of CUDA 12.
const STEPS: [&[&str]; 2] =
    [&["--no-deps", "nvidia-cuda-nvrtc-cu12==12.0.76"], &["--no-deps", "nvidia-cuda-nvcc-cu12==12.0.76"]];
/// Name of a module, its source, and the value type it is compiled for.
const MODULES: [(&str, &str, Option<&str>); 7] = [
    ("gap_f32", "gap.cu", Some("value_f32")),
    ("gap_f16", "gap.cu", Some("value_f16")),
    ("gap_bf16", "gap.cu", Some("value_bf16")),
    ("gap_i8", "gap.cu", Some("value_i8")),
    ("csr", "csr.cu", None),
    ("coo", "coo.cu", None),
    ("peer_coo", "peer_coo.cu", None),
];
/// What the report is made for.
const ARCHITECTURES: [&str; 2] = ["sm_80", "sm_90"];
const NVRTC: &str = include_str!("nvrtc.py");

/// The environment with the compilers.
pub(crate) fn compilers(project: &Project) -> Result<Venv> {
    Venv::prepare(&project.target.join("cuda-venv"), &STEPS)
}

/// Every generated file: sources in one piece, PTX, and the report. A kernel that spills is an error.
pub(crate) fn generate(project: &Project, compilers: &Venv) -> Result<Vec<Generated>> {
    let sources = project.root.join("kernels").join("cuda");
    let folder = project.root.join("crates").join("backend-cuda").join("ptx");
    let scratch = project.target.join("kernels");
    fs::create_dir_all(&scratch)?;
    let script = scratch.join("nvrtc.py");
    fs::write(&script, NVRTC)?;
    let mut files = Vec::new();
    let mut kernels = Vec::new();
    for (module, source, value) in MODULES {
        let text = bundle(&sources, source)?;
        let (bundled, ptx) = (scratch.join(source), scratch.join(format!("{module}.ptx")));
        fs::write(&bundled, &text)?;
        let mut command = Command::new(compilers.python());
        command.arg(&script).arg(&bundled).arg(&ptx).args(["--gpu-architecture=compute_80", "--std=c++17"]);
        command.args(value.map(|value| format!("-DRESIDUA_VALUE={value}")));
        output(&mut command)?;
        for architecture in ARCHITECTURES {
            let mut ptxas = Command::new(ptxas(compilers)?);
            ptxas.args(["-v", "-arch", architecture]).arg(&ptx).arg("-o").arg(scratch.join("cubin"));
            kernels.extend(parse(module, architecture, &output(&mut ptxas)?)?);
        }
        files.push(Generated { path: folder.join(format!("{module}.ptx")), text: fs::read_to_string(ptx)? });
        files.push(Generated { path: folder.join(source), text });
    }
    files.dedup_by(|one, other| one.path == other.path);
    let spilling: Vec<String> = kernels
        .iter()
        .filter(|kernel| kernel.spills > 0)
        .map(|kernel| format!("{}::{} on {}", kernel.module, kernel.name, kernel.architecture))
        .collect();
    if !spilling.is_empty() {
        return Err(format!("registers spill to memory: {}", spilling.join(", ")).into());
    }
    files.push(Generated { path: folder.join("resources.md"), text: report(&kernels) });
    Ok(files)
}

/// A source with its headers in place, each once, so that it compiles without a search path.
fn bundle(folder: &Path, source: &str) -> Result<String> {
    let mut text = "// Written by `cargo xtask kernels` from kernels/cuda; change it there.\n".to_owned();
    append(folder, source, &mut Vec::new(), &mut text)?;
    Ok(text)
}

fn append(folder: &Path, name: &str, seen: &mut Vec<String>, text: &mut String) -> Result {
    if seen.iter().any(|seen| seen == name) {
        return Ok(());
    }
    seen.push(name.into());
    let path = folder.join(name);
    let source = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    for line in source.lines().filter(|line| *line != "#pragma once") {
        match line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix('"')) {
            Some(header) if folder.join(header).exists() => append(folder, header, seen, text)?,
            _ => writeln!(text, "{line}")?,
        }
    }
    Ok(())
}

/// The assembler in the environment.
fn ptxas(compilers: &Venv) -> Result<PathBuf> {
    let find = "import nvidia.cuda_nvcc as wheel; print(list(wheel.__path__)[0])";
    let folder = output(Command::new(compilers.python()).args(["-c", find]))?;
    Ok(Path::new(folder.trim()).join("bin").join("ptxas"))
}

/// What a command prints, on either stream.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(text.trim().to_owned().into()) }
}

/// What a kernel needs on an architecture.
#[derive(Debug, PartialEq)]
struct Kernel {
    module: &'static str,
    architecture: &'static str,
    name: String,
    registers: u32,
    shared: u32,
    /// Bytes of registers kept in memory.
    spills: u32,
}

/// ptxas's report, three lines a kernel.
fn parse(module: &'static str, architecture: &'static str, text: &str) -> Result<Vec<Kernel>> {
    let number = |line: &str, unit: &str| -> Option<u32> {
        line[..line.find(unit)?].split_whitespace().next_back()?.trim_start_matches(',').parse().ok()
    };
    let mut kernels = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((_, name)) = line.split_once("Function properties for ") else { continue };
        let (frame, used) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let spills = number(frame, " bytes spill stores").zip(number(frame, " bytes spill loads"));
        let registers = number(used, " registers");
        let (Some((stores, loads)), Some(registers)) = (spills, registers) else {
            return Err(format!("ptxas says nothing about {name}: {frame} / {used}").into());
        };
        let shared = number(used, " bytes smem").unwrap_or(0);
        let (name, spills) = (name.trim().to_owned(), stores + loads);
        kernels.push(Kernel { module, architecture, name, registers, shared, spills });
    }
    if kernels.is_empty() {
        return Err(format!("ptxas reports no kernel of {module}: {text}").into());
    }
    Ok(kernels)
}

fn report(kernels: &[Kernel]) -> String {
    let mut text = "\
# What the kernels need

Written by `cargo xtask kernels`: registers of a thread and bytes of shared memory of a block of 256 threads, as ptxas
12.0 assigns them. Nothing spills.

| module | kernel | sm_80 registers | shared | sm_90 registers | shared |
|---|---|---|---|---|---|
"
    .to_owned();
    let on =
        |architecture: &'static str| kernels.iter().filter(move |kernel| kernel.architecture == architecture);
    let mut rows: Vec<_> = on(ARCHITECTURES[0])
        .filter_map(|one| {
            let same = |other: &&Kernel| (other.module, &other.name) == (one.module, &one.name);
            Some((one, on(ARCHITECTURES[1]).find(same)?))
        })
        .collect();
    rows.sort_by_key(|(one, _)| (one.module, one.name.clone()));
    for (one, other) in rows {
        let Kernel { module, name, registers, shared, .. } = one;
        let _ = writeln!(
            text,
            "| {module} | {name} | {registers} | {shared} | {} | {} |",
            other.registers, other.shared
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assemblers_report_is_read() {
        let text = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_80'
ptxas info    : Function properties for a
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 48 registers, 4096 bytes smem, 400 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_80'
ptxas info    : Function properties for b
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, 372 bytes cmem[0]
";
        let kernel = |name: &str, registers, shared, spills| Kernel {
            module: "m",
            architecture: "sm_80",
            name: name.into(),
            registers,
            shared,
            spills,
        };
        let expected = [kernel("a", 48, 4096, 16), kernel("b", 8, 0, 0)];
        assert_eq!(parse("m", "sm_80", text).unwrap(), expected);
        assert!(parse("m", "sm_80", "nothing").is_err());
    }

    #[test]
    fn headers_are_put_in_place_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("a.cuh", "#pragma once\nint a;\n");
        write("b.cuh", "#pragma once\n#include \"a.cuh\"\n#include \"elsewhere.h\"\nint b;\n");
        write("c.cu", "#include \"a.cuh\"\n#include \"b.cuh\"\nint c;\n");
        let text = bundle(folder.path(), "c.cu").unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(lines, ["int a;", "#include \"elsewhere.h\"", "int b;", "int c;"]);
    }
}
