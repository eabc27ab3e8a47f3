//! The elements of the four value planes.

use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::base::{code_i8, scale_i8};
use crate::{Value, ValueType};

/// An element of a value plane.
pub(super) trait Stored: Pod + Send + Sync {
    const TYPE: ValueType;

    /// The f32 of a source value, for [`store`](Self::store) to round.
    fn prepare<V: Value>(value: V) -> f32 {
        value.to_f32()
    }

    /// Whether a prepared value is finite after storing.
    fn fits(value: f32) -> bool {
        value.is_finite()
    }

    /// Stores one row of prepared values and returns the row's scale, if the type has scales. `None` when a value is
    /// not finite, before or after storing.
    fn store(values: &[f32], out: &mut [Self]) -> Option<f32>;

    /// The values of one row.
    fn load(values: &[Self], scale: f32, out: &mut [f32]);
}

impl Stored for f32 {
    const TYPE: ValueType = ValueType::F32;

    fn store(values: &[f32], out: &mut [Self]) -> Option<f32> {
        out.copy_from_slice(values);
        all(values, |value| value.is_finite())
    }

    fn load(values: &[Self], _: f32, out: &mut [f32]) {
        out.copy_from_slice(values);
    }
}

macro_rules! sixteen_bit {
    ($($type:ty: $name:expr),*) => {$(
        impl Stored for $type {
            const TYPE: ValueType = $name;

            fn prepare<V: Value>(value: V) -> f32 {
                value.to_f32_for_rounding()
            }

            fn fits(value: f32) -> bool {
                <$type>::from_f32(value).is_finite()
            }

            fn store(values: &[f32], out: &mut [Self]) -> Option<f32> {
                out.convert_from_f32_slice(values);
                all(out, |value| value.is_finite())
            }

            fn load(values: &[Self], _: f32, out: &mut [f32]) {
                values.convert_to_f32_slice(out);
            }
        }
    )*};
}

sixteen_bit!(f16: ValueType::F16, bf16: ValueType::Bf16);

impl Stored for i8 {
    const TYPE: ValueType = ValueType::I8;

    fn store(values: &[f32], out: &mut [Self]) -> Option<f32> {
        let scale = scale_i8(values)?;
        code_i8(values, scale, out);
        Some(scale)
    }

    fn load(values: &[Self], scale: f32, out: &mut [f32]) {
        out.iter_mut().zip(values).for_each(|(out, &code)| *out = f32::from(code) * scale);
    }
}

/// An unused scale when all values pass. The loop looks at every value, so that it vectorises.
fn all<T: Copy>(values: &[T], passes: impl Fn(T) -> bool) -> Option<f32> {
    values.iter().fold(true, |all, &value| all & passes(value)).then_some(1.0)
}
