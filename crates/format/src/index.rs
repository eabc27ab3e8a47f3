//! The integers that may serve as indices.

use bytemuck::Pod;

use crate::error::{FormatError, Result};

/// An index type: `u32`, `i32` or `usize`.
pub trait Index: sprs::SpIndex + Pod + Ord + Send + Sync + std::hash::Hash {
    /// Its name, for errors.
    const NAME: &'static str;

    /// `value` as this type.
    ///
    /// # Errors
    /// When the type cannot hold it; `what` names the count in the error.
    fn checked(value: usize, what: &'static str) -> Result<Self> {
        Self::try_from_usize(value).ok_or(FormatError::Overflow {
            what,
            found: value as u64,
            width: Self::NAME,
        })
    }

    /// This index as `usize`; `None` when negative.
    fn get(self) -> Option<usize> {
        self.try_index()
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
