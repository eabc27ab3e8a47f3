//! Input of all contestants, written once to files that every language reads.
//!
//! | file | tensors |
//! |---|---|
//! | `csr-NN.safetensors` | `indptr` I32 [rows + 1], `indices` I32 [nnz], `data` F32 [nnz]; columns ascend |
//! | `coo.safetensors` | `row` I32, `col` I32, `data` F32, in random order, about 5 % duplicates |
//! | `dense.safetensors` | `weight` F32 [rows, cols] |
//! | `old/`, `same/`, `new/` | a sharded bf16 checkpoint, its copy, its copy with 1 % changed |
//!
//! `spmv` multiplies every matrix once with x[c] = (c mod 17) / 16; `spmm` with the row-major
//! X[c, b] = ((31 c + 7 b) mod 17) / 16 of 32 columns.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::Result;
use crate::make_checkpoint::random::{bits, key};
use crate::make_checkpoint::{self, write};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Size {
    Full,
    Quick,
}

/// The folder and the amount of work in it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Data {
    size: Size,
    pub(super) folder: PathBuf,
    pub(super) csr_entries: u64,
    pub(super) coo_entries: u64,
    pub(super) dense_elements: u64,
    /// Of one checkpoint.
    pub(super) checkpoint_bytes: u64,
}

const DENSITY: f64 = 0.05;

impl Data {
    /// Writes missing files.
    pub(super) fn prepare(folder: &Path, size: Size) -> Result<Self> {
        let (name, matrices, shape, dense, params) = match size {
            Size::Full => ("full", 20, [4096, 11_008], [4096, 6144], "700M"),
            Size::Quick => ("quick", 3, [256, 688], [256, 384], "1M"),
        };
        let folder = folder.join(name);
        let summary = folder.join("data.json");
        if let Ok(text) = fs::read(&summary)
            && let Ok(data) = serde_json::from_slice::<Self>(&text)
            && data.folder == folder
        {
            return Ok(data);
        }
        eprintln!("writing the data to {}", folder.display());
        fs::create_dir_all(&folder)?;
        let mut csr_entries = 0;
        for index in 0..matrices {
            csr_entries += csr(&folder.join(format!("csr-{index:02}.safetensors")), index, shape)?;
        }
        let coo_entries = coo(&folder.join("coo.safetensors"), shape)?;
        make_dense(&folder.join("dense.safetensors"), dense)?;
        let checkpoint_bytes = make_checkpoint::three_copies(&folder, params)?;
        let dense_elements = dense.iter().product();
        let data = Self { size, folder, csr_entries, coo_entries, dense_elements, checkpoint_bytes };
        fs::write(summary, serde_json::to_vec_pretty(&data)?)?;
        Ok(data)
    }
}

/// A uniform random pattern; the number of non-zeros.
fn csr(path: &Path, index: u64, [rows, cols]: [u64; 2]) -> Result<u64> {
    let (pattern, values) = (key(index, "pattern"), key(index, "values"));
    let below = (DENSITY * 2_f64.powi(32)) as u64;
    let (mut indptr, mut indices, mut data) = (vec![0_i32], Vec::new(), Vec::new());
    for row in 0..rows {
        for col in 0..cols {
            if bits(pattern, row * cols + col) >> 32 < below {
                data.push(value(values, indices.len() as u64));
                indices.push(col as i32);
            }
        }
        indptr.push(indices.len() as i32);
    }
    let entries = data.len() as u64;
    save(
        path,
        &json!({ "rows": rows.to_string(), "cols": cols.to_string() }),
        &[
            ("indptr", "I32", &[rows + 1], le(&indptr, i32::to_le_bytes)),
            ("indices", "I32", &[entries], le(&indices, i32::to_le_bytes)),
            ("data", "F32", &[entries], le(&data, f32::to_le_bytes)),
        ],
    )?;
    Ok(entries)
}

/// As many random positions as a matrix at 5 % has, drawn with replacement from half of its columns, so that one in
/// twenty is a duplicate.
fn coo(path: &Path, [rows, cols]: [u64; 2]) -> Result<u64> {
    let stream = key(0, "coo");
    let entries = (rows as f64 * cols as f64 * DENSITY) as u64;
    let position = |shift: u32, side: u64| -> Vec<i32> {
        (0..entries)
            .map(|index| (((bits(stream, index) >> shift & 0xffff_ffff) * side) >> 32) as i32)
            .collect()
    };
    let data: Vec<f32> = (0..entries).map(|index| value(!stream, index)).collect();
    save(
        path,
        &json!({ "rows": rows.to_string(), "cols": cols.to_string() }),
        &[
            ("row", "I32", &[entries], le(&position(0, rows), i32::to_le_bytes)),
            ("col", "I32", &[entries], le(&position(32, cols / 2), i32::to_le_bytes)),
            ("data", "F32", &[entries], le(&data, f32::to_le_bytes)),
        ],
    )?;
    Ok(entries)
}

fn make_dense(path: &Path, [rows, cols]: [u64; 2]) -> Result {
    let stream = key(0, "dense");
    let data: Vec<f32> = (0..rows * cols).map(|index| value(stream, index)).collect();
    save(path, &json!({}), &[("weight", "F32", &[rows, cols], le(&data, f32::to_le_bytes))])
}

/// Roughly normal, never zero.
fn value(stream: u64, index: u64) -> f32 {
    let bits = bits(stream, index);
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
    (sum as f32 + 0.5 - 131_070.0) / 37_837.0 * 0.02
}

fn le<T: Copy, const N: usize>(numbers: &[T], bytes: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    numbers.iter().flat_map(|&number| bytes(number)).collect()
}

type Tensor<'a> = (&'a str, &'a str, &'a [u64], Vec<u8>);

fn save(path: &Path, metadata: &Value, tensors: &[Tensor]) -> Result {
    let mut header = Map::from_iter([("__metadata__".to_owned(), metadata.clone())]);
    let mut end = 0;
    for (name, dtype, shape, bytes) in tensors {
        let start = end;
        end += bytes.len();
        header.insert(
            (*name).to_owned(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, end] }),
        );
    }
    let mut file = write::header(&Value::from(header))?;
    for (.., bytes) in tensors {
        file.extend_from_slice(bytes);
    }
    write::beside(path, |partial| Ok(fs::write(partial, &file)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;
    use std::collections::HashSet;

    fn ints(file: &SafeTensors, name: &str) -> Vec<i32> {
        let view = file.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    #[test]
    fn matrices_are_valid_and_a_twentieth_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let entries = csr(&path, 0, [50, 400]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (indptr, indices) = (ints(&file, "indptr"), ints(&file, "indices"));
        assert_eq!(indptr.len(), 51);
        assert_eq!(*indptr.last().unwrap() as u64, entries);
        assert!((800..1200).contains(&entries), "{entries}");
        for row in indptr.windows(2) {
            let columns = &indices[row[0] as usize..row[1] as usize];
            assert!(columns.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(columns.iter().all(|&column| (0..400).contains(&column)));
        }
    }

    #[test]
    fn coordinates_have_duplicates_and_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m");
        let entries = coo(&path, [200, 600]).unwrap();
        let bytes = fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let (rows, cols) = (ints(&file, "row"), ints(&file, "col"));
        assert!(rows.iter().all(|&row| (0..200).contains(&row)));
        assert!(cols.iter().all(|&col| (0..300).contains(&col)));
        let distinct: HashSet<_> = rows.iter().zip(&cols).collect();
        let duplicates = 1.0 - distinct.len() as f64 / entries as f64;
        assert!((0.02..0.08).contains(&duplicates), "{duplicates}");
    }
}
