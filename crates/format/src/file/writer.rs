//! A safetensors file written as a stream.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use residua_memory::ALIGNMENT;
use safetensors::Dtype;

use super::header::{Entry, MAX_BYTES, METADATA, byte_length};
use super::positioned::{Section, read_exact_at, write_all_at};
use super::{AtomicFile, FileError, Result};

const ALIGN: u64 = ALIGNMENT as u64;
/// Bytes moved at a time when the header outgrows its room.
const MOVE: u64 = 1 << 20;

/// Writes a safetensors file front to back. Tensors and their sizes need not be known beforehand.
///
/// The writer leaves room for the header at the start. [`finish`](Self::finish) writes the header, pads it with
/// spaces so that the data starts at a multiple of 128 bytes, and replaces the target ([`AtomicFile`]). A writer that
/// is dropped before that leaves nothing behind.
///
/// ```
/// use residua_format::file::{Checkpoint, Dtype, SafetensorsWriter};
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("one.safetensors");
/// let mut writer = SafetensorsWriter::create(&path, SafetensorsWriter::header_bytes("w", 2))?;
/// writer.tensor("w", Dtype::F32, &[1, 2], &[0; 8])?;
/// writer.finish()?;
/// assert_eq!(Checkpoint::open(&path)?.tensors()[0].shape, [1, 2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SafetensorsWriter {
    file: AtomicFile,
    metadata: BTreeMap<String, String>,
    /// The header's entries of tensors, as JSON.
    tensors: Vec<u8>,
    /// Hashes of the tensors' names.
    names: HashSet<[u8; 16]>,
    /// Bytes reserved for the header and its length.
    room: u64,
    /// Bytes of data so far.
    end: u64,
    /// Where the last complete tensor ends.
    complete: u64,
    /// The first tensor after one that failed half-way.
    hole: Option<FileError>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    dtype: Dtype,
    /// `None` for a plane: its shape follows from its length.
    shape: Option<Vec<usize>>,
    start: u64,
}

impl SafetensorsWriter {
    /// Bytes of the longest header that readers take.
    pub const MAX_HEADER: u64 = MAX_BYTES;

    /// Starts a file that will replace `path`, with room for `header_capacity` bytes of header. A header that
    /// outgrows its room costs one more pass over the data and nothing else.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: impl AsRef<Path>, header_capacity: u64) -> Result<Self> {
        Self::create_at(path.as_ref(), header_capacity)
    }

    fn create_at(path: &Path, header_capacity: u64) -> Result<Self> {
        let room =
            header_capacity.min(MAX_BYTES - ALIGN).saturating_add(8).max(ALIGN).next_multiple_of(ALIGN);
        let mut file = AtomicFile::create(path)?;
        file.seek(SeekFrom::Start(room)).map_err(FileError::io(path, "write"))?;
        let (metadata, tensors, names) = Default::default();
        Ok(Self { file, metadata, tensors, names, room, end: 0, complete: 0, hole: None, open: None })
    }

    /// Bytes that a tensor of `dimensions` dimensions takes in the header, enough for any name without characters
    /// that JSON escapes.
    pub fn header_bytes(name: &str, dimensions: usize) -> u64 {
        const FIXED: usize = r#""":{"dtype":"F8_E4M3FNUZ","shape":[],"data_offsets":[,]},"#.len();
        // A number has at most 20 digits; one comma per dimension.
        (FIXED + name.len() + 2 * 20 + 21 * dimensions) as u64
    }

    /// Bytes that a metadata entry takes in the header.
    pub fn metadata_bytes(key: &str, value: &str) -> u64 {
        let escaped = |byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        };
        r#""":"","#.len() as u64 + key.bytes().chain(value.bytes()).map(escaped).sum::<u64>()
    }

    /// Memory that a writer takes for a header of this many bytes, its metadata included.
    pub fn memory(header_bytes: u64) -> u64 {
        header_bytes.saturating_add(header_bytes / 4)
    }

    /// The file that will be replaced.
    pub fn path(&self) -> &Path {
        self.file.target()
    }

    /// Bytes of tensor data so far.
    pub fn data_bytes(&self) -> u64 {
        self.end
    }

    /// Sets an entry of the file's metadata, at any time before [`finish`](Self::finish).
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.metadata.insert(key.into(), value.into());
    }

    /// Starts a tensor of known shape; [`write`](Self::write) its bytes, then [`end`](Self::end) it.
    ///
    /// # Errors
    /// When another tensor is open, the name is taken, or the tensor is not a whole number of bytes.
    pub fn begin(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<()> {
        if byte_length(dtype, shape).is_none() {
            let problem = format!("shape {shape:?} of {dtype} is not a whole number of bytes below 2^64");
            return Err(FileError::tensor(self.path(), name, problem));
        }
        self.start(name, dtype, Some(shape.to_vec()))
    }

    /// Starts a plane: a 1-D tensor whose length is known only at its end. Its data starts at a multiple of 128 bytes
    /// if the data before it ends at one. Planes end at one.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and for element types of less than a byte.
    pub fn begin_plane(&mut self, name: &str, dtype: Dtype) -> Result<()> {
        if !dtype.bitsize().is_multiple_of(8) {
            let problem = format!("{dtype} has no whole number of bytes");
            return Err(FileError::tensor(self.path(), name, problem));
        }
        self.start(name, dtype, None)
    }

    fn start(&mut self, name: &str, dtype: Dtype, shape: Option<Vec<usize>>) -> Result<()> {
        if let Some(open) = &self.open {
            let problem = format!("begun while tensor {} is open", open.name);
            return Err(FileError::tensor(self.path(), name, problem));
        }
        let mut hash = [0; 16];
        blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut hash);
        if name == METADATA || !self.names.insert(hash) {
            return Err(FileError::tensor(self.path(), name, "the name is taken"));
        }
        self.open = Some(Open { name: name.to_owned(), dtype, shape, start: self.end });
        Ok(())
    }

    /// Appends bytes (little-endian elements, row-major) to the open tensor or plane.
    ///
    /// # Errors
    /// When no tensor is open or the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if self.open.is_none() {
            return Err(FileError::malformed(self.path(), "bytes written outside of a tensor"));
        }
        let written = self.file.write_all(bytes);
        written.map_err(|error| FileError::io(self.file.target(), "write")(error))?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Ends the open tensor.
    ///
    /// # Errors
    /// When no tensor is open, or the number of bytes written does not match its shape.
    pub fn end(&mut self) -> Result<()> {
        let open = self.take_open(|shape| shape.is_some())?;
        let shape = open.shape.unwrap_or_default();
        let (expected, found) = (byte_length(open.dtype, &shape).unwrap_or(0), self.end - open.start);
        if found != expected {
            let problem = format!("{found} bytes written, shape {shape:?} of {} has {expected}", open.dtype);
            return Err(FileError::tensor(self.path(), &open.name, problem));
        }
        self.push(&open.name, open.dtype, &shape, open.start)
    }

    /// Ends the open plane and pads it with zeros to a multiple of 128 bytes. Returns the number of elements written,
    /// without padding.
    ///
    /// # Errors
    /// When no plane is open, or its bytes are not a whole number of elements.
    pub fn end_plane(&mut self) -> Result<u64> {
        let open = self.take_open(|shape| shape.is_none())?;
        let (bytes, size) = (self.end - open.start, open.dtype.bitsize() as u64 / 8);
        if !bytes.is_multiple_of(size) {
            let problem = format!("{bytes} bytes written, an element of {} has {size}", open.dtype);
            return Err(FileError::tensor(self.path(), &open.name, problem));
        }
        let padding = (bytes.next_multiple_of(ALIGN) - bytes) as usize;
        self.file
            .write_all(&[0; ALIGNMENT][..padding])
            .map_err(FileError::io(self.file.target(), "write"))?;
        self.end += padding as u64;
        let elements = (self.end - open.start) / size;
        self.push(&open.name, open.dtype, &[elements as usize], open.start)?;
        Ok(bytes / size)
    }

    fn take_open(&mut self, right_kind: impl Fn(&Option<Vec<usize>>) -> bool) -> Result<Open> {
        match self.open.take() {
            Some(open) if right_kind(&open.shape) => Ok(open),
            Some(open) => {
                Err(FileError::tensor(self.path(), &open.name, "a plane ended as tensor, or reverse"))
            }
            None => Err(FileError::malformed(self.path(), "a tensor ended that was not begun")),
        }
    }

    fn push(&mut self, name: &str, dtype: Dtype, shape: &[usize], start: u64) -> Result<()> {
        let entry = Entry { dtype, shape, data_offsets: (start, self.end) };
        self.tensors.push(b',');
        let written = serde_json::to_writer(&mut self.tensors, name).and_then(|()| {
            self.tensors.push(b':');
            serde_json::to_writer(&mut self.tensors, &entry)
        });
        written.map_err(|error| FileError::tensor(self.path(), name, error.to_string()))?;
        if self.complete != start && self.hole.is_none() {
            let before = self.complete;
            let problem = format!("its data starts at byte {start}, but the data before it ends at {before}");
            self.hole = Some(FileError::tensor(self.path(), name, problem));
        }
        self.complete = self.end;
        Ok(())
    }

    /// Writes one whole tensor.
    ///
    /// # Errors
    /// As [`begin`](Self::begin) and [`end`](Self::end).
    pub fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Result<()> {
        self.begin(name, dtype, shape)?;
        self.write(bytes)?;
        self.end()
    }

    /// Writes one whole plane.
    ///
    /// # Errors
    /// As [`begin_plane`](Self::begin_plane) and [`end_plane`](Self::end_plane).
    pub fn plane(&mut self, name: &str, dtype: Dtype, bytes: &[u8]) -> Result<()> {
        self.begin_plane(name, dtype)?;
        self.write(bytes)?;
        self.end_plane().map(drop)
    }

    /// Writes the header, replaces the target and returns the bytes of the file.
    ///
    /// # Errors
    /// When a tensor is still open or the file cannot be written. The old target stays then.
    pub fn finish(self) -> Result<u64> {
        if let Some(open) = &self.open {
            return Err(FileError::tensor(self.path(), &open.name, "not ended"));
        }
        let path = self.path().to_owned();
        if let Some(hole) = self.hole {
            return Err(hole);
        }
        if self.complete != self.end {
            return Err(FileError::malformed(&path, "its last tensor is incomplete"));
        }
        let Self { mut file, metadata, tensors, mut room, end, .. } = self;
        let mut length = Length(0);
        write_header(&metadata, &tensors, &mut length).map_err(FileError::io(&path, "write"))?;
        let length = length.0;
        if length > MAX_BYTES {
            let problem = format!("its header would have {length} bytes, readers take {MAX_BYTES}");
            return Err(FileError::malformed(&path, problem));
        }
        let needed = (length + 8).next_multiple_of(ALIGN);
        let out = file.flushed()?;
        if needed > room {
            move_up(out, room, end, needed - room).map_err(FileError::io(&path, "write"))?;
            room = needed;
        }
        let mut header = BufWriter::new(Section::new(out, 0, room));
        header
            .write_all(&(room - 8).to_le_bytes())
            .and_then(|()| write_header(&metadata, &tensors, &mut header))
            .and_then(|()| io::copy(&mut io::repeat(b' ').take(room - 8 - length), &mut header))
            .and_then(|_| header.flush())
            .map_err(FileError::io(&path, "write"))?;
        // A file without data has no byte written after its header yet.
        out.set_len(room + end).map_err(FileError::io(&path, "write"))?;
        drop(header);
        file.commit()?;
        Ok(room + end)
    }
}

/// Writes the header's JSON: metadata, then tensors. Every tensor has a comma before it.
fn write_header(
    metadata: &BTreeMap<String, String>,
    mut tensors: &[u8],
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(b"{")?;
    if metadata.is_empty() {
        tensors = tensors.get(1..).unwrap_or_default();
    } else {
        write!(out, "\"{METADATA}\":")?;
        serde_json::to_writer(&mut *out, metadata)?;
    }
    out.write_all(tensors)?;
    out.write_all(b"}")
}

/// Counts bytes.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves `length` bytes at `start` up by `by`, from the last block to the first.
fn move_up(file: &File, start: u64, length: u64, by: u64) -> std::io::Result<()> {
    let mut block = vec![0; MOVE.min(length) as usize];
    let mut left = length;
    while left > 0 {
        let size = MOVE.min(left);
        left -= size;
        let block = &mut block[..size as usize];
        read_exact_at(file, block, start + left)?;
        write_all_at(file, block, start + left + by)?;
    }
    Ok(())
}
