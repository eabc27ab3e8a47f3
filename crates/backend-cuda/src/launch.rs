//! A kernel with its arguments.

use std::any::Any;
use std::sync::Arc;

use bytemuck::NoUninit;

use crate::abi::MOST_BLOCKS;
use crate::kernels::Module;

/// Something that an argument points to.
type Held = Arc<dyn Any + Send + Sync>;

/// A kernel, ready to start.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) module: Module,
    pub(crate) kernel: &'static str,
    /// From 1 to [`MOST_BLOCKS`].
    pub(crate) blocks: u32,
    arguments: Vec<Argument>,
    _held: Vec<Held>,
}

#[derive(Debug, Clone)]
struct Argument {
    /// Words, so that arguments of every type are aligned.
    words: Vec<u64>,
    bytes: usize,
}

impl Launch {
    pub(crate) fn new(module: Module, kernel: &'static str, blocks: usize) -> Self {
        debug_assert!((1..=MOST_BLOCKS).contains(&blocks));
        Self { module, kernel, blocks: blocks as u32, arguments: Vec::new(), _held: Vec::new() }
    }

    /// Adds the next argument.
    #[must_use]
    pub(crate) fn with<T: NoUninit>(mut self, argument: T) -> Self {
        let bytes = size_of::<T>();
        let mut words = vec![0u64; bytes.div_ceil(8)];
        bytemuck::cast_slice_mut::<_, u8>(&mut words)[..bytes].copy_from_slice(bytemuck::bytes_of(&argument));
        self.arguments.push(Argument { words, bytes });
        self
    }

    /// Keeps the memory that arguments point to, for as long as the launch may start.
    #[must_use]
    pub(crate) fn holding<T: Any + Send + Sync>(mut self, memory: impl IntoIterator<Item = Arc<T>>) -> Self {
        self._held.extend(memory.into_iter().map(|memory| memory as Held));
        self
    }

    /// A pointer to each argument, as drivers take them. A driver only reads through them.
    pub(crate) fn pointers(&self) -> Vec<*mut std::ffi::c_void> {
        self.arguments.iter().map(|argument| argument.words.as_ptr().cast_mut().cast()).collect()
    }

    /// Bytes of each argument.
    #[cfg_attr(not(feature = "emulator"), allow(dead_code))]
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.arguments.iter().map(|argument| argument.bytes).collect()
    }
}
