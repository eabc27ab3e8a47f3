//! The numbers that matrices hold.

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
}

macro_rules! native {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn to_f64(self) -> f64 { self as f64 }
            fn from_f64(value: f64) -> Self { value as $type }
            fn to_f32(self) -> f32 { self as f32 }
            fn from_f32(value: f32) -> Self { value as $type }
        }
    )*};
}

macro_rules! sixteen_bit {
    ($($type:ty),*) => {$(
        impl Value for $type {
            fn to_f64(self) -> f64 { <$type>::to_f64(self) }
            fn from_f64(value: f64) -> Self { <$type>::from_f64(value) }
            fn to_f32(self) -> f32 { <$type>::to_f32(self) }
            fn from_f32(value: f32) -> Self { <$type>::from_f32(value) }
        }
    )*};
}

native!(f32, f64);
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

    /// Bytes per value, scales left out.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 => 1,
        }
    }

    /// Its name in files and on the command line.
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
