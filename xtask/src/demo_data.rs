//! `cargo xtask demo-data`: cuts the data of the command line's demo from `assets/`.
//!
//! A registry takes packages up to 10 MiB. So the command line holds one of the two layers and a part of the samples.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::project::Project;

const HELP: &str = "\
Cut the data of the demo, crates/cli/assets, from the whole files in assets.

Usage: cargo xtask demo-data [--check]

  --check  write nothing; fail when a committed file differs";

/// The layer to keep.
const LAYER: &str = "encoder.layer.0.";

/// Ending of the tensors to leave out: features of the model tuned by LoRA.
const LEFT_OUT: &str = "_lora";

/// Prefixes of tensor names, the labels of their rows, and the number of rows to keep per class.
const GROUPS: [(&str, &str, usize); 3] =
    [("old_", "y_old", 120), ("cur_", "y_cur", 120), ("test_", "y_test", 80)];

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let mut check = false;
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("check") => check = true,
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let differing = settle(&Project::read()?.root, check)?;
    for path in &differing {
        println!("{} {}", if check { "differs:" } else { "wrote" }, path.display());
    }
    Ok(if check && !differing.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The demo's files that differ from the cut of `assets/`. Writes them unless `check`.
fn settle(root: &Path, check: bool) -> Result<Vec<PathBuf>> {
    let (whole, part) = (root.join("assets"), root.join("crates/cli/assets"));
    let files = [
        ("minilm-layer.safetensors", layer(Tensors::read(&whole.join("minilm-layers.safetensors"))?)),
        ("drift.safetensors", samples(&Tensors::read(&whole.join("drift.safetensors"))?)?),
    ];
    let mut differing = Vec::new();
    for (name, tensors) in files {
        let (path, bytes) = (part.join(name), tensors.to_bytes()?);
        if fs::read(&path).is_ok_and(|found| found == bytes) {
            continue;
        }
        if !check {
            fs::write(&path, bytes)?;
        }
        differing.push(path);
    }
    Ok(differing)
}

fn layer(mut whole: Tensors) -> Tensors {
    whole.tensors.retain(|name, _| name.starts_with(LAYER));
    whole
}

/// The first rows of each class, the same rows in all tensors of a group.
fn samples(whole: &Tensors) -> Result<Tensors> {
    let mut tensors = BTreeMap::new();
    for (group, labels, each) in GROUPS {
        let classes = whole.tensors.get(labels).ok_or_else(|| format!("no tensor {labels}"))?;
        let mut seen = BTreeMap::new();
        let first = |class: &u8| {
            let count = seen.entry(*class).or_insert(0);
            *count += 1;
            *count <= each
        };
        let kept: Vec<bool> = classes.bytes.iter().map(first).collect();
        let members = whole
            .tensors
            .iter()
            .filter(|(name, _)| *name == labels || (name.starts_with(group) && !name.ends_with(LEFT_OUT)));
        for (name, tensor) in members {
            tensors.insert(name.clone(), tensor.rows(&kept));
        }
    }
    Ok(Tensors { metadata: whole.metadata.clone(), tensors })
}

/// A safetensors file in memory.
struct Tensors {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A tensor in a file's header.
#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The whole header; names are sorted, so that the same tensors give the same bytes.
#[derive(Serialize, Deserialize)]
struct Header {
    #[serde(rename = "__metadata__", default)]
    metadata: BTreeMap<String, String>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Entry>,
}

impl Tensors {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let short = || format!("{} ends too early", path.display());
        let (length, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let (header, data) =
            rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length))?).ok_or_else(short)?;
        let header: Header = serde_json::from_slice(header)?;
        let mut tensors = BTreeMap::new();
        for (name, Entry { dtype, shape, data_offsets: [from, to] }) in header.tensors {
            let bytes = data.get(from..to).ok_or_else(short)?.to_vec();
            tensors.insert(name, Tensor { dtype, shape, bytes });
        }
        Ok(Self { metadata: header.metadata, tensors })
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        let mut tensors = BTreeMap::new();
        for (name, Tensor { dtype, shape, bytes }) in &self.tensors {
            let from = data.len();
            data.extend_from_slice(bytes);
            let entry =
                Entry { dtype: dtype.clone(), shape: shape.clone(), data_offsets: [from, data.len()] };
            tensors.insert(name.clone(), entry);
        }
        let mut header = serde_json::to_vec(&Header { metadata: self.metadata.clone(), tensors })?;
        header.resize(header.len().next_multiple_of(8), b' ');
        Ok([&(header.len() as u64).to_le_bytes()[..], &header, &data].concat())
    }
}

impl Tensor {
    /// The rows for which `kept` is true.
    fn rows(&self, kept: &[bool]) -> Self {
        let size = self.bytes.len() / kept.len().max(1);
        let rows = self.bytes.chunks_exact(size).zip(kept).filter(|&(_, &kept)| kept);
        let bytes: Vec<u8> = rows.flat_map(|(row, _)| row).copied().collect();
        let mut shape = self.shape.clone();
        shape[0] = bytes.len() / size;
        Self { dtype: self.dtype.clone(), shape, bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_holds_what_the_assets_give() {
        let differing = settle(&Project::read().unwrap().root, true).unwrap();
        assert!(differing.is_empty(), "cargo xtask demo-data writes {differing:?}");
    }

    #[test]
    fn rows_are_kept_by_class() {
        let labels = Tensor { dtype: "U8".into(), shape: vec![4], bytes: vec![7, 7, 3, 7] };
        let kept = labels.rows(&[true, false, true, false]);
        assert_eq!((kept.shape, kept.bytes), (vec![2], vec![7, 3]));
        let features = Tensor { dtype: "F16".into(), shape: vec![2, 2], bytes: (0..8).collect() };
        assert_eq!(features.rows(&[false, true]).bytes, [4, 5, 6, 7]);
    }
}
