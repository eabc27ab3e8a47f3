//! Buffers that C fills, and the data about each of them.
//!
//! The structs of the header have only the seed's fields, so a table holds everything else, by the buffer's address.
//! A header in front of each buffer would be faster to find, but only for our own pointers. For a pointer that a caller
//! made up, or freed, reading that header is the invalid access that must not happen. We look a pointer up in the table
//! before we follow it. So a pointer freed twice is not in the table, a struct of garbage is refused, and the true size
//! of every buffer is known, whatever the caller wrote into `count`.
//!
//! A buffer lives until it is freed *and* no call uses it: calls hold it while they run.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytemuck::Pod;
use residua::memory::ALIGNMENT;

use crate::failure::Failure;

/// All buffers in use, by address. An empty table holds no memory, so a leak checker finds nothing.
static BUFFERS: RwLock<BTreeMap<usize, Arc<Buffer>>> = RwLock::new(BTreeMap::new());

/// Memory that callers write and calls read.
#[derive(Debug)]
pub(crate) struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    /// The layout of the allocation; `None` for the caller's own memory.
    layout: Option<Layout>,
    /// Cached operand for the CPU, made from the content.
    pub(crate) host: Memo,
    /// Cached operand for a device, made from the content.
    pub(crate) device: Memo,
}

// SAFETY: a buffer is memory that any thread may read; the header forbids C to write it while a call reads.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: `allocate` got it from the same allocator with this layout; only this drop frees it.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

/// A zeroed, 128-byte aligned buffer of at least one line, not yet in the table.
pub(crate) fn allocate(what: &'static str, bytes: Option<usize>) -> Result<Buffer, Failure> {
    let failure = || Failure::Memory { what, bytes: bytes.unwrap_or(usize::MAX) };
    let bytes = bytes.ok_or_else(failure)?;
    let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT).map_err(|_| failure())?.pad_to_align();
    // SAFETY: the layout is not empty.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(failure)?;
    Ok(Buffer { start, bytes, layout: Some(layout), host: Memo::default(), device: Memo::default() })
}

/// Puts a buffer into the table and returns its address, for C.
pub(crate) fn publish<T>(buffer: Buffer) -> *mut T {
    let start = buffer.start.as_ptr();
    table().insert(start.addr(), Arc::new(buffer));
    start.cast()
}

/// Puts the caller's memory into the table.
pub(crate) fn lend(start: *mut u8, bytes: usize) -> Result<(), Failure> {
    let Some(start) = NonNull::new(start) else { return Err(Failure::Null("buffer")) };
    if !start.addr().get().is_multiple_of(size_of::<f32>()) {
        return Err(Failure::refused("buffer is not aligned to 4 bytes"));
    }
    if bytes > isize::MAX as usize {
        return Err(Failure::refused(format!("buffer cannot have {bytes} bytes")));
    }
    let mut table = table();
    if table.contains_key(&start.addr().get()) {
        return Err(Failure::refused("buffer is in use already: return it before you lend it again"));
    }
    let buffer = Buffer { start, bytes, layout: None, host: Memo::default(), device: Memo::default() };
    table.insert(start.addr().get(), Arc::new(buffer));
    Ok(())
}

/// Removes the caller's memory from the table.
pub(crate) fn give_back(start: *const u8) -> Result<(), Failure> {
    let mut table = table();
    match table.get(&start.addr()) {
        Some(buffer) if buffer.layout.is_none() => {
            remove(&mut table, start.addr());
            Ok(())
        }
        Some(_) => Err(Failure::refused("buffer belongs to a layer: orth_layer_free frees it")),
        None => Err(Failure::Unknown { field: "buffer", address: start.addr() }),
    }
}

/// Frees one of our buffers; ignores addresses that are not in the table, and the caller's memory.
pub(crate) fn free<T>(start: *const T) {
    let mut table = table();
    if table.get(&start.addr()).is_some_and(|buffer| buffer.layout.is_some()) {
        remove(&mut table, start.addr());
    }
}

fn remove(table: &mut BTreeMap<usize, Arc<Buffer>>, address: usize) {
    table.remove(&address);
    if table.is_empty() {
        // An emptied map keeps a node.
        *table = BTreeMap::new();
    }
}

/// The buffer that starts at `start`, kept alive while the caller holds it.
pub(crate) fn find<T>(field: &'static str, start: *const T) -> Result<Arc<Buffer>, Failure> {
    if start.is_null() {
        return Err(Failure::Null(field));
    }
    let table = BUFFERS.read().unwrap_or_else(PoisonError::into_inner);
    table.get(&start.addr()).cloned().ok_or(Failure::Unknown { field, address: start.addr() })
}

fn table() -> std::sync::RwLockWriteGuard<'static, BTreeMap<usize, Arc<Buffer>>> {
    BUFFERS.write().unwrap_or_else(PoisonError::into_inner)
}

impl Buffer {
    /// The first `len` elements; an error if the buffer has fewer.
    pub(crate) fn slice<T: Pod>(&self, field: &'static str, len: usize) -> Result<&[T], Failure> {
        let needed = len.saturating_mul(size_of::<T>());
        if needed > self.bytes {
            return Err(Failure::TooSmall { field, found: self.bytes, needed });
        }
        // SAFETY: the buffer has these bytes. The allocation initialised them (for lent memory, the caller promises it)
        // and aligned them for every number. They live as long as `self`. The header forbids writes while a call runs.
        Ok(unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), len) })
    }
}

/// A cached value made from a buffer's content, with a fingerprint of all its inputs.
#[derive(Debug, Default)]
pub(crate) struct Memo(Mutex<Option<(u64, Arc<dyn Any + Send + Sync>)>>);

impl Memo {
    /// The cached value for `key`, or the result of `make`, cached from now on.
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        key: u64,
        make: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<Arc<T>, Failure> {
        let mut memo = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = memo.clone().filter(|(known, _)| *known == key);
        if let Some(Ok(known)) = known.map(|(_, thing)| thing.downcast()) {
            return Ok(known);
        }
        // Drop the old value first: both may not fit in memory.
        *memo = None;
        let made = Arc::new(make()?);
        *memo = Some((key, made.clone()));
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_buffers_are_followed() {
        let start: *mut f32 = publish(allocate("test", Some(12)).unwrap());
        assert_eq!(start.addr() % ALIGNMENT, 0);
        let buffer = find("values", start).unwrap();
        assert_eq!(buffer.slice::<f32>("values", 3).unwrap(), [0.0; 3]);
        assert!(matches!(buffer.slice::<f32>("values", 4), Err(Failure::TooSmall { needed: 16, .. })));
        assert!(matches!(find("values", start.wrapping_add(1)), Err(Failure::Unknown { .. })));
        free(start);
        free(start);
        assert!(matches!(find("values", start), Err(Failure::Unknown { .. })));
        assert_eq!(buffer.slice::<f32>("values", 3).unwrap(), [0.0; 3], "a call in progress still reads it");
    }

    #[test]
    fn sizes_beyond_memory_are_failures() {
        // tests/c/hostile.c tests sizes that an allocator refuses: AddressSanitizer would end this program.
        for bytes in [None, Some(usize::MAX), Some(isize::MAX as usize - 64)] {
            assert!(matches!(allocate("test", bytes), Err(Failure::Memory { .. })), "{bytes:?}");
        }
    }

    #[test]
    fn lent_memory_is_never_freed() {
        let mut own = [1.5f32; 4];
        let start = own.as_mut_ptr().cast::<u8>();
        lend(start, 16).unwrap();
        assert!(lend(start, 16).is_err());
        free(start);
        assert_eq!(find("values", start).unwrap().slice::<f32>("values", 4).unwrap(), own);
        give_back(start).unwrap();
        assert!(give_back(start).is_err());
        assert!(lend(start.wrapping_add(1), 8).is_err());
    }

    #[test]
    fn a_memo_is_made_once_per_key() {
        let memo = Memo::default();
        assert_eq!(*memo.get(1, || Ok(10)).unwrap(), 10);
        assert_eq!(*memo.get(1, || Ok(11)).unwrap(), 10);
        assert_eq!(*memo.get(2, || Ok(12)).unwrap(), 12);
        assert!(memo.get::<i32>(3, || Err(Failure::Null("x"))).is_err());
        assert_eq!(*memo.get(2, || Ok(13)).unwrap(), 13, "a failure forgets");
    }
}
