//! A copy of a checkpoint with some weights changed, like a step of fine-tuning.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

use super::{random, write};
use crate::Result;

/// Keeps the choice of weights independent of their values when both come from one seed.
const STREAM: u64 = u64::from_le_bytes(*b"perturb.");

/// The result of a copy.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) changed: u64,
    /// Floating-point numbers seen.
    pub(super) weights: u64,
    pub(super) bytes: u64,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    data_offsets: [u64; 2],
}

/// Copies every file of `from` to `out`; in `.safetensors` files `fraction` of the weights change.
pub(super) fn copy(from: &Path, out: &Path, fraction: f64, seed: u64) -> Result<Done> {
    if !(0.0..=1.0).contains(&fraction) {
        return Err(format!("the fraction of changed weights is between 0 and 1, not {fraction}").into());
    }
    fs::create_dir_all(out)?;
    if from.canonicalize()? == out.canonicalize()? {
        return Err("the copy needs another folder than the original".into());
    }
    let mut total = Done::default();
    let mut paths: Vec<_> = fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.is_file());
    paths.sort();
    for path in paths {
        let target = out.join(path.file_name().unwrap_or_default());
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let done = copy_file(&path, &target, fraction, seed)?;
            total.changed += done.changed;
            total.weights += done.weights;
            total.bytes += done.bytes;
        } else {
            write::beside(&target, |partial| fs::copy(&path, partial).map(drop).map_err(Into::into))?;
        }
    }
    Ok(total)
}

fn copy_file(from: &Path, to: &Path, fraction: f64, seed: u64) -> Result<Done> {
    let mut file = File::open(from)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut json = Vec::new();
    file.take(u64::from_le_bytes(length)).read_to_end(&mut json)?;
    let mut tensors: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&json)?;
    tensors.remove("__metadata__");

    let mut changes = Vec::new();
    let mut chunks = Vec::new();
    let mut done = Done::default();
    for (index, (name, entry)) in tensors.into_iter().enumerate() {
        let Entry { dtype, data_offsets: [start, end] } = serde_json::from_value(entry)?;
        let bytes = end.checked_sub(start).ok_or_else(|| format!("{name}: the offsets run backwards"))?;
        let change = Change::of(&dtype, fraction, random::key(seed ^ STREAM, &name));
        done.bytes += bytes;
        done.weights += change.size.map_or(0, |size| bytes / size as u64);
        changes.push(change);
        chunks.extend(write::chunks_of(index, start, bytes));
    }

    let header = [&length[..], &json].concat();
    let changed = AtomicU64::new(0);
    write::beside(to, |partial| {
        write::in_parallel(partial, &header, &chunks, || {
            let mut file = File::open(from)?;
            let (header, changes, changed) = (header.len() as u64, &changes, &changed);
            Ok(move |chunk: &write::Chunk, buffer: &mut [u8]| {
                file.seek(SeekFrom::Start(header + chunk.offset))?;
                file.read_exact(buffer)?;
                changed.fetch_add(changes[chunk.tensor].apply(chunk.start, buffer), Ordering::Relaxed);
                Ok(())
            })
        })
    })?;
    done.changed = changed.into_inner();
    Ok(done)
}

/// How the numbers of one tensor change.
struct Change {
    /// Bytes of a number; `None` leaves the tensor alone.
    size: Option<usize>,
    /// A number changes if the upper half of its random bits is below this.
    below: u64,
    key: u64,
}

impl Change {
    fn of(dtype: &str, fraction: f64, key: u64) -> Self {
        let size = match dtype {
            "BF16" | "F16" => Some(2),
            "F32" => Some(4),
            "F64" => Some(8),
            _ => None,
        };
        Self { size, below: (fraction * (1_u64 << 32) as f64) as u64, key }
    }

    /// Changes the numbers in `buffer`, which begins at byte `start` of the tensor; says how many.
    fn apply(&self, start: u64, buffer: &mut [u8]) -> u64 {
        let Some(size) = self.size else { return 0 };
        let first = start / size as u64;
        let mut changed = 0;
        for (index, number) in buffer.chunks_exact_mut(size).enumerate() {
            let bits = random::bits(self.key, first + index as u64);
            if bits >> 32 < self.below {
                // Seven bits are mantissa in every type. At least one flips and the exponent stays, so the
                // number changes and never becomes infinite.
                number[0] ^= 1 + (bits % 127) as u8;
                changed += 1;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Dtype, make, tests::tiny};
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_asked_fraction_changes_and_nothing_else() {
        let from = tempfile::tempdir().unwrap();
        let out = tempfile::tempdir().unwrap();
        make(&tiny(), 1, Dtype::Bf16, 10_000, from.path()).unwrap();
        fs::write(from.path().join("config.json"), "{}").unwrap();
        let done = copy(from.path(), out.path(), 0.1, 1).unwrap();

        let (mut differing, mut negative) = (0, 0);
        for entry in fs::read_dir(from.path()).unwrap() {
            let name = entry.unwrap().file_name();
            let old = fs::read(from.path().join(&name)).unwrap();
            let new = fs::read(out.path().join(&name)).unwrap();
            if !name.to_str().unwrap().ends_with(".safetensors") {
                assert_eq!(old, new, "{name:?}");
                continue;
            }
            let (old, new) =
                (SafeTensors::deserialize(&old).unwrap(), SafeTensors::deserialize(&new).unwrap());
            assert_eq!(old.names().len(), new.names().len());
            for (name, view) in old.tensors() {
                let other = new.tensor(&name).unwrap();
                assert_eq!(view.shape(), other.shape());
                for (a, b) in view.data().chunks_exact(2).zip(other.data().chunks_exact(2)) {
                    differing += u64::from(a != b);
                    negative += u64::from(a != b && a[1] & 0x80 != 0);
                    assert_eq!((a[0] & 0x80, a[1]), (b[0] & 0x80, b[1]), "sign or exponent changed");
                }
            }
        }
        assert_eq!(differing, done.changed);
        assert_eq!(done.weights, tiny().parameters());
        let fraction = done.changed as f64 / done.weights as f64;
        assert!((0.09..0.11).contains(&fraction), "{fraction}");
        let fraction = negative as f64 / differing as f64;
        assert!((0.45..0.55).contains(&fraction), "chosen by value: {fraction} are negative");
    }

    #[test]
    fn nothing_and_everything() {
        let mut buffer = [0_u8; 64];
        assert_eq!(Change::of("F32", 0.0, 1).apply(0, &mut buffer), 0);
        assert_eq!(buffer, [0; 64]);
        assert_eq!(Change::of("F32", 1.0, 1).apply(0, &mut buffer), 16);
        assert_eq!(Change::of("I64", 1.0, 1).apply(0, &mut buffer), 0, "integers are not weights");
    }

    #[test]
    fn a_bad_request_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(folder.path(), &folder.path().join("new"), 1.5, 0).is_err());
        assert!(copy(folder.path(), folder.path(), 0.5, 0).is_err(), "onto itself");
    }
}
