//! The matrices as plain arrays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::Result;

pub struct Csr {
    pub shape: (usize, usize),
    pub indptr: Vec<u32>,
    pub indices: Vec<u32>,
    pub data: Vec<f32>,
}

pub struct Coo {
    pub shape: (usize, usize),
    pub row: Vec<u32>,
    pub col: Vec<u32>,
    pub data: Vec<f32>,
}

pub fn matrices(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("csr-")) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

pub fn csr(path: &Path) -> Result<Csr> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    Ok(Csr {
        shape: shape(&bytes)?,
        indptr: four_bytes(&file, "indptr", u32::from_le_bytes)?,
        indices: four_bytes(&file, "indices", u32::from_le_bytes)?,
        data: four_bytes(&file, "data", f32::from_le_bytes)?,
    })
}

pub fn coo(path: &Path) -> Result<Coo> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    Ok(Coo {
        shape: shape(&bytes)?,
        row: four_bytes(&file, "row", u32::from_le_bytes)?,
        col: four_bytes(&file, "col", u32::from_le_bytes)?,
        data: four_bytes(&file, "data", f32::from_le_bytes)?,
    })
}

fn shape(bytes: &[u8]) -> Result<(usize, usize)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let empty = HashMap::new();
    let metadata = metadata.metadata().as_ref().unwrap_or(&empty);
    let side = |name: &str| -> Result<usize> { Ok(metadata.get(name).ok_or("no shape")?.parse()?) };
    Ok((side("rows")?, side("cols")?))
}

fn four_bytes<T>(file: &SafeTensors, name: &str, from: fn([u8; 4]) -> T) -> Result<Vec<T>> {
    let tensor = file.tensor(name)?;
    let (numbers, _) = tensor.data().as_chunks::<4>();
    Ok(numbers.iter().map(|&bytes| from(bytes)).collect())
}
