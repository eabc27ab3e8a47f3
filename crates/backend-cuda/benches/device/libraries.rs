//! Finds NVIDIA's libraries outside the loader's path: in CUDA toolkits and in Python wheels.
//!
//! The loader reads its path when a process starts, so the program restarts itself with a longer path.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::shared::Result;

/// Set after the search: the folder of links that it made.
const DONE: &str = "RESIDUA_DEVICE_LIBRARIES";
/// The peers, and the compiler for old drivers.
const NAMES: [&str; 3] = ["libcusparse", "libcublas", "libnvrtc"];
/// Prints the library folders of wheels and of a conda environment.
const PYTHON: &str = "import glob, os, sys
for path in sys.path:
    for folder in glob.glob(os.path.join(path, 'nvidia', '*', 'lib')):
        print(folder)
print(os.path.join(sys.prefix, 'lib'))";

/// Replaces this process by one that finds the libraries, if there are any and that has not happened yet.
pub(crate) fn find() -> Result {
    if std::env::var_os(DONE).is_some() || !cfg!(target_os = "linux") {
        return Ok(());
    }
    let folders: Vec<PathBuf> = candidates().into_iter().filter(|folder| has_libraries(folder)).collect();
    if folders.is_empty() {
        return Ok(());
    }
    let links = link_unversioned(&folders)?;
    let old = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let path = std::env::join_paths(std::env::split_paths(&old).chain(folders).chain([links.clone()]))?;
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).env("LD_LIBRARY_PATH", path).env(DONE, &links);
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut again).into());
    #[cfg(not(unix))]
    Ok(())
}

/// Removes the folder that [`find`] made.
pub(crate) fn forget() {
    if let Some(links) = std::env::var_os(DONE) {
        // The folder holds only links. A later run makes new ones.
        for link in files(Path::new(&links)).filter(|file| file.is_symlink()) {
            let _ = std::fs::remove_file(link);
        }
        let _ = std::fs::remove_dir(&links);
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    let entries = std::fs::read_dir("/usr/local").into_iter().flatten().flatten();
    folders.extend(entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("/cuda")));
    folders.extend(["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from));
    // The newest toolkit first.
    folders.sort();
    folders.reverse();
    let mut folders: Vec<PathBuf> = folders.iter().map(|toolkit| toolkit.join("lib64")).collect();
    for python in ["python3", "python"] {
        if let Ok(output) = Command::new(python).args(["-c", PYTHON]).output() {
            folders.extend(String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from));
        }
    }
    folders
}

fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether a file is a library, of any version.
fn is(file: &Path, library: &str) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(library).is_some_and(|rest| rest == ".so" || rest.starts_with(".so."))
}

/// Whether a folder holds one of the libraries, or a library that they need.
fn has_libraries(folder: &Path) -> bool {
    let needed = ["libnvJitLink", "libcublasLt"];
    files(folder).any(|file| NAMES.iter().chain(&needed).any(|library| is(&file, library)))
}

/// Makes a folder of links without versions: the bindings do not know all versions, and wheels lack such links.
fn link_unversioned(folders: &[PathBuf]) -> Result<PathBuf> {
    let links = std::env::temp_dir().join(format!("residua-device-{}", std::process::id()));
    std::fs::create_dir_all(&links)?;
    for library in NAMES {
        if let Some(file) = folders.iter().flat_map(|folder| files(folder)).find(|file| is(file, library)) {
            #[cfg(unix)]
            std::os::unix::fs::symlink(file, links.join(format!("{library}.so")))?;
            #[cfg(not(unix))]
            let _ = file;
        }
    }
    Ok(links)
}
