//! Element types of files.

use std::any::TypeId;
use std::io::Read;

use half::{bf16, f16};
use safetensors::Dtype;

use crate::Value;

/// An element type that converts to a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    Bf16,
    F32,
    F64,
}

/// Bytes read at a time; a multiple of every element's size.
const CHUNK: usize = 64 << 10;

impl Number {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 | Self::Bf16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    pub(super) fn is_integer(self) -> bool {
        !matches!(self, Self::Bool | Self::F16 | Self::Bf16 | Self::F32 | Self::F64)
    }

    pub(super) fn from_dtype(dtype: Dtype) -> Option<Self> {
        Some(match dtype {
            Dtype::BOOL => Self::Bool,
            Dtype::I8 => Self::I8,
            Dtype::I16 => Self::I16,
            Dtype::I32 => Self::I32,
            Dtype::I64 => Self::I64,
            Dtype::U8 => Self::U8,
            Dtype::U16 => Self::U16,
            Dtype::U32 => Self::U32,
            Dtype::U64 => Self::U64,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::Bf16,
            Dtype::F32 => Self::F32,
            Dtype::F64 => Self::F64,
            _ => return None,
        })
    }

    /// The element type of a [`Value`].
    pub(super) fn of<V: Value>() -> Self {
        let id = TypeId::of::<V>();
        if id == TypeId::of::<f16>() {
            Self::F16
        } else if id == TypeId::of::<bf16>() {
            Self::Bf16
        } else if id == TypeId::of::<f32>() {
            Self::F32
        } else {
            Self::F64
        }
    }

    /// The element type of a float in safetensors.
    pub(super) fn float_dtype(self) -> Dtype {
        match self {
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
            _ => Dtype::F64,
        }
    }

    /// Decodes whole elements. `place` gets the value of each as `f64` (exact for all but 64-bit integers above 2⁵³)
    /// and says whether to go on.
    fn each(self, bytes: &[u8], big_endian: bool, place: impl FnMut(f64) -> bool) -> bool {
        macro_rules! decode {
            ($type:ty, $to:expr) => {{
                let (order, mut place): (fn(_) -> $type, _) =
                    (if big_endian { <$type>::from_be_bytes } else { <$type>::from_le_bytes }, place);
                let elements = bytes.as_chunks::<{ size_of::<$type>() }>().0;
                elements.iter().all(|&element| place($to(order(element))))
            }};
        }
        match self {
            Self::Bool => decode!(u8, |v| f64::from(v != 0)),
            Self::I8 => decode!(i8, f64::from),
            Self::I16 => decode!(i16, f64::from),
            Self::I32 => decode!(i32, f64::from),
            Self::I64 => decode!(i64, |v| v as f64),
            Self::U8 => decode!(u8, f64::from),
            Self::U16 => decode!(u16, f64::from),
            Self::U32 => decode!(u32, f64::from),
            Self::U64 => decode!(u64, |v| v as f64),
            Self::F16 => decode!(f16, f16::to_f64),
            Self::Bf16 => decode!(bf16, bf16::to_f64),
            Self::F32 => decode!(f32, f64::from),
            Self::F64 => decode!(f64, |v| v),
        }
    }

    /// Reads `count` elements, rounds each to `V` and calls `place` with it.
    pub(super) fn read<V: Value>(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        count: usize,
        mut place: impl FnMut(V),
    ) -> Result<(), Trouble> {
        let mut position = 0;
        self.chunks(reader, count, |bytes| {
            let mut lost = None;
            let whole = self.each(bytes, big_endian, |value| {
                let rounded = V::from_f64(value);
                if value.is_finite() && !rounded.to_f64().is_finite() {
                    lost = Some(value);
                    return false;
                }
                position += 1;
                place(rounded);
                true
            });
            match lost {
                Some(value) if !whole => Err(Trouble::At {
                    position,
                    problem: format!("{value:e} is too large for {}", std::any::type_name::<V>()),
                }),
                _ => Ok(()),
            }
        })
    }

    /// Reads `count` elements of an integer type. `place` gets position and value.
    pub(super) fn read_integers(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        count: usize,
        mut place: impl FnMut(usize, i64) -> Result<(), String>,
    ) -> Result<(), Trouble> {
        let mut position = 0;
        self.chunks(reader, count, |bytes| {
            for element in bytes.chunks_exact(self.bytes()) {
                let mut wide = [0; 8];
                wide[..element.len()].copy_from_slice(element);
                if big_endian {
                    wide[..element.len()].reverse();
                }
                let unsigned = u64::from_le_bytes(wide);
                // Signed types: move the sign bit to the top and back.
                let shift = 64 - 8 * element.len() as u32;
                let value = match self {
                    Self::I8 | Self::I16 | Self::I32 | Self::I64 => ((unsigned << shift) as i64) >> shift,
                    _ => i64::try_from(unsigned).unwrap_or(i64::MAX),
                };
                place(position, value).map_err(|problem| Trouble::At { position, problem })?;
                position += 1;
            }
            Ok(())
        })
    }

    fn chunks(
        self,
        reader: &mut impl Read,
        count: usize,
        mut decode: impl FnMut(&[u8]) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        let mut left = count * self.bytes();
        let mut buffer = vec![0; CHUNK.min(left)];
        while left > 0 {
            let chunk = &mut buffer[..CHUNK.min(left)];
            reader.read_exact(chunk).map_err(Trouble::Io)?;
            decode(chunk)?;
            left -= chunk.len();
        }
        Ok(())
    }
}

/// Why elements cannot be read.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(std::io::Error),
    At { position: usize, problem: String },
}

impl Trouble {
    pub(super) fn at(self, path: &std::path::Path, what: &str) -> super::FileError {
        match self {
            Self::Io(error) => super::FileError::io(path, format!("read {what}"))(error),
            Self::At { position, problem } => {
                super::FileError::tensor(path, what, format!("element {position}: {problem}"))
            }
        }
    }
}
