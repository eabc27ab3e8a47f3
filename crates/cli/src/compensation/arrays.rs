//! Names of arrays of features and labels on the command line.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use residua::compensate::FeatureSource;
use residua::compensate::source::{ArrayAt, FileSource};
use residua::format::file::{Checkpoint, Dtype, TensorInfo};
use residua::memory::Budget;

use crate::failure::{Failure, Kind, Result};

/// How to name an array, for `--help`.
pub(crate) const SYNTAX: &str = "\
An array is a .npy file or a tensor of a .safetensors file, FILE.safetensors:TENSOR. TENSOR may be left out if the
file has a tensor \"features\" or \"labels\", or only one tensor of the right type and shape.";

/// `features.npy`, `file.safetensors:tensor`, `file.safetensors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ArrayRef {
    path: PathBuf,
    tensor: Option<String>,
}

impl FromStr for ArrayRef {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let named = text.rsplit_once(':').filter(|(path, _)| !is_npy(path) && has_known_suffix(path));
        Ok(match named {
            Some((path, tensor)) => Self { path: path.into(), tensor: Some(tensor.to_owned()) },
            None => Self { path: text.into(), tensor: None },
        })
    }
}

impl fmt::Display for ArrayRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "{}:{tensor}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// The required content of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Features,
    Labels,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Labels => "labels",
        }
    }

    fn fits(self, tensor: &TensorInfo) -> bool {
        let float = matches!(tensor.dtype, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64);
        match self {
            Self::Features => float && tensor.shape.len() == 2,
            Self::Labels => !float && tensor.shape.len() == 1,
        }
    }
}

fn is_npy(path: &str) -> bool {
    path.to_ascii_lowercase().ends_with(".npy")
}

fn has_known_suffix(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    [".npy", ".safetensors", ".json"].iter().any(|suffix| path.ends_with(suffix))
}

impl ArrayRef {
    /// A tensor of a file.
    pub(crate) fn tensor(path: &Path, name: &str) -> Self {
        Self { path: path.to_owned(), tensor: Some(name.to_owned()) }
    }

    /// The file; for a [bare](Self::is_bare) name the name itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The tensor of the file, if one is named.
    pub(crate) fn name(&self) -> Option<&str> {
        self.tensor.as_deref()
    }

    /// Whether the file is a `.npy` file.
    pub(crate) fn is_npy(&self) -> bool {
        is_npy(&self.path.to_string_lossy())
    }

    /// These labels; a bare name is a tensor in the file of the features.
    pub(crate) fn beside(&self, features: &Self) -> Self {
        if !self.is_bare() {
            return self.clone();
        }
        Self { path: features.path.clone(), tensor: Some(self.to_string()) }
    }

    /// Whether it is only the name of a tensor in the file of the features.
    pub(crate) fn is_bare(&self) -> bool {
        self.tensor.is_none() && !has_known_suffix(&self.path.to_string_lossy()) && !self.path.exists()
    }

    /// The labels in the file of the features.
    pub(crate) fn labels_of(features: &Self) -> Option<Self> {
        (!features.is_npy()).then(|| Self { path: features.path.clone(), tensor: None })
    }

    /// Finds the array, and notes the tensor's name if it had to choose one.
    fn locate(&mut self, role: Role, files: &mut Files) -> Result<ArrayAt> {
        if self.is_npy() {
            return Ok(ArrayAt::Npy(self.path.clone()));
        }
        if !has_known_suffix(&self.path.to_string_lossy()) && !self.path.is_dir() {
            let problem = format!("{}: {} come in .npy or .safetensors files", self, role.name());
            return Err(Failure::usage(problem));
        }
        let file = files.open(&self.path)?;
        let name = match &self.tensor {
            Some(name) => name.clone(),
            None => choose(&file, &self.path, role)?,
        };
        self.tensor = Some(name.clone());
        Ok(ArrayAt::Tensor(file, name))
    }
}

fn choose(file: &Checkpoint, path: &Path, role: Role) -> Result<String> {
    if file.tensor(role.name()).is_some() {
        return Ok(role.name().to_owned());
    }
    let fitting: Vec<&str> =
        file.tensors().iter().filter(|tensor| role.fits(tensor)).map(|tensor| tensor.name.as_str()).collect();
    match *fitting {
        [only] => Ok(only.to_owned()),
        [] => Err(Failure::input(path, format!("holds no tensor that could be {}", role.name()))),
        [first, ..] => Err(Failure::usage(format!(
            "{} has {} tensors that could be {} ({}): name one, such as {}:{first}",
            path.display(),
            fitting.len(),
            role.name(),
            fitting.join(", "),
            path.display()
        ))),
    }
}

/// The checkpoints that arrays are in, each open once, and the room of their tables.
#[derive(Debug)]
pub(crate) struct Files {
    budget: Budget,
    open: Vec<(PathBuf, Arc<Checkpoint>)>,
}

impl Files {
    pub(crate) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), open: Vec::new() }
    }

    fn open(&mut self, path: &Path) -> Result<Arc<Checkpoint>> {
        if let Some((_, file)) = self.open.iter().find(|(known, _)| known == path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(Checkpoint::open_within(path, &self.budget)?);
        self.open.push((path.to_owned(), Arc::clone(&file)));
        Ok(file)
    }
}

/// Arrays to read together.
#[derive(Debug, Clone)]
pub(crate) struct Arrays {
    pub(crate) before: ArrayRef,
    pub(crate) after: Option<ArrayRef>,
    pub(crate) labels: Option<ArrayRef>,
}

impl Arrays {
    /// Opens the arrays. Fills in the chosen name for an array without a tensor's name.
    pub(crate) fn open(&mut self, files: &mut Files) -> Result<FileSource> {
        let before = self.before.locate(Role::Features, files)?;
        let after = self.after.as_mut().map(|array| array.locate(Role::Features, files)).transpose()?;
        let labels = self.labels.as_mut().map(|array| array.locate(Role::Labels, files)).transpose()?;
        let source = FileSource::open(&before, after.as_ref(), labels.as_ref())?;
        if source.dim() == 0 {
            return Err(Failure::new(Kind::Input, format!("{}: features of dimension 0", self.before)));
        }
        Ok(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_told_from_their_text() {
        let parse = |text: &str| {
            let Ok(ArrayRef { path, tensor }) = text.parse();
            (path.display().to_string(), tensor)
        };
        let named = |path: &str, tensor: &str| (path.to_owned(), Some(tensor.to_owned()));
        assert_eq!(parse("a/b.safetensors:x.y"), named("a/b.safetensors", "x.y"));
        assert_eq!(parse("C:\\b.safetensors:x"), named("C:\\b.safetensors", "x"));
        assert_eq!(parse("C:\\b.safetensors"), ("C:\\b.safetensors".into(), None));
        assert_eq!(parse("a.npy"), ("a.npy".into(), None));
        let Ok(features) = "f.safetensors:x".parse::<ArrayRef>();
        let beside = |text: &str| text.parse::<ArrayRef>().unwrap_or_else(|e| match e {}).beside(&features);
        assert_eq!(beside("y").to_string(), "f.safetensors:y");
        assert_eq!(beside("l.npy").to_string(), "l.npy");
        assert_eq!(beside("g.safetensors:y").to_string(), "g.safetensors:y");
    }
}
