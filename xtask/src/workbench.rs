//! A folder with a small file of every kind that the command line reads; the real binary makes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::make_checkpoint::write::header;
use crate::project::{Project, cargo};
use crate::{Result, random::Random};

/// The feature dimension.
const DIM: usize = 16;
/// Columns of the weights.
const COLS: usize = 256;

/// The commands that make the derived files, in order.
const COMMANDS: [&str; 15] = [
    "split model.safetensors -o split.safetensors",
    "split new.safetensors --base model.safetensors -o fine.safetensors",
    "diff model.safetensors new.safetensors -o delta.safetensors",
    "convert model.safetensors --tensor other.weight matrix.npz",
    "convert matrix.npz matrix.mtx",
    "convert matrix.npz matrix.npy",
    "convert matrix.npz matrix.safetensors",
    "stats before.npy --labels labels.npy -o stats.safetensors",
    "stats before.npy --labels labels.npy --partial 1/1 -o partial.safetensors",
    "stats after.npy --labels other-labels.npy -o other-stats.safetensors",
    "compensate stats.safetensors --method linear --before before.npy --after after.npy -o moved.safetensors",
    "task first.safetensors --after before.npy --labels labels.npy --method linear",
    "task state.safetensors --after before.npy --labels labels.npy --method linear",
    "task state.safetensors --before before.npy --after after.npy --labels other-labels.npy",
    "classify stats.safetensors after.npy --labels labels.npy --classifier ncm -o labels-found.npy",
];

/// A tensor's name, type, shape and bytes.
type Tensor<'a> = (&'a str, &'a str, &'a [usize], Vec<u8>);

pub(crate) struct Workbench {
    pub(crate) binary: PathBuf,
    pub(crate) folder: PathBuf,
}

impl Workbench {
    /// Builds the command line; the path of the binary. The debug build has the feature wgpu, as the tests of devices
    /// have it: one build serves both.
    pub(crate) fn binary(project: &Project, release: bool) -> Result<PathBuf> {
        let mut command = Command::new(cargo());
        command.args(["build", "--quiet", "-p", "residua-cli"]).current_dir(&project.root);
        command.args(if release { &["--release"][..] } else { &["--features", "wgpu"] });
        if !command.status()?.success() {
            return Err("the command line does not build".into());
        }
        let profile = if release { "release" } else { "debug" };
        Ok(project.target.join(profile).join(format!("residua{}", std::env::consts::EXE_SUFFIX)))
    }

    /// Fills an empty folder; matrices and arrays of features have `rows` rows.
    pub(crate) fn create(binary: &Path, folder: &Path, rows: usize) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder.join("shards"))?;
        let new = Self { binary: binary.to_owned(), folder: folder.to_owned() };
        new.weights(rows)?;
        new.features(rows)?;
        for line in COMMANDS {
            let output = new.command(line).output()?;
            if !output.status.success() {
                return Err(format!("residua {line}: {}", String::from_utf8_lossy(&output.stderr)).into());
            }
        }
        Ok(new)
    }

    /// The binary with these arguments, separated by spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(line.split(' ')).current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn weights(&self, rows: usize) -> Result {
        let mut random = Random::new(1);
        let old: Vec<f32> = (0..rows * COLS).map(|_| random.signed()).collect();
        let mut new = old.clone();
        new.iter_mut().step_by(97).for_each(|value| *value += 1.0);
        let bias = floats(&vec![0.5; rows]);
        let other: Vec<f32> = (0..8 * 32).map(|i| if i % 5 == 0 { random.signed() } else { 0.0 }).collect();
        let shape = [rows, COLS];
        for (name, weights) in [("model", &old), ("new", &new)] {
            let tensors: [Tensor<'_>; 3] = [
                ("layer.weight", "F32", &shape, floats(weights)),
                ("layer.bias", "F32", &[rows], bias.clone()),
                ("other.weight", "F32", &[8, 32], floats(&other)),
            ];
            self.safetensors(&format!("{name}.safetensors"), &tensors)?;
        }
        let squares = vec![0.5; COLS];
        self.safetensors("calibration.safetensors", &[("layer.weight", "F32", &[COLS], floats(&squares))])?;
        self.safetensors("shards/one.safetensors", &[("layer.weight", "F32", &shape, floats(&old))])?;
        self.safetensors("shards/two.safetensors", &[("other.weight", "F32", &[8, 32], floats(&other))])?;
        let index = json!({ "weight_map": {
            "layer.weight": "one.safetensors", "other.weight": "two.safetensors"
        }});
        fs::write(self.folder.join("shards/model.safetensors.index.json"), index.to_string())?;
        Ok(())
    }

    fn features(&self, rows: usize) -> Result {
        let mut random = Random::new(2);
        let before: Vec<f32> =
            (0..rows * DIM).map(|i| random.signed() + (i / DIM % 4) as f32 * (i % 3) as f32).collect();
        let after: Vec<f32> = before.iter().map(|value| 1.5 * value + 0.1 * random.signed()).collect();
        let labels = |first: usize| (0..rows).flat_map(|i| ((first + i % 4) as u32).to_le_bytes()).collect();
        let (old, new): (Vec<u8>, Vec<u8>) = (labels(0), labels(4));
        let (wide, tall) = ([rows, DIM], [rows]);
        self.npy("before.npy", "<f4", &wide, &floats(&before))?;
        self.npy("after.npy", "<f4", &wide, &floats(&after))?;
        self.npy("labels.npy", "<u4", &tall, &old)?;
        self.npy("other-labels.npy", "<u4", &tall, &new)?;
        self.safetensors(
            "features.safetensors",
            &[("features", "F32", &wide, floats(&before)), ("labels", "U32", &tall, old.clone())],
        )?;
        // What `evaluate` takes.
        let features = |name, values: &[f32]| (name, "F32", &wide[..], floats(values));
        let tests = [floats(&after), floats(&after)].concat();
        self.safetensors(
            "drift.safetensors",
            &[
                features("old_before", &before),
                features("cur_before", &before),
                features("cur_after_full", &after),
                features("old_after_full", &after),
                ("test_after_full", "F32", &[2 * rows, DIM], tests),
                ("y_old", "U32", &tall, old.clone()),
                ("y_cur", "U32", &tall, new.clone()),
                ("y_test", "U32", &[2 * rows], [old, new].concat()),
            ],
        )
    }

    fn safetensors(&self, name: &str, tensors: &[Tensor<'_>]) -> Result {
        let mut map = Map::new();
        let mut data: Vec<u8> = Vec::new();
        for (name, dtype, shape, bytes) in tensors {
            let end = data.len() + bytes.len();
            let entry = json!({ "dtype": dtype, "shape": shape, "data_offsets": [data.len(), end] });
            map.insert((*name).to_owned(), entry);
            data.extend(bytes);
        }
        let mut file = header(&Value::Object(map))?;
        file.extend(data);
        Ok(fs::write(self.folder.join(name), file)?)
    }

    fn npy(&self, name: &str, descr: &str, shape: &[usize], data: &[u8]) -> Result {
        let sizes: String = shape.iter().map(|size| format!("{size}, ")).collect();
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
        // Ten bytes before it, a line break after it.
        while !(10 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        let length = (header.len() + 1) as u16;
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend(length.to_le_bytes());
        file.extend(header.as_bytes());
        file.push(b'\n');
        file.extend(data);
        Ok(fs::write(self.folder.join(name), file)?)
    }
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
