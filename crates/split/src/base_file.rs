//! The base of a split file, where it is another checkpoint.

use std::path::{Component, Path, PathBuf, absolute};
use std::sync::Arc;

use residua_format::file::{Checkpoint, Container, FileError};

use crate::SplitError;

/// Metadata key: the path of the base checkpoint, where the file does not hold the bases.
pub(crate) const BASE_PATH: &str = "base_path";

/// Where to look for a base that is another checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BaseLocation {
    /// At the path that the split file stores, if it lies in the folder of the split file or below it, links followed.
    /// Any other path is left alone: the writer of the file chose it, not the caller.
    #[default]
    Near,
    /// At the path that the split file stores, wherever that is.
    Stored,
    /// At this path: a safetensors file, the index of a sharded checkpoint, or its directory.
    At(PathBuf),
}

impl BaseLocation {
    /// The path that the caller named.
    pub fn named(&self) -> Option<&Path> {
        match self {
            Self::At(path) => Some(path),
            Self::Near | Self::Stored => None,
        }
    }
}

/// Where bases are that the file does not hold.
#[derive(Debug)]
pub(crate) enum BaseFile {
    NotNeeded,
    Open(Checkpoint),
    /// Without `tried` no path is stored; without `source` the stored path was not followed.
    NotFound {
        tried: Option<PathBuf>,
        source: Option<Arc<FileError>>,
    },
}

impl BaseFile {
    /// # Errors
    /// When the caller named a path and there is no checkpoint, or the budget does not hold the headers.
    pub(crate) fn find(container: &Container, location: &BaseLocation) -> Result<Self, SplitError> {
        if container.matrices().iter().all(|(_, meta)| meta.base.is_some()) {
            return Ok(Self::NotNeeded);
        }
        let budget = container.file().budget();
        if let BaseLocation::At(path) = location {
            return Ok(Self::Open(Checkpoint::open_within(path, budget)?));
        }
        let file = container.file().files().next().unwrap_or(container.path());
        let folder = match file.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        // A relative path starts at the file.
        let Some(path) = container.metadata(BASE_PATH).map(|path| folder.join(path)) else {
            return Ok(Self::NotFound { tried: None, source: None });
        };
        if *location == BaseLocation::Near && !is_inside(&path, folder) {
            return Ok(Self::NotFound { tried: Some(path), source: None });
        }
        Ok(match Checkpoint::open_within(&path, budget) {
            Ok(file) => Self::Open(file),
            Err(error @ FileError::Budget { .. }) => return Err(error.into()),
            Err(error) => Self::NotFound { tried: Some(path), source: Some(Arc::new(error)) },
        })
    }
}

/// Whether a path leads into a folder or below it. The file system is asked only about paths that read so: a mere look at
/// a path elsewhere may wake a network drive.
fn is_inside(path: &Path, folder: &Path) -> bool {
    let (Ok(path), Ok(folder), Ok(real)) = (absolute(path), absolute(folder), folder.canonicalize()) else {
        return false;
    };
    let path = without_dots(&path);
    if !path.starts_with(without_dots(&folder)) && !path.starts_with(&real) {
        return false;
    }
    // If nothing is there, opening it says so.
    path.canonicalize().map_or(true, |path| path.starts_with(real))
}

/// The path as it reads without `.` and `..`.
fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_inside_by_where_it_leads() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["in/below", "in-too"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["in/below/file", "in-too/file"] {
            std::fs::write(at(file), "").unwrap();
        }
        symlink(at("in"), at("link")).unwrap();
        symlink(at("in-too"), at("in/out")).unwrap();
        symlink(at("in/below"), at("in-too/back")).unwrap();
        for path in ["in/file", "in/below/file", "in-too/../in/file", "in/below/../file", "in/./file"] {
            assert!(is_inside(&at(path), &at("in")), "{path}");
            assert!(!is_inside(&at(path), &at("in-too")), "{path}");
        }
        for path in ["link/below/file", "in/below/file"] {
            assert!(is_inside(&at(path), &at("link")), "{path}");
        }
        for path in ["in-too/file", "in/../in-too/file", "in/out/file", "in-too/back/file", "", "in/.."] {
            assert!(!is_inside(&at(path), &at("in")), "{path}");
        }
    }
}
