//! The workspace, from `cargo metadata`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Result;

/// The cargo that started this binary.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The target triple of the machine.
pub(crate) fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("-vV").current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}

/// The output of `cargo metadata`, without packages from registries.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Project {
    pub(crate) packages: Vec<Package>,
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) features: BTreeMap<String, Vec<String>>,
    pub(crate) dependencies: Vec<Dependency>,
    /// The registries that it may go to; `None` is any.
    pub(crate) publish: Option<Vec<String>>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// `None` is a normal dependency, else `dev` or `build`.
    pub(crate) kind: Option<String>,
    /// Only dependencies inside the workspace have one.
    pub(crate) path: Option<PathBuf>,
}

impl Project {
    pub(crate) fn read() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(manifest)
            .output()?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Those of [`crates`](Self::crates) that go to a registry. The Python package goes out as a wheel.
    pub(crate) fn published(&self) -> Vec<(&str, &Package)> {
        let mut crates = self.crates();
        crates
            .retain(|(_, package)| package.publish.as_ref().is_none_or(|registries| !registries.is_empty()));
        crates
    }

    /// The packages under `crates/` with their folder names, in alphabetical order of the folder.
    pub(crate) fn crates(&self) -> Vec<(&str, &Package)> {
        let folder = self.root.join("crates");
        let mut crates: Vec<_> = self
            .packages
            .iter()
            .filter(|package| package.dir().parent() == Some(&folder))
            .filter_map(|package| Some((package.dir().file_name()?.to_str()?, package)))
            .collect();
        crates.sort_by_key(|(folder, _)| *folder);
        crates
    }
}

impl Package {
    pub(crate) fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    /// Every Rust source of the package, tests and benches included.
    pub(crate) fn sources(&self) -> Result<Vec<PathBuf>> {
        let mut sources = Vec::new();
        let mut folders = vec![self.dir().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    sources.push(path);
                }
            }
        }
        Ok(sources)
    }
}
