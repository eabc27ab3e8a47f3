//! Writing a container.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;

use super::plane::{check, check_meta};
use super::{ContainerKind, FORMAT, MATRIX, MatrixMeta, Plane, VERSION};
use crate::file::{FileError, Result, SafetensorsWriter};
use crate::{GapCsr, GapPattern, QuantizedBase, ValuePlane};

/// Bytes that several threads hash faster than one.
const PARALLEL: usize = 128 << 10;

/// Writes a container front to back: first all planes, then the dense tensors, widest elements first. So every plane
/// lies at a multiple of 128 bytes, and every dense element at a multiple of its size.
///
/// Planes come one at a time, in any order. Write whole matrices with [`write_gap`](Self::write_gap) and
/// [`write_base`](Self::write_base). Or write planes piece by piece ([`begin_plane`](Self::begin_plane),
/// [`write`](Self::write), [`end_plane`](Self::end_plane)) and set the metadata of the matrix at any time
/// ([`matrix`](Self::matrix)). [`finish`](Self::finish) checks that planes and metadata agree.
#[derive(Debug)]
pub struct ContainerWriter {
    file: SafetensorsWriter,
    matrices: BTreeMap<String, MatrixMeta>,
    /// Tensor → its element type, its length without padding, and its hash.
    planes: BTreeMap<String, (Dtype, u64, Option<blake3::Hash>)>,
    open: Option<(String, Dtype)>,
    /// Hashes the open plane, if planes are hashed.
    hasher: Option<blake3::Hasher>,
    /// Bits of an element of the last dense tensor.
    dense: Option<usize>,
}

impl ContainerWriter {
    /// Starts a container that will replace `path`, with room for `header_capacity` bytes of header (see
    /// [`matrix_header_bytes`](Self::matrix_header_bytes)). Too little room costs one more pass over the file.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: impl AsRef<Path>, kind: ContainerKind, header_capacity: u64) -> Result<Self> {
        Ok(Self::begin(SafetensorsWriter::create(path, header_capacity.saturating_add(256))?, kind))
    }

    fn begin(mut file: SafetensorsWriter, kind: ContainerKind) -> Self {
        file.metadata("format", FORMAT);
        file.metadata("format_version", VERSION);
        file.metadata("kind", kind.name());
        file.metadata("creator", concat!("residua ", env!("CARGO_PKG_VERSION")));
        let (matrices, planes) = Default::default();
        Self { file, matrices, planes, open: None, hasher: None, dense: None }
    }

    /// From now on, stores the BLAKE3 hash of every plane in its matrix's metadata.
    pub fn hash_planes(&mut self) {
        self.hasher = Some(blake3::Hasher::new());
    }

    /// Bytes that a matrix with this metadata and its planes take in the header.
    pub fn matrix_header_bytes(name: &str, meta: &MatrixMeta) -> u64 {
        let planes = Plane::ALL.into_iter().filter(|plane| plane.belongs(meta));
        let tensors: u64 = planes.map(|plane| SafetensorsWriter::header_bytes(&plane.tensor(name), 1)).sum();
        // Counts may still be 0: three of at most 10 digits, and a flag.
        let json = serde_json::to_string(meta).unwrap_or_default();
        tensors + SafetensorsWriter::metadata_bytes(&format!("{MATRIX}{name}"), &json) + 48
    }

    /// The file that will be replaced.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Sets an entry of the metadata of the whole file. The keys `format`, `format_version`, `kind` and `matrix:…`
    /// belong to the container; do not use them.
    pub fn metadata(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.file.metadata(key, value);
    }

    /// Sets the metadata of a matrix. Replaces earlier metadata.
    pub fn matrix(&mut self, name: &str, meta: MatrixMeta) {
        self.matrices.insert(name.to_owned(), meta);
    }

    /// The metadata of a matrix, to be changed at any time before [`finish`](Self::finish).
    pub fn matrix_mut(&mut self, name: &str) -> Option<&mut MatrixMeta> {
        self.matrices.get_mut(name)
    }

    /// Writes the planes of a sparse matrix. Earlier metadata keeps its op, element type and extra keys. Without
    /// earlier metadata the op is `add` and the element type F32.
    ///
    /// # Errors
    /// When a plane of this name exists, a dense tensor was written before, or the file cannot be written.
    pub fn write_gap(&mut self, name: &str, gap: &GapCsr) -> Result<()> {
        self.write_pattern(name, gap.pattern())?;
        let values = gap.values();
        let dtype = match values {
            ValuePlane::F32(_) => Dtype::F32,
            ValuePlane::F16(_) => Dtype::F16,
            ValuePlane::Bf16(_) => Dtype::BF16,
            ValuePlane::I8 { .. } => Dtype::I8,
        };
        self.plane(name, Plane::Values, dtype, values.as_bytes())?;
        if let ValuePlane::I8 { scales, .. } = values {
            self.plane(name, Plane::Scales, Dtype::F32, scales.as_bytes())?;
        }
        self.entry(name).values = Some(gap.value_type());
        Ok(())
    }

    /// Writes the planes of a pattern and sets shape and counts in the metadata. The caller writes the values
    /// ([`Plane::Values`]).
    ///
    /// # Errors
    /// As [`write_gap`](Self::write_gap).
    pub fn write_pattern(&mut self, name: &str, pattern: &GapPattern) -> Result<()> {
        self.plane(name, Plane::RowPtr, Dtype::U32, bytemuck::cast_slice(pattern.row_ptr()))?;
        if let Some((row_modes, index_ptr)) = pattern.modes() {
            self.plane(name, Plane::RowModes, Dtype::U8, row_modes)?;
            self.plane(name, Plane::IndexPtr, Dtype::U32, bytemuck::cast_slice(index_ptr))?;
        }
        self.plane(name, Plane::Gaps, Dtype::U8, pattern.index())?;
        self.entry(name).set_pattern(pattern);
        Ok(())
    }

    /// Writes the planes of a quantised base.
    ///
    /// # Errors
    /// As [`write_gap`](Self::write_gap).
    pub fn write_base(&mut self, name: &str, base: &QuantizedBase) -> Result<()> {
        self.plane(name, Plane::Base, Dtype::U8, base.codes())?;
        self.plane(name, Plane::BaseScales, Dtype::F32, bytemuck::cast_slice(base.scales()))?;
        if base.kind().is_codebook() {
            self.plane(name, Plane::BaseLevels, Dtype::I8, bytemuck::cast_slice(base.grid().levels()))?;
        }
        self.entry(name).set_base(base);
        Ok(())
    }

    fn entry(&mut self, name: &str) -> &mut MatrixMeta {
        self.matrices.entry(name.to_owned()).or_insert_with(|| MatrixMeta::new([0, 0], Dtype::F32))
    }

    /// Starts one plane of a matrix.
    ///
    /// # Errors
    /// When another plane is open, a plane of this name exists, or a dense tensor was written before.
    pub fn begin_plane(&mut self, matrix: &str, plane: Plane, dtype: Dtype) -> Result<()> {
        let tensor = plane.tensor(matrix);
        if self.dense.is_some() {
            return Err(FileError::tensor(self.path(), &tensor, "planes must come before dense tensors"));
        }
        self.file.begin_plane(&tensor, dtype)?;
        self.open = Some((tensor, dtype));
        Ok(())
    }

    /// Appends bytes, little-endian, to the open plane or dense tensor.
    ///
    /// # Errors
    /// When nothing is open, or the file cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let (Some(hasher), Some(_)) = (&mut self.hasher, &self.open) {
            match bytes.len() {
                PARALLEL.. => hasher.update_rayon(bytes),
                _ => hasher.update(bytes),
            };
        }
        self.file.write(bytes)
    }

    /// Ends the open plane and returns the number of its elements.
    ///
    /// # Errors
    /// When no plane is open, or its bytes are not a whole number of elements.
    pub fn end_plane(&mut self) -> Result<u64> {
        let elements = self.file.end_plane()?;
        if let Some((tensor, dtype)) = self.open.take() {
            let hash = self.hasher.as_mut().map(|hasher| std::mem::take(hasher).finalize());
            self.planes.insert(tensor, (dtype, elements * (dtype.bitsize() as u64 / 8), hash));
        }
        Ok(elements)
    }

    /// Writes one whole plane of a matrix.
    ///
    /// # Errors
    /// As [`begin_plane`](Self::begin_plane) and [`end_plane`](Self::end_plane).
    pub fn plane(&mut self, matrix: &str, plane: Plane, dtype: Dtype, bytes: &[u8]) -> Result<()> {
        self.begin_plane(matrix, plane, dtype)?;
        self.write(bytes)?;
        self.end_plane().map(drop)
    }

    /// Starts a dense tensor. [`write`](Self::write) its bytes, then [`end_dense`](Self::end_dense) it.
    ///
    /// # Errors
    /// When something is open, the name is taken, or its elements are wider than those of the dense tensor before.
    pub fn begin_dense(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<()> {
        if self.dense.is_some_and(|before| before < dtype.bitsize()) {
            let problem = "dense tensors must come in falling order of their element size";
            return Err(FileError::tensor(self.path(), name, problem));
        }
        self.file.begin(name, dtype, shape)?;
        self.dense = Some(dtype.bitsize());
        Ok(())
    }

    /// Ends the open dense tensor.
    ///
    /// # Errors
    /// When no tensor is open, or the number of bytes written does not match its shape.
    pub fn end_dense(&mut self) -> Result<()> {
        self.file.end()
    }

    /// Writes the header, replaces the target and returns the bytes of the file.
    ///
    /// # Errors
    /// When planes and metadata of a matrix do not agree, something is still open, or the file cannot be written. The
    /// old target stays then.
    pub fn finish(self) -> Result<u64> {
        let Self { mut file, matrices, mut planes, .. } = self;
        let path = file.path().to_owned();
        for (name, mut meta) in matrices {
            if let Some(problem) = check_meta(&meta) {
                return Err(FileError::tensor(&path, &name, problem));
            }
            // Metadata that was copied from another file has that file's hashes.
            meta.hashes.clear();
            for plane in Plane::ALL {
                if !plane.belongs(&meta) {
                    continue;
                }
                let tensor = plane.tensor(&name);
                let Some((dtype, bytes, hash)) = planes.remove(&tensor) else {
                    return Err(FileError::missing(&path, &tensor, []));
                };
                if let Some(problem) = check(plane, &meta, dtype, bytes, 0) {
                    return Err(FileError::tensor(&path, &tensor, problem));
                }
                meta.hashes.extend(hash.map(|hash| (plane.suffix().to_owned(), hash.to_hex().to_string())));
            }
            let json = serde_json::to_string(&meta)
                .map_err(|error| FileError::tensor(&path, &name, format!("metadata: {error}")))?;
            file.metadata(format!("{MATRIX}{name}"), json);
        }
        match planes.first_key_value() {
            Some((tensor, _)) => {
                Err(FileError::tensor(&path, tensor, "a plane whose matrix has no metadata"))
            }
            None => file.finish(),
        }
    }
}
