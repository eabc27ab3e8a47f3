//! `cargo xtask make-checkpoint`: checkpoints of any size, for tests of scale.

mod perturb;
pub(crate) mod random;
mod shapes;
pub(crate) mod write;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use residua_memory::ByteSize;
use serde_json::{Map, Value, json};

use crate::Result;
use random::{Column, Dtype};
use shapes::{Model, Tensor};

const HELP: &str = "\
Write a random sharded checkpoint with the tensor names and shapes of a Llama model.

Usage: cargo xtask make-checkpoint --params SIZE --out DIR [options]
       cargo xtask make-checkpoint --perturb FRACTION FROM_DIR --out DIR [--seed N]

  --params SIZE      3B and 1B have Llama-3.2's shapes, 8B has Llama-3.1's; others, such as 100M, have
                     1B's shapes divided by a power of two, with as many layers as fit
  --out DIR          folder to write to
  --seed N           the same seed gives the same bytes on every machine [0]
  --dtype TYPE       bf16, f16 or f32 [bf16]
  --shard-size SIZE  maximum bytes of tensors in one file [2GB]
  --perturb F DIR    copy the checkpoint in DIR with the fraction F of its weights changed

Weights are nearly normal with a standard deviation of 0.02 times a factor of 0.6 to 1.4 per column, so
that columns differ like those of trained weights. A perturbed weight keeps its sign and exponent and
gets another mantissa.";

const INDEX: &str = "model.safetensors.index.json";
const DEFAULT_SHARD: u64 = 2_000_000_000;

pub(crate) fn main(args: Vec<OsString>) -> Result<ExitCode> {
    use lexopt::prelude::*;
    let (mut params, mut out, mut perturbed) = (None, None, None);
    let (mut seed, mut dtype, mut shard_size) = (0_u64, Dtype::Bf16, ByteSize(DEFAULT_SHARD));
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("params") => params = Some(parser.value()?.string()?),
            Long("out") | Short('o') => out = Some(PathBuf::from(parser.value()?)),
            Long("seed") => seed = parser.value()?.parse()?,
            Long("dtype") => dtype = parser.value()?.parse()?,
            Long("shard-size") => shard_size = parser.value()?.parse()?,
            Long("perturb") => {
                perturbed = Some((parser.value()?.parse::<f64>()?, PathBuf::from(parser.value()?)));
            }
            Long("help") | Short('h') => {
                println!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let out = out.ok_or("--out is missing")?;
    let start = Instant::now();
    let bytes = match (params, perturbed) {
        (Some(params), None) => make(&params.parse()?, seed, dtype, shard_size.0, &out)?,
        (None, Some((fraction, from))) => {
            let done = perturb::copy(&from, &out, fraction, seed)?;
            println!("{} of {} weights changed", done.changed, done.weights);
            done.bytes
        }
        _ => return Err("give either --params or --perturb; see --help".into()),
    };
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{}: {} in {seconds:.1} s, {:.0} MB/s",
        out.display(),
        ByteSize(bytes),
        bytes as f64 / seconds / 1e6
    );
    Ok(ExitCode::SUCCESS)
}

/// For benchmarks: a checkpoint in `old`, its copy in `same`, and its copy with 1 % changed in `new`. Returns the bytes
/// of one.
pub(crate) fn three_copies(folder: &Path, params: &str) -> Result<u64> {
    let old = folder.join("old");
    let bytes = make(&params.parse()?, 0, Dtype::Bf16, DEFAULT_SHARD, &old)?;
    perturb::copy(&old, &folder.join("same"), 0.0, 0)?;
    perturb::copy(&old, &folder.join("new"), 0.01, 0)?;
    Ok(bytes)
}

/// Makes a bf16 checkpoint unless a complete one exists. Returns its number of parameters.
pub(crate) fn make_if_missing(folder: &Path, params: &str) -> Result<u64> {
    let model: Model = params.parse()?;
    if !folder.join(INDEX).exists() {
        make(&model, 0, Dtype::Bf16, DEFAULT_SHARD, folder)?;
    }
    Ok(model.parameters())
}

/// Writes the checkpoint. Returns the number of bytes of all its tensors.
fn make(model: &Model, seed: u64, dtype: Dtype, shard_size: u64, out: &Path) -> Result<u64> {
    let tensors = model.tensors();
    let shards = shard(&tensors, dtype, shard_size);
    fs::create_dir_all(out)?;
    // The index comes last: a folder without an index is unfinished.
    let index_path = out.join(INDEX);
    if index_path.exists() {
        fs::remove_file(&index_path)?;
    }
    let mut weight_map = Map::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        write_shard(&out.join(&name), shard, dtype, seed)?;
        println!("{name}: {} tensors, {}", shard.len(), ByteSize(size(shard, dtype)));
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), Value::from(name.clone()))));
    }
    let total = size(&tensors, dtype);
    let parameters: u64 = tensors.iter().map(Tensor::len).sum();
    let index = json!({
        "metadata": { "total_parameters": parameters, "total_size": total },
        "weight_map": weight_map,
    });
    write::beside(&index_path, |path| Ok(fs::write(path, serde_json::to_vec_pretty(&index)?)?))?;
    Ok(total)
}

fn size(tensors: &[Tensor], dtype: Dtype) -> u64 {
    tensors.iter().map(|tensor| tensor.len() * dtype.size()).sum()
}

/// Starts a new shard when the next tensor would make the shard too large.
fn shard(tensors: &[Tensor], dtype: Dtype, most: u64) -> Vec<&[Tensor]> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (index, tensor) in tensors.iter().enumerate() {
        let own = tensor.len() * dtype.size();
        if index > start && bytes + own > most {
            shards.push(&tensors[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += own;
    }
    shards.push(&tensors[start..]);
    shards
}

fn write_shard(path: &Path, tensors: &[Tensor], dtype: Dtype, seed: u64) -> Result {
    let mut header = Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut chunks = Vec::new();
    let mut end = 0;
    for (index, tensor) in tensors.iter().enumerate() {
        let bytes = tensor.len() * dtype.size();
        let entry =
            json!({ "dtype": dtype.name(), "shape": tensor.shape, "data_offsets": [end, end + bytes] });
        header.insert(tensor.name.clone(), entry);
        chunks.extend(write::chunks_of(index, end, bytes));
        end += bytes;
    }
    let columns: Vec<Vec<Column>> = tensors.iter().map(|tensor| random::columns(seed, tensor)).collect();
    write::beside(path, |path| {
        write::in_parallel(path, &write::header(&Value::from(header))?, &chunks, || {
            Ok(|chunk: &write::Chunk, buffer: &mut [u8]| {
                let key = random::key(seed, &tensors[chunk.tensor].name);
                random::fill(dtype, key, &columns[chunk.tensor], chunk.start / dtype.size(), buffer);
                Ok(())
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::{Dtype as Safe, SafeTensors};

    pub(super) fn tiny() -> Model {
        Model { layers: 2, hidden: 24, intermediate: 64, kv: 8, vocab: 50, tied: false }
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn another_reader_finds_every_tensor_where_the_index_says() {
        let folder = tempfile::tempdir().unwrap();
        let total = make(&tiny(), 7, Dtype::Bf16, 8_000, folder.path()).unwrap();
        let files = files(folder.path());
        let (index, shards) = files.split_last().unwrap();
        assert!(shards.len() > 2, "{}", shards.len());
        let index: Value = serde_json::from_slice(&index.1).unwrap();
        let mut seen = 0;
        let mut bytes = 0;
        for (name, content) in shards {
            let shard = SafeTensors::deserialize(content).unwrap();
            for (tensor, view) in shard.tensors() {
                assert_eq!(index["weight_map"][&tensor], Value::from(name.as_str()), "{tensor}");
                let expected = tiny().tensors().into_iter().find(|known| known.name == tensor).unwrap();
                let shape: Vec<u64> = view.shape().iter().map(|&side| side as u64).collect();
                assert_eq!((view.dtype(), shape), (Safe::BF16, expected.shape));
                seen += 1;
                bytes += view.data().len() as u64;
            }
        }
        assert_eq!(seen, tiny().tensors().len());
        assert_eq!(index["metadata"]["total_size"], Value::from(total));
        assert_eq!(bytes, total);
    }

    #[test]
    fn a_seed_is_reproducible_and_shard_size_does_not_change_the_weights() {
        let weights = |seed, shard_size| {
            let folder = tempfile::tempdir().unwrap();
            make(&tiny(), seed, Dtype::F32, shard_size, folder.path()).unwrap();
            let mut all = Vec::new();
            for (name, content) in files(folder.path()) {
                if name.ends_with(".safetensors") {
                    let shard = SafeTensors::deserialize(&content).unwrap();
                    all.extend(shard.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec())));
                }
            }
            all.sort();
            all
        };
        assert_eq!(weights(3, 1 << 30), weights(3, 9_000));
        assert_ne!(weights(3, 1 << 30), weights(4, 1 << 30));
    }

    #[test]
    fn nothing_but_finished_files_is_left() {
        let folder = tempfile::tempdir().unwrap();
        make(&tiny(), 0, Dtype::F16, 1 << 30, folder.path()).unwrap();
        let names: Vec<String> = files(folder.path()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["model-00001-of-00001.safetensors", "model.safetensors.index.json"]);
    }
}
