//! Writes large files in chunks with several threads, under a temporary name until they are complete.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::Result;

/// Bytes of one chunk and so of the buffer of one thread. A multiple of every element size.
const CHUNK: u64 = 4 << 20;

/// Consecutive bytes of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Which tensor.
    pub(crate) tensor: usize,
    /// First byte, counted from the start of the tensor.
    pub(crate) start: u64,
    /// First byte, counted from the end of the header.
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

/// Cuts a tensor of `bytes` bytes that begins at `offset`.
pub(crate) fn chunks_of(tensor: usize, offset: u64, bytes: u64) -> impl Iterator<Item = Chunk> {
    (0..bytes).step_by(CHUNK as usize).map(move |start| Chunk {
        tensor,
        start,
        offset: offset + start,
        len: CHUNK.min(bytes - start) as usize,
    })
}

/// The head of a safetensors file: length, then JSON, padded so that the tensors begin at a multiple
/// of eight.
pub(crate) fn header(tensors: &Value) -> Result<Vec<u8>> {
    let mut json = serde_json::to_vec(tensors)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

/// Lets `write` make the file under a temporary name, then renames it.
pub(crate) fn beside(path: &Path, write: impl FnOnce(&Path) -> Result) -> Result {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".partial");
    let partial = path.with_file_name(name);
    write(&partial).and_then(|()| Ok(fs::rename(&partial, path)?)).inspect_err(|_| {
        // The first error is the one to report.
        let _ = fs::remove_file(&partial);
    })
}

/// Writes `header` and then `chunks`, one thread per core. `fillers` makes one closure per thread; it fills the thread's
/// buffer and may keep a file open.
pub(crate) fn in_parallel<F, M>(path: &Path, header: &[u8], chunks: &[Chunk], fillers: M) -> Result
where
    F: FnMut(&Chunk, &mut [u8]) -> Result,
    M: Fn() -> Result<F> + Sync,
{
    File::create(path)?.write_all(header)?;
    let next = AtomicUsize::new(0);
    let work = || -> Result {
        let mut file = File::options().write(true).open(path)?;
        let mut fill = fillers()?;
        let mut buffer = vec![0; CHUNK as usize];
        while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let buffer = &mut buffer[..chunk.len];
            fill(chunk, buffer)?;
            file.seek(SeekFrom::Start(header.len() as u64 + chunk.offset))?;
            file.write_all(buffer)?;
        }
        Ok(())
    };
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get()).min(chunks.len());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| "a writing thread panicked")??;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_a_tensor_once() {
        let bytes = 2 * CHUNK + 6;
        let chunks: Vec<Chunk> = chunks_of(3, 100, bytes).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.len as u64).collect::<Vec<_>>(), [CHUNK, CHUNK, 6]);
        assert_eq!(chunks[2], Chunk { tensor: 3, start: 2 * CHUNK, offset: 100 + 2 * CHUNK, len: 6 });
        assert_eq!(chunks_of(0, 0, 0).count(), 0);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "old").unwrap();
        let chunks: Vec<Chunk> = chunks_of(0, 0, 10 * CHUNK).collect();
        let outcome = beside(&path, |path| {
            in_parallel(path, b"header", &chunks, || {
                Ok(
                    |chunk: &Chunk, _: &mut [u8]| {
                        if chunk.start > CHUNK { Err("stop".into()) } else { Ok(()) }
                    },
                )
            })
        });
        assert_eq!(outcome.unwrap_err().to_string(), "stop");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
