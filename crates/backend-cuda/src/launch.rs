//! Kernels by name, their arguments, and how many blocks they take.

use std::sync::Arc;

use bytemuck::{NoUninit, Pod, Zeroable};
use residua_format::ValueType;

use crate::driver::{Address, Buffer};

/// Threads of a block, of every kernel: `THREADS` in `operands.cuh`.
pub(crate) const THREADS: usize = 256;
/// Rows that a block of `gap.cu` computes: `ROWS` in `operands.cuh`.
pub(crate) const ROWS: usize = 16;
/// Rows that a block of `csr.cu` computes, one per warp.
pub(crate) const CSR_ROWS: usize = 8;
/// Vectors of a batch that a block takes at once, where there are several.
pub(crate) const BATCH: usize = 8;
/// The most blocks of a launch.
pub(crate) const MOST_BLOCKS: usize = i32::MAX as usize;

/// A file of compiled kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Module {
    /// `gap.cu` for a value type.
    Gap(ValueType),
    /// `csr.cu`.
    Csr,
    /// `coo.cu`.
    Coo,
    /// `peer_coo.cu`.
    #[cfg(feature = "peers")]
    PeerCoo,
}

impl Module {
    /// Name of its PTX file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gap(ValueType::F32) => "gap_f32",
            Self::Gap(ValueType::F16) => "gap_f16",
            Self::Gap(ValueType::Bf16) => "gap_bf16",
            Self::Gap(ValueType::I8) => "gap_i8",
            Self::Csr => "csr",
            Self::Coo => "coo",
            #[cfg(feature = "peers")]
            Self::PeerCoo => "peer_coo",
        }
    }
}

/// `Gap` of `operands.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Gap {
    pub(crate) blocks: Address,
    pub(crate) slices: Address,
    pub(crate) starts: Address,
    pub(crate) gaps: Address,
    pub(crate) values: Address,
    pub(crate) scales: Address,
}

/// `Base` of `operands.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Base {
    pub(crate) codes: Address,
    pub(crate) scales: Address,
    pub(crate) tiles: u32,
    pub(crate) groups: u32,
    pub(crate) group_shift: u32,
    pub(crate) padding: u32,
}

/// `Product` of `operands.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct Product {
    pub(crate) x: Address,
    pub(crate) y: Address,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) stride: u32,
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) padding: u32,
}

impl Product {
    /// Whether kernels for a single vector compute it.
    pub(crate) fn is_single(&self) -> bool {
        self.stride == 1
    }

    /// Blocks of a kernel whose blocks take `rows` rows and, of several vectors, [`BATCH`].
    pub(crate) fn blocks(&self, rows: usize) -> usize {
        let tiles = if self.is_single() { 1 } else { self.stride as usize / BATCH };
        (self.rows as usize).div_ceil(rows) * tiles
    }
}

/// `CsrArrays` of `operands.cuh`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
pub(crate) struct CsrArrays {
    pub(crate) row_ptr: Address,
    pub(crate) columns: Address,
    pub(crate) values: Address,
}

/// A kernel with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) module: Module,
    pub(crate) kernel: &'static str,
    /// At least 1, at most [`MOST_BLOCKS`].
    pub(crate) blocks: u32,
    arguments: Vec<Argument>,
    /// What the arguments point to.
    _held: Vec<Arc<Buffer>>,
}

#[derive(Debug, Clone)]
struct Argument {
    /// Words, so that every type of argument is aligned.
    words: Vec<u64>,
    bytes: usize,
}

impl Launch {
    pub(crate) fn new(module: Module, kernel: &'static str, blocks: usize) -> Self {
        debug_assert!((1..=MOST_BLOCKS).contains(&blocks));
        Self { module, kernel, blocks: blocks as u32, arguments: Vec::new(), _held: Vec::new() }
    }

    /// The next argument.
    #[must_use]
    pub(crate) fn with<T: NoUninit>(mut self, argument: T) -> Self {
        let bytes = size_of::<T>();
        let mut words = vec![0u64; bytes.div_ceil(8)];
        bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes].copy_from_slice(bytemuck::bytes_of(&argument));
        self.arguments.push(Argument { words, bytes });
        self
    }

    /// Keeps what arguments point to for as long as the launch may happen.
    #[must_use]
    pub(crate) fn holding(mut self, buffers: impl IntoIterator<Item = Arc<Buffer>>) -> Self {
        self._held.extend(buffers);
        self
    }

    /// Where each argument lies, as drivers want it. They only read.
    pub(crate) fn pointers(&self) -> Vec<*mut std::ffi::c_void> {
        self.arguments.iter().map(|argument| argument.words.as_ptr().cast_mut().cast()).collect()
    }

    /// Bytes of each argument.
    #[cfg_attr(not(feature = "emulator"), allow(dead_code))]
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.arguments.iter().map(|argument| argument.bytes).collect()
    }
}
