//! What opening a checkpoint takes of a budget, counted without opening it.

use std::io::{self, BufReader, Read};
use std::path::Path;

use residua_memory::Budget;
use serde::Deserializer as _;

use super::checkpoint::SHARD;
use super::folder::{self, Found};
use super::footprint::Footprint;
use super::header::{HeaderSizes, Keys};
use super::{FileError, Result, TensorInfo, index_json};

/// Bytes of a budget that the headers of a checkpoint take, and their tensors, one at a time. So a job that has no room
/// for the headers can still tell how much is enough for the whole job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckpointSizes {
    /// While the checkpoint is opened.
    pub opening: u64,
    /// As long as it is open.
    pub open: u64,
    /// Bytes of the texts of all headers.
    pub text: u64,
}

impl CheckpointSizes {
    /// Of what [`Checkpoint::open`](super::Checkpoint::open) opens, and hands every tensor of its files to `each`: also
    /// those that an index leaves out. Offsets of tensors count from the end of their header.
    ///
    /// # Errors
    /// When a file cannot be read or has no well-formed header.
    pub fn of(path: &Path, each: &mut dyn FnMut(TensorInfo)) -> Result<Self> {
        let is_json = path.extension().is_some_and(|suffix| suffix.eq_ignore_ascii_case("json"));
        let (file, is_index) = match path.is_dir() {
            true => folder::find(path).map(|Found { file, is_index, .. }| (file, is_index))?,
            false => (path.to_owned(), is_json),
        };
        let (files, index) = match is_index {
            true => (index_json::shards(&file)?, index_json::memory(&file)?),
            false => (vec![file], 0),
        };
        let (mut open, mut passing, mut text) = (0, 0, 0);
        for file in &files {
            let (footprint, length) = scan_file(file, each)?;
            open += footprint.held() + SHARD;
            passing = footprint.passing().max(passing);
            text += length;
        }
        Ok(Self { opening: table(open + passing) + table(index), open: table(open), text })
    }

    /// The same for the text of a header, as [`header_tensors`](super::header_tensors) takes it. Errors name the file `path`.
    ///
    /// # Errors
    /// When the text cannot be read or is no header.
    pub fn of_header(text: impl Read, path: &Path, each: &mut dyn FnMut(TensorInfo)) -> Result<Self> {
        let (footprint, text) = scan(text, i64::MAX as u64, path, each)?;
        let open = footprint.held();
        Ok(Self { opening: table(open + footprint.passing()), open: table(open), text })
    }
}

/// What a budget gives for a table of so many bytes.
fn table(bytes: u64) -> u64 {
    bytes.saturating_sub(Budget::SMALL_TABLE)
}

fn scan_file(path: &Path, each: &mut dyn FnMut(TensorInfo)) -> Result<(Footprint, u64)> {
    let Some(HeaderSizes { file, text, data, .. }) = HeaderSizes::of(path)? else {
        return Err(FileError::malformed(path, "is no safetensors file"));
    };
    scan(file.take(text), data, path, each)
}

/// Hands on the tensors of a header; what its text takes in memory, and how many bytes it has. All tensors together have
/// `most` bytes at most, so that sums of their sizes do not overflow.
fn scan(
    text: impl Read,
    most: u64,
    path: &Path,
    each: &mut dyn FnMut(TensorInfo),
) -> Result<(Footprint, u64)> {
    let mut counted = Counted { text, footprint: Footprint::default(), bytes: 0 };
    let (mut json, mut left) =
        (serde_json::Deserializer::from_reader(BufReader::new(&mut counted)), Some(most));
    let fitting = |tensor: TensorInfo| {
        left = left.and_then(|left| left.checked_sub(tensor.bytes));
        if left.is_some() && tensor.offset() <= most {
            each(tensor);
        }
    };
    let parsed = json.deserialize_map(Keys { metadata: None, each: fitting }).and_then(|()| json.end());
    parsed.map_err(|error| FileError::io(path, "read")(error.into()))?;
    match left {
        Some(_) => Ok((counted.footprint, counted.bytes)),
        None => Err(FileError::malformed(path, format!("its tensors have more than {most} bytes"))),
    }
}

/// A JSON text that is counted while it is read.
struct Counted<R> {
    text: R,
    footprint: Footprint,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.text.read(out)?;
        self.footprint.add(&out[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_no_file_has_are_refused() {
        let of = |tensors: &[(u64, u64)]| {
            let entry = |(number, (from, to)): (usize, &(u64, u64))| {
                format!(r#""{number}":{{"dtype":"U8","shape":[1],"data_offsets":[{from},{to}]}}"#)
            };
            let text: Vec<String> = tensors.iter().enumerate().map(entry).collect();
            let (text, mut sum) = (format!("{{{}}}", text.join(",")), 0u64);
            let each = &mut |tensor: TensorInfo| sum += tensor.bytes;
            CheckpointSizes::of_header(text.as_bytes(), Path::new("new"), each).map(|_| sum)
        };
        let half = 1 << 62;
        assert_eq!(of(&[(0, half), (half, 2 * half - 1)]).unwrap(), 2 * half - 1);
        for tensors in [&[(0, u64::MAX)][..], &[(0, half), (0, half)], &[(0, u64::MAX), (0, u64::MAX)]] {
            let error = of(tensors).unwrap_err().to_string();
            assert!(error.contains("new: its tensors have more than"), "{error}");
        }
    }
}
