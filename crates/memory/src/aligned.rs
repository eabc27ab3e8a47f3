//! Buffers aligned to two cache lines.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

/// Alignment in bytes of every [`AlignedVec`] and of every plane in a file.
pub const ALIGNMENT: usize = 128;

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(128))]
struct Line([u8; ALIGNMENT]);

/// A growable vector of plain values that starts at a 128-byte boundary.
///
/// It consists of whole 128-byte lines, so it needs no unsafe code. Bytes between the last element and the end of its
/// line are zero or stale, never uninitialised.
#[derive(Clone)]
pub struct AlignedVec<T> {
    lines: Vec<Line>,
    len: usize,
    marker: std::marker::PhantomData<T>,
}

impl<T: Pod> AlignedVec<T> {
    const ELEMENT_DIVIDES_LINE: () = assert!(size_of::<T>() > 0 && ALIGNMENT.is_multiple_of(size_of::<T>()));

    /// An empty vector; allocates nothing.
    pub fn new() -> Self {
        const { Self::ELEMENT_DIVIDES_LINE };
        Self { lines: Vec::new(), len: 0, marker: std::marker::PhantomData }
    }

    /// An empty vector with room for `capacity` elements.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut new = Self::new();
        new.lines.reserve_exact(lines::<T>(capacity));
        new
    }

    /// `len` zeroed elements.
    pub fn zeroed(len: usize) -> Self {
        const { Self::ELEMENT_DIVIDES_LINE };
        // `vec!` is not specialised for zeros of this type. `zeroed_vec` takes the allocator's zero pages, so
        // untouched parts cost nothing.
        let lines = bytemuck::allocation::zeroed_vec(lines::<T>(len));
        Self { lines, len, marker: std::marker::PhantomData }
    }

    /// A copy of `values`.
    pub fn from_slice(values: &[T]) -> Self {
        let mut new = Self::with_capacity(values.len());
        new.extend_from_slice(values);
        new
    }

    /// Appends one element.
    pub fn push(&mut self, value: T) {
        if self.len == self.lines.len() * per_line::<T>() {
            self.lines.push(Line::zeroed());
        }
        self.len += 1;
        let last = self.len - 1;
        self[last] = value;
    }

    /// Appends all of `values`.
    pub fn extend_from_slice(&mut self, values: &[T]) {
        let start = self.len;
        self.resize(start + values.len());
        self[start..].copy_from_slice(values);
    }

    /// Changes the length. New elements are unspecified values (zero when freshly allocated).
    pub fn resize(&mut self, len: usize) {
        let needed = lines::<T>(len);
        if needed > self.lines.len() {
            self.lines.resize(needed, Line::zeroed());
        }
        self.len = len;
    }

    /// Gives unused capacity back to the allocator.
    pub fn shrink_to_fit(&mut self) {
        self.lines.truncate(lines::<T>(self.len));
        self.lines.shrink_to_fit();
    }

    /// The elements as bytes, in native order.
    pub fn as_bytes(&self) -> &[u8] {
        bytemuck::cast_slice(self)
    }

    /// The elements as bytes that can be written to, in native order.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(self)
    }

    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> usize {
        self.lines.capacity() * ALIGNMENT
    }
}

const fn per_line<T>() -> usize {
    ALIGNMENT / size_of::<T>()
}

fn lines<T>(len: usize) -> usize {
    len.div_ceil(per_line::<T>())
}

impl<T: Pod> Default for AlignedVec<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Pod> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}

impl<T: Pod> From<&[T]> for AlignedVec<T> {
    fn from(values: &[T]) -> Self {
        Self::from_slice(values)
    }
}

impl<T: Pod> From<Vec<T>> for AlignedVec<T> {
    fn from(values: Vec<T>) -> Self {
        Self::from_slice(&values)
    }
}

impl<T: Pod> FromIterator<T> for AlignedVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        let iter = iter.into_iter();
        let mut new = Self::with_capacity(iter.size_hint().0);
        iter.for_each(|value| new.push(value));
        new
    }
}

impl<T: Pod + PartialEq> PartialEq for AlignedVec<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Pod + fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_vector(values in prop::collection::vec(any::<u32>(), 0..400), cut in 0usize..400) {
            let pushed: AlignedVec<u32> = values.iter().copied().collect();
            let mut copied = AlignedVec::from_slice(&values);
            prop_assert_eq!(&*pushed, &*values);
            prop_assert_eq!(&pushed, &copied);
            prop_assert_eq!(pushed.as_ptr() as usize % ALIGNMENT, 0);
            copied.resize(cut.min(values.len()));
            copied.shrink_to_fit();
            prop_assert_eq!(&*copied, &values[..cut.min(values.len())]);
            prop_assert_eq!(copied.as_bytes().len(), copied.len() * 4);
        }
    }

    #[test]
    fn zeroed_is_zero_and_aligned() {
        let zeros = AlignedVec::<f32>::zeroed(1000);
        assert!(zeros.iter().all(|&v| v == 0.0));
        assert_eq!(zeros.as_ptr() as usize % ALIGNMENT, 0);
        assert!(AlignedVec::<u8>::new().is_empty());
    }
}
