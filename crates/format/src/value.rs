//! Value types.

use std::fmt::Debug;
use std::ops::AddAssign;

use bytemuck::Pod;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// A matrix value: `f32`, `f64`, `f16` or `bf16`.
pub trait Value: Pod + PartialEq + PartialOrd + AddAssign + Debug + Default + Send + Sync {
    /// As `f64`, exactly.
    fn to_f64(self) -> f64;
    /// The nearest value of this type, ties to even.
    fn from_f64(value: f64) -> Self;
    /// As `f32`; exact for all but `f64`.
    fn to_f32(self) -> f32;
    /// The nearest value of this type, ties to even.
    fn from_f32(value: f32) -> Self;
    /// As `f32`, exact for all but `f64`. An `f64` is rounded in such a way that a second rounding, to a 16-bit type,
    /// gives the value nearest to the `f64`.
    fn to_f32_for_rounding(self) -> f32 {
        self.to_f32()
    }
}

/// Rounds to odd: towards zero, and sets the last bit when anything was cut off. A second rounding to 22 bits or
/// fewer then cannot mistake a near tie for a tie (Boldo and Melquiond, "When double rounding is odd", 2005).
fn round_to_odd(value: f64) -> f32 {
    let nearest = value as f32;
    let exact = f64::from(nearest);
    if exact == value || value.is_nan() {
        return nearest;
    }
    // One step back towards zero where rounding went away from it; infinity steps back to the largest number.
    let cut = nearest.to_bits() - u32::from(exact.abs() > value.abs());
    f32::from_bits(cut | 1)
}

macro_rules! native {
    ($($type:ty { $($more:tt)* })*) => {$(
        impl Value for $type {
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f64(value: f64) -> Self { value as $type }
            fn to_f32(self) -> f32 { self as f32 }
            fn from_f32(value: f32) -> Self { value as $type }
            $($more)*
        }
    )*};
}

macro_rules! sixteen_bit {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn to_f64(self) -> f64 { <$type>::to_f64(self) }
            // Not the type's own `from_f64`: it rounds twice on some processors.
            fn from_f64(value: f64) -> Self { <$type>::from_f32(round_to_odd(value)) }
            fn to_f32(self) -> f32 { <$type>::to_f32(self) }
            fn from_f32(value: f32) -> Self { <$type>::from_f32(value) }
        }
    )*};
}

native! {
    f32 {}
    f64 {
        fn to_f32_for_rounding(self) -> f32 { round_to_odd(self) }
    }
}
sixteen_bit!(f16, bf16);

/// How a value plane stores its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 8-bit integer times an f32 scale per row.
    I8,
}

impl ValueType {
    /// Every value type.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::I8];

    /// Bytes per value, without scales.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }

    /// Its name, as files spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::I8 => "i8",
        }
    }
}

impl std::fmt::Display for ValueType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
