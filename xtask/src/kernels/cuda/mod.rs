//! The CUDA kernels: PTX from NVRTC and resources from ptxas, both from PyPI wheels. No GPU is needed.

mod resources;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::generated::Generated;
use crate::Result;
use crate::project::Project;
use crate::venv::Venv;
use resources::{ARCHITECTURES, parse, report};
use sources::{LIST, Module, bundle, modules};

/// The oldest release of CUDA 12: the PTX version follows the NVRTC release, and older drivers refuse newer PTX.
const STEPS: [&[&str]; 2] =
    [&["--no-deps", "nvidia-cuda-nvrtc-cu12==12.0.76"], &["--no-deps", "nvidia-cuda-nvcc-cu12==12.0.76"]];
const NVRTC: &str = include_str!("../nvrtc.py");

/// The environment with the compilers.
pub(crate) fn compilers(project: &Project) -> Result<Venv> {
    Venv::prepare(&project.target.join("cuda-venv"), &STEPS)
}

/// The folder of the generated files.
fn folder(project: &Project) -> PathBuf {
    project.root.join("crates").join("backend-cuda").join("ptx")
}

/// The files that need no compiler: the list of modules, and each source in one piece.
pub(crate) fn copies(project: &Project) -> Result<Vec<Generated>> {
    let (from, to) = (project.root.join("kernels").join("cuda"), folder(project));
    let list = fs::read_to_string(from.join(LIST))?;
    let mut files = Vec::new();
    for Module { source, .. } in modules(&list)? {
        let path = to.join(&source);
        if files.iter().all(|file: &Generated| file.path != path) {
            files.push(Generated { path, text: bundle(&from, &source)? });
        }
    }
    files.push(Generated { path: to.join(LIST), text: list });
    Ok(files)
}

/// Compiles the copies to PTX, and reports their resources. A kernel that spills is an error.
pub(crate) fn compile(project: &Project, compilers: &Venv, copies: &[Generated]) -> Result<Vec<Generated>> {
    let (to, scratch) = (folder(project), project.target.join("kernels"));
    fs::create_dir_all(&scratch)?;
    let script = scratch.join("nvrtc.py");
    fs::write(&script, NVRTC)?;
    let text = |name: &str| {
        let file = copies.iter().find(|file| file.path == to.join(name));
        file.map(|file| &file.text).ok_or(format!("there is no copy of {name}"))
    };
    let mut files = Vec::new();
    let mut kernels = Vec::new();
    for Module { name, source, value } in modules(text(LIST)?)? {
        let (bundled, ptx) = (scratch.join(&source), scratch.join(format!("{name}.ptx")));
        fs::write(&bundled, text(&source)?)?;
        let mut command = Command::new(compilers.python());
        command.arg(&script).arg(&bundled).arg(&ptx).args(["--gpu-architecture=compute_80", "--std=c++17"]);
        command.args(value.map(|value| format!("-DRESIDUA_VALUE={value}")));
        output(&mut command)?;
        for architecture in ARCHITECTURES {
            let mut ptxas = Command::new(ptxas(compilers)?);
            ptxas.args(["-v", "-arch", architecture]).arg(&ptx).arg("-o").arg(scratch.join("cubin"));
            kernels.extend(parse(&name, architecture, &output(&mut ptxas)?)?);
        }
        let text = fs::read_to_string(ptx)?;
        files.push(Generated { path: to.join(format!("{name}.ptx.gz")), text });
    }
    let spilling: Vec<String> = kernels
        .iter()
        .filter(|kernel| kernel.spills > 0)
        .map(|kernel| format!("{}::{} on {}", kernel.module, kernel.name, kernel.architecture))
        .collect();
    if !spilling.is_empty() {
        return Err(format!("registers spill to memory: {}", spilling.join(", ")).into());
    }
    files.push(Generated { path: to.join("resources.md"), text: report(&kernels) });
    Ok(files)
}

/// The assembler in the environment.
fn ptxas(compilers: &Venv) -> Result<PathBuf> {
    let find = "import nvidia.cuda_nvcc as wheel; print(list(wheel.__path__)[0])";
    let folder = output(Command::new(compilers.python()).args(["-c", find]))?;
    Ok(Path::new(folder.trim()).join("bin").join("ptxas"))
}

/// The output of a command on both streams.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(text) } else { Err(text.trim().to_owned().into()) }
}
