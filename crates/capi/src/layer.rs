//! The layers of C: init, fill, free.

use std::ffi::c_int;

use crate::buffer::{allocate, free, publish};
use crate::failure::{Failure, guard, status};
use crate::types::{
    ORTH_FORMAT_COO, ORTH_FORMAT_COO32, ORTH_FORMAT_CSR, orth_base_t, orth_layer_t, orth_ortho_t,
};

/// Elements that 16-bit flat indices reach.
pub(crate) const COO_REACH: usize = 1 << 16;

/// Sets a layer up: zeroed codes and scales, no sparse part, alpha 1.
///
/// The call does not read the struct; free an initialised layer before you initialise it again.
/// Returns 0, or -1 (q_bits other than 4 or 8, a size of 0, out of memory) with the struct unchanged.
/// Threads: any, on different layers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_init(
    layer: *mut orth_layer_t,
    in_features: usize,
    out_features: usize,
    q_bits: c_int,
) -> c_int {
    status(|| {
        not_null(layer)?;
        if in_features == 0 || out_features == 0 {
            return Err(Failure::refused(format!(
                "a layer of {out_features} x {in_features} features is empty"
            )));
        }
        let codes = allocate("base.q_weight", code_bytes(in_features, out_features, q_bits)?)?;
        let scales = allocate("base.q_scales", out_features.checked_mul(size_of::<f32>()))?;
        let base = orth_base_t {
            q_weight: publish(codes),
            q_scales: publish(scales),
            q_bits,
            in_features,
            out_features,
        };
        // SAFETY: the caller's promise.
        unsafe { layer.write(orth_layer_t { base, ortho: orth_ortho_t::default(), alpha: 1.0 }) };
        Ok(())
    })
}

/// Frees all buffers of a layer and empties the struct.
///
/// Does nothing to NULL, to a layer that is freed already, and to pointers that are not this library's.
/// Threads: any; a forward that still runs on the layer finishes on the old buffers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_free(layer: *mut orth_layer_t) {
    guard((), || {
        if layer.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's promise. It may hold garbage: we look pointers up and do not follow them.
        let old = unsafe { layer.replace(orth_layer_t::default()) };
        free(old.base.q_weight);
        free(old.base.q_scales);
        free_ortho(&old.ortho);
        Ok(())
    });
}

/// Sets alpha: 1 is the whole model, 0 the dense part alone. Does nothing to NULL.
///
/// Threads: the same as writing the field yourself.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_set_alpha(layer: *mut orth_layer_t, alpha: f32) {
    if !layer.is_null() {
        // SAFETY: the caller's promise.
        unsafe { (*layer).alpha = alpha };
    }
}

/// Gives a layer a sparse part of `count` values at 16-bit flat indices, zeroed, for you to fill.
///
/// It refuses layers of more than 65,536 elements, because their indices do not fit: use
/// orth_layer_alloc_ortho_csr or orth_layer_alloc_ortho_coo32. Values may come in any order; values at one place are
/// summed. If it succeeds, it frees an earlier sparse part. count 0 is an empty sparse part.
/// Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_alloc_ortho(layer: *mut orth_layer_t, count: usize) -> c_int {
    status(|| {
        not_null(layer)?;
        // SAFETY: the caller's promise.
        let base = unsafe { (*layer).base };
        check_coo_reach(base.in_features, base.out_features)?;
        let number = number_of_values(count)?;
        let indices = allocate("ortho.indices", count.checked_mul(size_of::<u16>()))?;
        let values = allocate("ortho.values", count.checked_mul(size_of::<f32>()))?;
        let (indices, values) = (publish(indices), publish(values));
        let format = ORTH_FORMAT_COO;
        let ortho =
            orth_ortho_t { indices, values, count: number, capacity: count, format, ..Default::default() };
        // SAFETY: the caller's promise.
        unsafe { replace_ortho(layer, ortho) };
        Ok(())
    })
}

/// Gives a layer a sparse part of `nnz` values in compressed sparse rows, zeroed, for you to fill.
///
/// out_features is the layer's. row_ptr has out_features + 1 elements, col_indices and values have nnz each. Columns
/// of a row may come in any order; values at one place are summed. If it succeeds, it frees an earlier sparse part.
/// nnz 0 is an empty sparse part.
/// Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_alloc_ortho_csr(
    layer: *mut orth_layer_t,
    nnz: usize,
    out_features: usize,
) -> c_int {
    let pointers = out_features.checked_add(1);
    // SAFETY: the caller's promise.
    unsafe { alloc_rows(layer, nnz, pointers, ORTH_FORMAT_CSR) }
}

/// Gives a layer of any size a sparse part of `count` values at (row, column) pairs, zeroed, for you to fill.
///
/// row_ptr holds the row of each value, col_indices its column, count elements each (format ORTH_FORMAT_COO32).
/// Values may come in any order; values at one place are summed. If it succeeds, it frees an earlier sparse part.
/// Returns 0, or -1 with the layer unchanged. Threads: any, on different layers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_alloc_ortho_coo32(layer: *mut orth_layer_t, count: usize) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { alloc_rows(layer, count, Some(count), ORTH_FORMAT_COO32) }
}

/// Frees the sparse part of a layer, of any format. Then the layer is the dense part alone.
///
/// Does nothing to NULL, to a part that is freed already, and to pointers that are not this library's.
/// Threads: any; a forward that still runs on the layer finishes on the old buffers.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t` that nobody else uses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_free_ortho(layer: *mut orth_layer_t) {
    guard((), || {
        if !layer.is_null() {
            // SAFETY: the caller's promise.
            unsafe { replace_ortho(layer, orth_ortho_t::default()) };
        }
        Ok(())
    });
}

/// # Safety
/// `layer` is NULL or valid.
unsafe fn alloc_rows(
    layer: *mut orth_layer_t,
    count: usize,
    pointers: Option<usize>,
    format: c_int,
) -> c_int {
    status(|| {
        not_null(layer)?;
        let number = number_of_values(count)?;
        let row_ptr = allocate("ortho.row_ptr", pointers.and_then(|len| len.checked_mul(size_of::<i32>())))?;
        let columns = allocate("ortho.col_indices", count.checked_mul(size_of::<i32>()))?;
        let values = allocate("ortho.values", count.checked_mul(size_of::<f32>()))?;
        let ortho = orth_ortho_t {
            row_ptr: publish(row_ptr),
            col_indices: publish(columns),
            values: publish(values),
            count: number,
            capacity: count,
            format,
            ..Default::default()
        };
        // SAFETY: the caller's promise.
        unsafe { replace_ortho(layer, ortho) };
        Ok(())
    })
}

/// # Safety
/// `layer` is valid.
unsafe fn replace_ortho(layer: *mut orth_layer_t, ortho: orth_ortho_t) {
    // SAFETY: the caller's promise. It may hold garbage: we look pointers up and do not follow them.
    let old = unsafe { (&raw mut (*layer).ortho).replace(ortho) };
    free_ortho(&old);
}

fn free_ortho(ortho: &orth_ortho_t) {
    free(ortho.row_ptr);
    free(ortho.col_indices);
    free(ortho.values);
    free(ortho.indices);
}

fn not_null(layer: *const orth_layer_t) -> Result<(), Failure> {
    if layer.is_null() { Err(Failure::Null("layer")) } else { Ok(()) }
}

/// Bytes of the codes of a base; `None` if the number overflows.
pub(crate) fn code_bytes(
    in_features: usize,
    out_features: usize,
    q_bits: c_int,
) -> Result<Option<usize>, Failure> {
    let codes = in_features.checked_mul(out_features);
    match q_bits {
        4 => Ok(codes.map(|codes| codes.div_ceil(2))),
        8 => Ok(codes),
        other => Err(Failure::refused(format!("q_bits is {other}; there are 4 and 8"))),
    }
}

/// Checks that 16-bit flat indices reach every element.
pub(crate) fn check_coo_reach(in_features: usize, out_features: usize) -> Result<(), Failure> {
    match in_features.checked_mul(out_features) {
        Some(elements) if elements <= COO_REACH => Ok(()),
        _ => Err(Failure::refused(format!(
            "16-bit COO indices reach {COO_REACH} elements, the layer has {out_features} x {in_features}: use \
             orth_layer_alloc_ortho_csr, or orth_layer_alloc_ortho_coo32"
        ))),
    }
}

fn number_of_values(count: usize) -> Result<c_int, Failure> {
    c_int::try_from(count)
        .map_err(|_| Failure::refused(format!("{count} values; the maximum is {}", c_int::MAX)))
}
