//! Element types of files.

use std::any::TypeId;
use std::fmt;
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

/// One decoded element, exactly as the file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Element {
    Float(f64),
    Integer(i64),
    /// An integer above the largest `i64`.
    Large(u64),
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Plain digits where a few of them suffice.
            Self::Float(value) if *value != 0.0 && !(1e-4..1e7).contains(&value.abs()) => {
                write!(f, "{value:e}")
            }
            Self::Float(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Large(value) => value.fmt(f),
        }
    }
}

impl From<u64> for Element {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::Large(value), Self::Integer)
    }
}

impl Element {
    /// As a `V`: a float rounded to the nearest one, an integer exactly.
    ///
    /// # Errors
    /// When a finite number becomes infinite, or `V` cannot hold an integer exactly.
    #[inline]
    pub(super) fn to_value<V: Value>(self) -> Result<V, String> {
        let (rounded, exact) = match self {
            Self::Float(value) => {
                let rounded = V::from_f64(value);
                (rounded, !value.is_finite() || rounded.to_f64().is_finite())
            }
            // Rounding to f64 first cannot hide a loss: beyond 2^53, where it begins, the result is compared with
            // the integer itself. The cast back saturates, so the end of the range needs a wider type.
            Self::Integer(value) => {
                let (wide, rounded) = (value as f64, V::from_f64(value as f64));
                let same = if value.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS {
                    rounded.to_f64() == wide
                } else {
                    rounded.to_f64() as i128 == i128::from(value)
                };
                (rounded, same)
            }
            Self::Large(value) => {
                let rounded = V::from_f64(value as f64);
                (rounded, rounded.to_f64() as i128 == i128::from(value))
            }
        };
        if exact {
            return Ok(rounded);
        }
        let name = Number::of::<V>();
        Err(match self {
            Self::Integer(_) | Self::Large(_) if rounded.to_f64().is_finite() => {
                format!("{self} is too large for {name} to hold it exactly")
            }
            _ => format!("{self} is too large for {name}"),
        })
    }

    /// As an integer.
    ///
    /// # Errors
    /// When it is a fraction, infinite, NaN, or outside the range of `T`.
    pub(super) fn to_integer<T: TryFrom<i128>>(self) -> Result<T, String> {
        let wide = match self {
            Self::Integer(value) => value.into(),
            Self::Large(value) => value.into(),
            // Floats of this size and more may be beyond what `i128` holds; no integer type here is as wide.
            Self::Float(value) if value.fract() == 0.0 && value.abs() < 1e30 => value as i128,
            Self::Float(_) => return Err(format!("{self} is not an integer")),
        };
        T::try_from(wide).map_err(|_| {
            let name = std::any::type_name::<T>();
            format!("{self} is outside the range of {name}")
        })
    }
}

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

    /// The element type as safetensors names it.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Bool => Dtype::BOOL,
            Self::I8 => Dtype::I8,
            Self::I16 => Dtype::I16,
            Self::I32 => Dtype::I32,
            Self::I64 => Dtype::I64,
            Self::U8 => Dtype::U8,
            Self::U16 => Dtype::U16,
            Self::U32 => Dtype::U32,
            Self::U64 => Dtype::U64,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
            Self::F32 => Dtype::F32,
            Self::F64 => Dtype::F64,
        }
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

    /// Decodes whole elements; `place` gets position and element. The position of the first is 0.
    #[inline]
    fn each(
        self,
        bytes: &[u8],
        big_endian: bool,
        mut place: impl FnMut(usize, Element) -> Result<(), String>,
    ) -> Result<(), (usize, String)> {
        macro_rules! decode {
            ($type:ty, $to:expr) => {{
                let order: fn(_) -> $type =
                    if big_endian { <$type>::from_be_bytes } else { <$type>::from_le_bytes };
                let elements = bytes.as_chunks::<{ size_of::<$type>() }>().0;
                for (position, &element) in elements.iter().enumerate() {
                    place(position, $to(order(element))).map_err(|problem| (position, problem))?;
                }
            }};
        }
        let integer = Element::Integer;
        match self {
            Self::Bool => decode!(u8, |v| integer(i64::from(v != 0))),
            Self::I8 => decode!(i8, |v| integer(i64::from(v))),
            Self::I16 => decode!(i16, |v| integer(i64::from(v))),
            Self::I32 => decode!(i32, |v| integer(i64::from(v))),
            Self::I64 => decode!(i64, integer),
            Self::U8 => decode!(u8, |v| integer(i64::from(v))),
            Self::U16 => decode!(u16, |v| integer(i64::from(v))),
            Self::U32 => decode!(u32, |v| integer(i64::from(v))),
            Self::U64 => decode!(u64, Element::from),
            Self::F16 => decode!(f16, |v: f16| Element::Float(v.to_f64())),
            Self::Bf16 => decode!(bf16, |v: bf16| Element::Float(v.to_f64())),
            Self::F32 => decode!(f32, |v| Element::Float(f64::from(v))),
            Self::F64 => decode!(f64, Element::Float),
        }
        Ok(())
    }

    /// Reads `count` elements; `place` gets each one's position and the element.
    pub(super) fn read_elements(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        count: usize,
        mut place: impl FnMut(usize, Element) -> Result<(), String>,
    ) -> Result<(), Trouble> {
        let (mut done, size) = (0, self.bytes());
        let mut buffer = vec![0; CHUNK.min(count.saturating_mul(size))];
        while done < count {
            let length = (count - done).min(CHUNK / size);
            let chunk = &mut buffer[..length * size];
            reader.read_exact(chunk).map_err(Trouble::Io)?;
            self.each(chunk, big_endian, |position, element| place(done + position, element))
                .map_err(|(position, problem)| Trouble::At { position: done + position, problem })?;
            done += length;
        }
        Ok(())
    }

    /// Reads `count` elements and gives each, as a `V`, to `place`: floats rounded, integers exact.
    pub(super) fn read<V: Value>(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        count: usize,
        mut place: impl FnMut(V),
    ) -> Result<(), Trouble> {
        self.read_elements(reader, big_endian, count, |_, element| element.to_value().map(&mut place))
    }

    /// Reads as many elements as `out` has places: floats rounded, integers exact.
    pub(super) fn fill<V: Value>(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        out: &mut [V],
    ) -> Result<(), Trouble> {
        if self == Self::of::<V>() && !big_endian {
            return reader.read_exact(bytemuck::cast_slice_mut(out)).map_err(Trouble::Io);
        }
        self.read_elements(reader, big_endian, out.len(), |position, element| {
            out[position] = element.to_value()?;
            Ok(())
        })
    }

    /// Reads as many integers as `out` has places.
    pub(super) fn fill_integers<T: TryFrom<i128>>(
        self,
        reader: &mut impl Read,
        big_endian: bool,
        out: &mut [T],
    ) -> Result<(), Trouble> {
        self.read_elements(reader, big_endian, out.len(), |position, element| {
            out[position] = element.to_integer()?;
            Ok(())
        })
    }
}

/// As Rust and this program's options write it: `f32`, `i64`, `bool`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
            Self::U64 => "u64",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// Why elements cannot be read.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(std::io::Error),
    /// Something is wrong with one element.
    At {
        position: usize,
        problem: String,
    },
    /// Something is wrong with the array.
    Whole(String),
}

impl Trouble {
    pub(super) fn at(self, path: &std::path::Path, what: &str) -> super::FileError {
        match self {
            Self::Io(error) => super::FileError::io(path, format!("read {what}"))(error),
            Self::At { position, problem } => {
                super::FileError::tensor(path, what, format!("element {position}: {problem}"))
            }
            Self::Whole(problem) => super::FileError::tensor(path, what, problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_exact_or_refused() {
        let edge = 1i64 << 53;
        for value in [0, -1, edge, -edge, edge + 2, i64::MIN, i64::MAX - 1023] {
            assert_eq!(Element::Integer(value).to_value::<f64>().unwrap() as i128, value.into());
        }
        for value in [edge + 1, -edge - 1, i64::MAX, i64::MAX - 1] {
            let error = Element::Integer(value).to_value::<f64>().unwrap_err();
            assert_eq!(error, format!("{value} is too large for f64 to hold it exactly"));
        }
        assert_eq!(Element::Large(1 << 63).to_value::<f64>().unwrap(), 2f64.powi(63));
        assert!(Element::Large(u64::MAX).to_value::<f64>().is_err());
        assert!(Element::Integer(1 << 24).to_value::<f32>().is_ok());
        assert!(Element::Integer((1 << 24) + 1).to_value::<f32>().is_err());
        let error = Element::Integer(65_520).to_value::<f16>().unwrap_err();
        assert_eq!(error, "65520 is too large for f16");
    }

    #[test]
    fn floats_are_rounded_and_never_become_infinite() {
        assert_eq!(Element::Float(0.1).to_value::<f32>().unwrap(), 0.1);
        assert_eq!(Element::Float(f64::INFINITY).to_value::<f32>().unwrap(), f32::INFINITY);
        assert!(Element::Float(f64::NAN).to_value::<f16>().unwrap().is_nan());
        assert_eq!(Element::Float(1e39).to_value::<f32>().unwrap_err(), "1e39 is too large for f32");
    }

    #[test]
    fn integral_floats_are_integers() {
        assert_eq!(Element::Float(7.0).to_integer::<u32>().unwrap(), 7);
        assert_eq!(Element::Float(-0.0).to_integer::<u32>().unwrap(), 0);
        assert_eq!(Element::Float(1.5).to_integer::<u32>().unwrap_err(), "1.5 is not an integer");
        assert_eq!(Element::Float(f64::NAN).to_integer::<i64>().unwrap_err(), "NaN is not an integer");
        let error = Element::Integer(-1).to_integer::<u32>().unwrap_err();
        assert_eq!(error, "-1 is outside the range of u32");
        assert_eq!(Element::Large(u64::MAX).to_integer::<u64>().unwrap(), u64::MAX);
        assert!(Element::Large(u64::MAX).to_integer::<i64>().is_err());
    }
}
