//! The WGSL half: validates the shaders and copies them into the crate that embeds them.
//!
//! A test of that crate parses, validates and translates every form of every shader with naga. It knows the forms, and
//! these tools need not build naga.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::generated::Generated;
use crate::Result;
use crate::project::{Project, cargo};

/// Whether every shader is valid. Prints the errors.
pub(crate) fn validate() -> Result<bool> {
    let args = ["test", "--quiet", "-p", "residua-backend-wgpu", "--test", "shaders"];
    Ok(Command::new(cargo()).args(args).status()?.success())
}

/// The correct copies of all sources.
///
/// # Errors
/// When the crate has a copy without a source.
pub(crate) fn copies(project: &Project) -> Result<Vec<Generated>> {
    let crate_folder = project.root.join("crates").join("backend-wgpu").join("wgsl");
    copies_of(&project.root.join("kernels").join("wgsl"), &crate_folder)
}

fn copies_of(sources: &Path, folder: &Path) -> Result<Vec<Generated>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources).map_err(|error| format!("{}: {error}", sources.display()))? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())?;
        let text = format!("// Written by `cargo xtask kernels` from kernels/wgsl; change it there.\n{text}");
        files.push(Generated { path: folder.join(entry.file_name()), text });
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry?.path();
        if !files.iter().any(|file| file.path == path) {
            return Err(format!("{} has no source in kernels/wgsl: remove it", path.display()).into());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::super::generated::settle;
    use super::*;

    #[test]
    fn copies_follow_their_sources() {
        let folder = tempfile::tempdir().unwrap();
        let [sources, copies] = ["sources", "copies"].map(|name| folder.path().join(name));
        fs::create_dir(&sources).unwrap();
        for name in ["b.wgsl", "a.wgsl"] {
            fs::write(sources.join(name), "alias A = f32;\n").unwrap();
        }
        let differing = |check| settle(&copies_of(&sources, &copies).unwrap(), check).unwrap().len();
        assert_eq!([differing(true), differing(false), differing(true)], [2, 2, 0]);
        fs::write(sources.join("a.wgsl"), "alias A = u32;\n").unwrap();
        assert_eq!([differing(true), differing(false), differing(true)], [1, 1, 0]);
        fs::remove_file(sources.join("b.wgsl")).unwrap();
        let error = copies_of(&sources, &copies).err().unwrap().to_string();
        assert!(error.contains("b.wgsl has no source"), "{error}");
    }
}
