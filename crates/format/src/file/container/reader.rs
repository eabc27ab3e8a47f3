//! Reading a container.

use std::collections::BTreeMap;
use std::path::Path;

use bytemuck::Pod;
use residua_memory::{ALIGNMENT, AlignedVec, Budget};

use super::plane::{check, check_meta};
use super::{ContainerKind, FORMAT, MATRIX, MatrixMeta, Plane, VERSION};
use crate::file::{Checkpoint, FileError, Held, Result, TensorInfo};
use crate::{FormatError, GapCsr, GapPattern, QuantizedBase};

/// A container, open for positioned reads.
///
/// Opening it checks the safetensors file ([`Checkpoint`]), format and version, the metadata of every matrix, and the
/// element type and length of every plane. Reading a matrix checks the content of its planes, so every matrix that
/// comes out is valid.
///
/// ```
/// # use residua_format::{Csr, ValueType, convert};
/// # use residua_format::file::{ContainerKind, ContainerWriter};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("matrices.safetensors");
/// # let csr = Csr::new(2, 3, vec![0, 1, 3], vec![1u32, 0, 2], vec![5.0f32, 7.0, 9.0])?;
/// # let gap = convert::csr_to_gap(&csr, ValueType::Bf16)?;
/// # let mut writer = ContainerWriter::create(&path, ContainerKind::Matrix, 4096)?;
/// # writer.write_gap("layer.weight", &gap)?;
/// # writer.finish()?;
/// use residua_format::file::Container;
/// use residua_memory::Budget;
///
/// let container = Container::open(&path)?;
/// for (name, meta) in container.matrices() {
///     println!("{name}: {:?}, {} non-zeros", meta.shape, meta.nnz);
/// }
/// let budget = Budget::new(1 << 20);
/// let matrix = container.read_gap("layer.weight", &budget)?;
/// assert_eq!((matrix.rows(), matrix.cols(), matrix.nnz()), (2, 3, 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Container {
    file: Checkpoint,
    kind: ContainerKind,
    /// In the order of names.
    matrices: Vec<(String, MatrixMeta)>,
    /// Positions in the file's tensors.
    dense: Vec<u32>,
}

/// Commas in the metadata of a matrix of this program, at most.
const COMMAS: usize = 24;
/// Memory of a value under a key of another writer.
const VALUE: u64 = 128;

/// Memory of keys in the metadata of matrices that this program does not write. The file has reserved the others.
fn extra_memory(metadata: &BTreeMap<String, String>) -> u64 {
    let matrices = metadata.iter().filter(|(key, _)| key.starts_with(MATRIX));
    let values = matrices
        .map(|(_, json)| json.bytes().filter(|&byte| byte == b',').count().saturating_sub(COMMAS) as u64);
    VALUE * values.sum::<u64>()
}

impl Container {
    /// Opens a container.
    ///
    /// # Errors
    /// When the file cannot be read, is no container, or breaks a rule of the format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_within(path, &Budget::unlimited())
    }

    /// As [`open`](Self::open), with the memory of the header taken from `budget` as long as the container is open.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the budget does not hold the header.
    pub fn open_within(path: impl AsRef<Path>, budget: &Budget) -> Result<Self> {
        Self::from_file(Checkpoint::open_within(path, budget)?)
    }

    /// Whether the metadata of a safetensors file says that it is a container.
    pub fn is_container(file: &Checkpoint) -> bool {
        file.metadata().get("format").is_some_and(|format| format == FORMAT)
    }

    /// A container from an open safetensors file.
    ///
    /// # Errors
    /// When the file is no container, or breaks a rule of the format.
    pub fn from_file(mut file: Checkpoint) -> Result<Self> {
        let extra = extra_memory(file.metadata());
        file.hold(extra)?;
        let path = file.path();
        let entry = |key| file.metadata().get(key).map(String::as_str);
        if !Self::is_container(&file) {
            let problem = "is an ordinary safetensors file, not a container";
            return Err(FileError::malformed(path, problem));
        }
        if entry("format_version") != Some(VERSION) {
            let found = entry("format_version").unwrap_or_default();
            let problem = format!("format version {found:?}; version {VERSION:?} is supported");
            return Err(FileError::malformed(path, problem));
        }
        let kind = ContainerKind::ALL.into_iter().find(|kind| entry("kind") == Some(kind.name()));
        let Some(kind) = kind else {
            return Err(FileError::malformed(path, format!("unknown kind {:?}", entry("kind"))));
        };
        let mut matrices = Vec::new();
        let mut is_plane = vec![false; file.tensors().len()];
        for (key, json) in file.metadata() {
            let Some(name) = key.strip_prefix(MATRIX) else { continue };
            let meta: MatrixMeta = serde_json::from_str(json)
                .map_err(|error| FileError::tensor(path, name, format!("metadata: {error}")))?;
            if let Some(problem) = check_meta(&meta) {
                return Err(FileError::tensor(path, name, format!("metadata: {problem}")));
            }
            for plane in Plane::ALL.into_iter().filter(|plane| plane.belongs(&meta)) {
                let tensor = plane.tensor(name);
                let Some(position) = file.position(&tensor) else {
                    return Err(FileError::missing(path, &tensor, file.tensors().iter().map(|t| &*t.name)));
                };
                let tensor = &file.tensors()[position];
                // Writers pad planes to whole lines. Readers accept less padding.
                let problem = check(plane, &meta, tensor.dtype, tensor.bytes, ALIGNMENT - 1);
                if let Some(problem) = problem {
                    return Err(FileError::tensor(path, &tensor.name, problem));
                }
                is_plane[position] = true;
            }
            matrices.push((name.to_owned(), meta));
        }
        let dense =
            (0..).zip(is_plane).filter(|(_, is_plane)| !is_plane).map(|(position, _)| position).collect();
        let new = Self { file, kind, matrices, dense };
        if let Some(tensor) = new.dense().find(|tensor| new.matrix(&tensor.name).is_some()) {
            return Err(FileError::tensor(new.path(), &tensor.name, "both a matrix and a dense tensor"));
        }
        Ok(new)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The underlying safetensors file.
    pub fn file(&self) -> &Checkpoint {
        &self.file
    }

    /// The kind of the container.
    pub fn kind(&self) -> ContainerKind {
        self.kind
    }

    /// An entry of the metadata of the whole file.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.file.metadata().get(key).map(String::as_str)
    }

    /// Every matrix, in the order of names.
    pub fn matrices(&self) -> &[(String, MatrixMeta)] {
        &self.matrices
    }

    /// A matrix by name.
    pub fn matrix(&self, name: &str) -> Option<&MatrixMeta> {
        let found = self.matrices.binary_search_by(|(matrix, _)| (**matrix).cmp(name));
        found.ok().map(|i| &self.matrices[i].1)
    }

    /// The dense tensors, in the order of the file. Read them with [`file`](Self::file) and [`Checkpoint::read_at`].
    pub fn dense(&self) -> impl ExactSizeIterator<Item = &TensorInfo> {
        self.dense.iter().map(|&position| &self.file.tensors()[position as usize])
    }

    /// A dense tensor by name.
    pub fn dense_tensor(&self, name: &str) -> Option<&TensorInfo> {
        let position = self.file.position(name)?;
        self.dense.binary_search(&(position as u32)).ok().map(|_| &self.file.tensors()[position])
    }

    /// The tensor of one plane of a matrix. Its length includes padding.
    ///
    /// # Errors
    /// When there is no such matrix, or it has no such plane.
    pub fn plane(&self, name: &str, plane: Plane) -> Result<&TensorInfo> {
        if !plane.belongs(self.expect_matrix(name)?) {
            return Err(FileError::missing(self.path(), &plane.tensor(name), []));
        }
        self.file.expect_tensor(&plane.tensor(name))
    }

    /// Fills `out` with the bytes of a plane, from byte `offset` on. Does not check their content.
    ///
    /// # Errors
    /// When there is no such plane, the range goes beyond its end, or the file cannot be read.
    pub fn read_plane_at(&self, name: &str, plane: Plane, offset: u64, out: &mut [u8]) -> Result<()> {
        self.file.read_at(self.plane(name, plane)?, offset, out)
    }

    /// Bytes of all sparse planes of a matrix: on disk (without padding) and in memory.
    ///
    /// # Errors
    /// When there is no such matrix.
    pub fn gap_bytes(&self, name: &str) -> Result<u64> {
        self.plane_bytes(name, |plane| !plane.of_base())
    }

    /// Bytes of the quantised base of a matrix on disk, without padding. In memory all scales are f32.
    ///
    /// # Errors
    /// When there is no such matrix.
    pub fn base_bytes(&self, name: &str) -> Result<u64> {
        self.plane_bytes(name, Plane::of_base)
    }

    fn plane_bytes(&self, name: &str, wanted: impl Fn(Plane) -> bool) -> Result<u64> {
        let meta = self.expect_matrix(name)?;
        let mut sum = 0;
        for plane in Plane::ALL.into_iter().filter(|&plane| plane.belongs(meta) && wanted(plane)) {
            let size = self.plane(name, plane)?.dtype.bitsize() as u64 / 8;
            sum += plane.elements(meta).unwrap_or(0) * size;
        }
        Ok(sum)
    }

    /// Reads a sparse matrix into memory.
    ///
    /// # Errors
    /// When there is no such matrix, its values are raw bits, a plane breaks an invariant, or the budget does not
    /// allow its bytes.
    pub fn read_gap(&self, name: &str, budget: &Budget) -> Result<Held<GapCsr>> {
        let gap = self.read_gap_rows(name, 0..self.expect_matrix(name)?.shape[0], budget)?;
        self.check_nnz(name, gap.nnz())?;
        Ok(gap)
    }

    /// Reads the positions of the entries of a sparse matrix.
    ///
    /// # Errors
    /// As [`read_gap`](Self::read_gap), except that values may be raw bits.
    pub fn read_pattern(&self, name: &str, budget: &Budget) -> Result<Held<GapPattern>> {
        let (pattern, _) = self.read_pattern_rows(name, 0..self.expect_matrix(name)?.shape[0], budget)?;
        self.check_nnz(name, pattern.nnz())?;
        Ok(pattern)
    }

    fn check_nnz(&self, name: &str, found: usize) -> Result<()> {
        let expected = self.expect_matrix(name)?.nnz as usize;
        if found != expected {
            let error = FormatError::Length { what: "non-zeros", found, expected };
            return Err(FileError::matrix(self.path(), name)(error));
        }
        Ok(())
    }

    /// Reads the quantised base of a matrix into memory.
    ///
    /// # Errors
    /// When there is no such base, a plane breaks an invariant, or the budget does not allow its bytes.
    pub fn read_base(&self, name: &str, budget: &Budget) -> Result<Held<QuantizedBase>> {
        self.read_base_rows(name, 0..self.expect_matrix(name)?.shape[0], budget)
    }

    pub(super) fn expect_matrix(&self, name: &str) -> Result<&MatrixMeta> {
        let names = self.matrices.iter().map(|(name, _)| &**name);
        let missing = || FileError::missing(self.path(), name, names);
        self.matrix(name).ok_or_else(missing)
    }

    /// Reads elements of a plane.
    pub(super) fn read_vec<T: Pod>(
        &self,
        name: &str,
        plane: Plane,
        first: usize,
        count: usize,
    ) -> Result<AlignedVec<T>> {
        let mut values = AlignedVec::zeroed(count);
        let offset = first as u64 * size_of::<T>() as u64;
        self.read_plane_at(name, plane, offset, values.as_bytes_mut())?;
        Ok(values)
    }
}
