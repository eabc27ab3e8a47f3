//! Index types.

use bytemuck::Pod;
use num_traits::{PrimInt, cast};
use rayon::prelude::*;

use crate::error::{FormatError, Result};

/// An index type: `u32`, `i32` or `usize`.
pub trait Index: PrimInt + Pod + Send + Sync + std::fmt::Debug + std::hash::Hash {
    /// Its name, for errors.
    const NAME: &'static str;

    /// `value` as this type; `None` when the type cannot hold it.
    #[inline]
    fn try_from_usize(value: usize) -> Option<Self> {
        cast(value)
    }

    /// `value` as this type.
    ///
    /// # Panics
    /// When the type cannot hold it.
    #[inline]
    fn from_usize(value: usize) -> Self {
        cast(value).unwrap_or_else(|| panic!("index {value} does not fit {}", Self::NAME))
    }

    /// `value` as this type.
    ///
    /// # Errors
    /// When the type cannot hold it. `what` names the count in the error.
    fn checked(value: usize, what: &'static str) -> Result<Self> {
        cast(value).ok_or(FormatError::Overflow { what, found: value as u64, width: Self::NAME })
    }

    /// This index as `usize`; `None` when negative.
    #[inline]
    fn get(self) -> Option<usize> {
        self.to_usize()
    }

    /// This index as `usize`.
    ///
    /// # Panics
    /// When it is negative.
    #[inline]
    fn index(self) -> usize {
        self.to_usize().unwrap_or_else(|| panic!("index {} is negative", self.signed()))
    }

    /// This index as a signed number, for errors.
    fn signed(self) -> i64;
}

macro_rules! index {
    ($($type:ty),*) => {$(
        impl Index for $type {
            const NAME: &'static str = stringify!($type);
            fn signed(self) -> i64 {
                self as i64
            }
        }
    )*};
}

index!(u32, i32, usize);

/// The position of the first index that is negative or not below `bound`.
pub(crate) fn first_outside<I: Index>(indices: &[I], bound: usize) -> Option<usize> {
    /// The loop looks at whole chunks without leaving early, so that it vectorises.
    const CHUNK: usize = 1 << 13;
    if bound == 0 {
        return (!indices.is_empty()).then_some(0);
    }
    // A bound beyond the range of the type admits every index that is not negative.
    let last = I::try_from_usize(bound - 1).unwrap_or(I::max_value());
    let outside = |index: I| (index < I::zero()) | (index > last);
    let any = |chunk: &[I]| chunk.iter().fold(false, |any, &index| any | outside(index));
    let first = indices.par_chunks(CHUNK).position_first(any)? * CHUNK;
    indices[first..].iter().position(|&index| outside(index)).map(|at| first + at)
}
