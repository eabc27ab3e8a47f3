//! Files that [`split`](crate::split()) wrote, and the layers in them.

use std::path::Path;

use residua_format::file::{Checkpoint, Container, ContainerKind, FileError, Held, MatrixMeta, Op};
use residua_format::{BaseKind, DenseMatrix, DenseValues, GapCsr, QuantizedBase};
use residua_memory::{AlignedVec, Budget};

use crate::SplitError;
use crate::base_file::{BaseFile, BaseLocation};
use crate::float::Float;
use crate::rows::{Rows, tensor_shape};

/// Metadata key: the metadata of the checkpoint that was split, as JSON.
pub(crate) const ORIGINAL_METADATA: &str = "original_metadata";

/// A file that [`split`](crate::split()) wrote, open for reading.
///
/// A file that was split against another checkpoint holds only hashes of its bases. The base checkpoint is looked for
/// when the file is opened ([`BaseLocation`]). When it is not found, the file still opens, and
/// [`SplitLayer::read_base`] fails with [`SplitError::BaseNotFound`].
#[derive(Debug)]
pub struct SplitFile {
    container: Container,
    base: BaseFile,
}

impl SplitFile {
    /// Opens a split file. A base that is another checkpoint is looked for [near](BaseLocation::Near) the file.
    ///
    /// # Errors
    /// When the file cannot be read, is malformed, or is no split file. A delta is no split file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, SplitError> {
        Self::open_at(path, &BaseLocation::Near, &Budget::unlimited())
    }

    /// Opens a split file whose base is the checkpoint at `base`: a safetensors file, the index of a sharded
    /// checkpoint, or its directory. A file that holds its bases does not need it; `base` is not opened then.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the base is needed and cannot be opened. Its content is checked when it is
    /// read.
    pub fn open_with_base(path: impl AsRef<Path>, base: impl AsRef<Path>) -> Result<Self, SplitError> {
        Self::open_at(path, &BaseLocation::At(base.as_ref().to_owned()), &Budget::unlimited())
    }

    /// Opens a split file whose base is at this place. The memory of all headers comes from the budget.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_with_base`](Self::open_with_base), and when the budget does not hold the
    /// headers.
    pub fn open_at(path: impl AsRef<Path>, base: &BaseLocation, budget: &Budget) -> Result<Self, SplitError> {
        Self::from_container(Container::open_within(path, budget)?, base)
    }

    /// Takes an open container as a split file whose base is at this place. The memory of the base's headers comes from
    /// the budget of the container.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_with_base`](Self::open_with_base).
    pub fn from_container(container: Container, base: &BaseLocation) -> Result<Self, SplitError> {
        let problem = match container.kind() {
            ContainerKind::Split => None,
            ContainerKind::Delta => Some("holds no split checkpoint: a delta is patched into a checkpoint"),
            ContainerKind::Matrix => Some("holds no split checkpoint: its kind is \"matrix\""),
        };
        if let Some(problem) = problem {
            return Err(FileError::malformed(container.path(), problem).into());
        }
        let base = BaseFile::find(&container, base)?;
        Ok(Self { container, base })
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        self.container.path()
    }

    /// The container below.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// The base checkpoint, where the file needs one and it was found.
    pub fn base(&self) -> Option<&Checkpoint> {
        match &self.base {
            BaseFile::Open(file) => Some(file),
            BaseFile::NotNeeded | BaseFile::NotFound { .. } => None,
        }
    }

    /// Fails if a layer needs another checkpoint as its base and that was not found.
    ///
    /// # Errors
    /// [`SplitError::BaseNotFound`], for the first such layer.
    pub fn require_base(&self) -> Result<(), SplitError> {
        let layer = self.container.matrices().iter().find(|(_, meta)| meta.base.is_none());
        match (&self.base, layer) {
            (BaseFile::NotFound { .. }, Some((name, meta))) => Err(self.base_not_found(name, meta)),
            _ => Ok(()),
        }
    }

    fn base_not_found(&self, layer: &str, meta: &MatrixMeta) -> SplitError {
        let (tried, source) = match &self.base {
            BaseFile::NotFound { tried, source } => (tried.clone(), source.clone()),
            BaseFile::NotNeeded | BaseFile::Open(_) => (None, None),
        };
        let (file, layer) = (self.path().to_owned(), layer.to_owned());
        let expected = meta.base_hash.clone().unwrap_or_default();
        SplitError::BaseNotFound { file, layer, tried, expected, source }
    }

    /// The names of the layers, in the order of the container: by name.
    pub fn layers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.container.matrices().iter().map(|(name, _)| &**name)
    }

    /// A layer by name.
    ///
    /// # Errors
    /// [`FileError::MissingTensor`] with some names that are there, or when the metadata does not describe a layer.
    pub fn layer(&self, name: &str) -> Result<SplitLayer<'_>, SplitError> {
        // They are in the order of their names.
        let matrices = self.container.matrices();
        let Ok(at) = matrices.binary_search_by(|(layer, _)| (**layer).cmp(name)) else {
            return Err(FileError::missing(self.path(), name, self.layers()).into());
        };
        let (name, meta) = &matrices[at];
        SplitLayer::new(self, name, meta)
    }
}

/// A layer of a [`SplitFile`]: a base and a sparse residual.
#[derive(Debug, Clone, Copy)]
pub struct SplitLayer<'a> {
    pub(crate) file: &'a SplitFile,
    pub(crate) name: &'a str,
    pub(crate) meta: &'a MatrixMeta,
    pub(crate) float: Float,
}

/// The base of a layer, in memory.
#[derive(Debug)]
pub enum LayerBase {
    /// Codes and scales; the split file holds them.
    Quantized(Held<QuantizedBase>),
    /// The tensor of another checkpoint.
    Dense(Held<DenseMatrix>),
}

impl<'a> SplitLayer<'a> {
    fn new(file: &'a SplitFile, name: &'a str, meta: &'a MatrixMeta) -> Result<Self, SplitError> {
        let error = |problem: String| Err(SplitError::tensor(file.path(), name, problem));
        let Some(float) = Float::of(meta.dtype) else {
            return error(format!("element type {} cannot be split", meta.dtype));
        };
        if name == "__metadata__" {
            return error("no tensor of a safetensors file can have this name".to_owned());
        }
        let [rows, cols] = meta.shape;
        let stacked = meta.tensor_shape.as_deref().is_none_or(|shape| {
            matches!(*shape, [stack, each, width] if stack.checked_mul(each) == Some(rows) && width == cols)
        });
        if meta.op != Op::Add || !stacked || meta.shape.contains(&0) {
            return error(format!("op {} on shape {:?} is no split tensor", meta.op, tensor_shape(meta)));
        }
        if meta.base.is_none() && meta.base_hash.is_none() {
            return error("has neither a base nor the hash of one".to_owned());
        }
        Ok(Self { file, name, meta, float })
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// `[rows, cols]` = `[out_features, in_features]`. A stack of experts' matrices is one matrix, with the rows of
    /// all.
    pub fn shape(&self) -> [usize; 2] {
        self.meta.shape
    }

    /// Non-zeros of the residual.
    pub fn nnz(&self) -> u64 {
        self.meta.nnz
    }

    /// How the base is quantised; `None` when the base is another checkpoint.
    pub fn base_kind(&self) -> Option<BaseKind> {
        self.meta.base
    }

    /// Reads the base into memory. A base that is another checkpoint is read whole, and its BLAKE3 hash is compared
    /// with the stored one.
    ///
    /// # Errors
    /// [`SplitError::BaseNotFound`] when the base checkpoint is not there; [`FileError::Hash`] when it is not the one
    /// that the file was split against. Also when the tensor is missing or has another shape or element type, a plane
    /// breaks an invariant, a file cannot be read, or the budget does not allow the bytes.
    pub fn read_base(&self, budget: &Budget) -> Result<LayerBase, SplitError> {
        let Some(rows) = self.base_rows()? else {
            return Ok(LayerBase::Quantized(self.file.container.read_base(self.name, budget)?));
        };
        let [count, cols] = self.meta.shape;
        let held = budget.reserve(rows.info.bytes, &format!("base of layer {}", self.name))?;
        let elements = count * cols;
        let values = match self.float {
            Float::F32 => DenseValues::F32(self.read_dense(&rows, elements)?),
            Float::F16 => DenseValues::F16(self.read_dense(&rows, elements)?),
            Float::Bf16 => DenseValues::Bf16(self.read_dense(&rows, elements)?),
        };
        let dense = DenseMatrix::new(count, cols, values)
            .map_err(FileError::matrix(rows.file.file_of(rows.info), self.name))?;
        Ok(LayerBase::Dense(Held::new(dense, held)))
    }

    /// Reads the residual into memory.
    ///
    /// # Errors
    /// When a plane breaks an invariant, the file cannot be read, or the budget does not allow the bytes.
    pub fn read_residual(&self, budget: &Budget) -> Result<Held<GapCsr>, SplitError> {
        Ok(self.file.container.read_gap(self.name, budget)?)
    }

    /// All values of a dense base, whose hash is checked.
    fn read_dense<T: bytemuck::Pod>(
        &self,
        rows: &Rows<'_>,
        elements: usize,
    ) -> Result<AlignedVec<T>, SplitError> {
        let mut values = AlignedVec::zeroed(elements);
        rows.read(0, values.as_bytes_mut())?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_rayon(values.as_bytes());
        self.check_base(rows, &hasher)?;
        Ok(values)
    }

    /// The tensor of the base checkpoint; `None` when the file holds the base.
    pub(crate) fn base_rows(&self) -> Result<Option<Rows<'a>>, SplitError> {
        let (base, meta) = (&self.file.base, self.meta);
        if meta.base.is_some() {
            return Ok(None);
        }
        let file = match base {
            BaseFile::Open(file) => file,
            BaseFile::NotNeeded => return Ok(None),
            BaseFile::NotFound { .. } => return Err(self.file.base_not_found(self.name, meta)),
        };
        let info = file.expect_tensor(self.name)?;
        match Rows::of(file, info).filter(|_| (&*info.shape, info.dtype) == (tensor_shape(meta), meta.dtype))
        {
            Some(rows) => Ok(Some(rows)),
            None => {
                let problem = format!(
                    "is {} {:?}, the base was {} {:?}",
                    info.dtype,
                    info.shape,
                    meta.dtype,
                    tensor_shape(meta)
                );
                Err(SplitError::tensor(file.file_of(info), self.name, problem))
            }
        }
    }

    /// Fails unless the bytes of the base that `hasher` has seen are those that the residual was taken from.
    pub(crate) fn check_base(&self, base: &Rows<'_>, hasher: &blake3::Hasher) -> Result<(), SplitError> {
        let found = hasher.finalize().to_hex().to_string();
        let expected = self.meta.base_hash.clone().unwrap_or_default();
        if found == expected {
            return Ok(());
        }
        let path = base.file.file_of(base.info).to_owned();
        Err(FileError::Hash { path, what: format!("the base of tensor {}", self.name), expected, found }
            .into())
    }
}
