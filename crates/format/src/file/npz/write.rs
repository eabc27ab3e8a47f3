//! Writing scipy's sparse matrices.

use std::io::Write;
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::file::npy::{NpyHeader, write_array};
use crate::file::{AtomicFile, FileError, Result};
use crate::{Coo, Csr, Value};

/// Writes a matrix as CSR for `scipy.sparse.load_npz`. Indices are int32 if that is enough, otherwise int64. NumPy
/// has no bf16, so bf16 values become `f4`; other values keep their type. Arrays are stored, not deflated.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npz_csr<V: Value>(path: impl AsRef<Path>, csr: &Csr<V>) -> Result<()> {
    let wide = !fits(csr.nnz()) || !fits(csr.cols());
    let mut archive = Writer::create(path.as_ref(), "csr", [csr.rows(), csr.cols()])?;
    archive.indices("indices", csr.col_indices(), wide)?;
    archive.indices("indptr", csr.row_ptr(), wide)?;
    archive.values(csr.values())?;
    archive.finish()
}

/// As [`write_npz_csr`], but as COO.
///
/// # Errors
/// When the file cannot be written.
pub fn write_npz_coo<V: Value>(path: impl AsRef<Path>, coo: &Coo<V>) -> Result<()> {
    let wide = !fits(coo.rows()) || !fits(coo.cols());
    let mut archive = Writer::create(path.as_ref(), "coo", [coo.rows(), coo.cols()])?;
    archive.indices("row", coo.row_indices(), wide)?;
    archive.indices("col", coo.col_indices(), wide)?;
    archive.values(coo.values())?;
    archive.finish()
}

fn fits(size: usize) -> bool {
    i32::try_from(size).is_ok()
}

struct Writer<'a> {
    path: &'a Path,
    zip: ZipWriter<AtomicFile>,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path, format: &str, shape: [usize; 2]) -> Result<Self> {
        let mut new = Self { path, zip: ZipWriter::new(AtomicFile::create(path)?) };
        new.entry("format", 0, |out| {
            NpyHeader::write(out, &format!("|S{}", format.len()), &[])?;
            out.write_all(format.as_bytes())
        })?;
        new.entry("shape", 0, |out| {
            NpyHeader::write(out, "<i8", &[2])?;
            out.write_all(bytemuck::cast_slice(&shape.map(|size| size as i64)))
        })?;
        Ok(new)
    }

    fn entry(
        &mut self,
        name: &str,
        bytes: usize,
        write: impl FnOnce(&mut ZipWriter<AtomicFile>) -> std::io::Result<()>,
    ) -> Result<()> {
        // The default time stamp is fixed, so the same matrix gives the same file.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes > (u32::MAX / 2) as usize);
        let path = self.path;
        self.zip.start_file(format!("{name}.npy"), options).map_err(|error| trouble(path, error))?;
        write(&mut self.zip).map_err(FileError::io(path, "write"))
    }

    fn indices(&mut self, name: &str, indices: &[u32], wide: bool) -> Result<()> {
        let bytes = indices.len() * if wide { 8 } else { 4 };
        self.entry(name, bytes, |out| {
            NpyHeader::write(out, if wide { "<i8" } else { "<i4" }, &[indices.len()])?;
            if !wide {
                // Below 2^31 the bits are the same.
                return out.write_all(bytemuck::cast_slice(indices));
            }
            let mut block = [0i64; 4096];
            for chunk in indices.chunks(block.len()) {
                block.iter_mut().zip(chunk).for_each(|(wide, &index)| *wide = i64::from(index));
                out.write_all(bytemuck::cast_slice(&block[..chunk.len()]))?;
            }
            Ok(())
        })
    }

    fn values<V: Value>(&mut self, values: &[V]) -> Result<()> {
        let bytes = values.len() * size_of::<V>().max(4);
        self.entry("data", bytes, |out| write_array(out, &[values.len()], values))
    }

    fn finish(self) -> Result<()> {
        self.zip.finish().map_err(|error| trouble(self.path, error))?.commit()
    }
}

fn trouble(path: &Path, error: ZipError) -> FileError {
    match error {
        ZipError::Io(error) => FileError::io(path, "write")(error),
        error => FileError::malformed(path, format!("zip archive: {error}")),
    }
}
