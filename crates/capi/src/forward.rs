//! Forwards of the layers of C.

use std::ffi::c_int;
use std::sync::{Mutex, PoisonError};

use residua::cpu::{CpuBackend, CpuOptions};
use residua::memory::Budget;

use crate::checked::{Checked, Ortho};
use crate::failure::{Failure, status};
use crate::types::orth_layer_t;

/// The backend, if it has its own threads.
static THREADED: Mutex<Option<CpuBackend>> = Mutex::new(None);

/// Computes output = base * input + alpha * (ortho * input), input [batch, in_features], output
/// [batch, out_features], row-major.
///
/// Each call checks the layer. So changes since the last call take effect, and no content of the struct or its buffers
/// makes this read or write outside of them. It sorts a COO part once, and again after a change.
/// With alpha 0, or an empty sparse part, it does not read the sparse part.
/// Returns 0, or -1 with the output unchanged. The same layer and input give the same bits.
/// Threads: any number at once, also on one layer, if nobody writes to it or its buffers during the calls.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t`; `input` and `output` are NULL or have the numbers of floats above;
/// nobody else writes to any of them, or to the layer's buffers, during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_forward(
    layer: *const orth_layer_t,
    input: *const f32,
    output: *mut f32,
    batch_size: usize,
) -> c_int {
    status(|| {
        // SAFETY: the caller's promise.
        let (layer, checked) = unsafe { check(layer) }?;
        // SAFETY: the caller's promise.
        let (x, y) = unsafe { vectors(checked.shape(), input, output, batch_size) }?;
        let (cpu, base) = (cpu()?, checked.base()?);
        let ortho = if checked.alpha == 0.0 { None } else { Ortho::new(&layer)? };
        let Some(ortho) = ortho else {
            return Ok(cpu.forward_borrowed(&base, None, 0.0, batch_size, x, y)?);
        };
        ortho.with_csr(|csr| Ok(cpu.forward_borrowed(&base, Some(csr), checked.alpha, batch_size, x, y)?))
    })
}

/// Does the checks of orth_layer_forward without running the layer. It checks the sparse part for every alpha.
///
/// Returns 0 if the layer would run, else -1; orth_last_error states what is wrong and where.
/// Threads: as orth_layer_forward.
///
/// # Safety
/// `layer` is NULL or points to an `orth_layer_t`; nobody writes to it, or to its buffers, during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_validate(layer: *const orth_layer_t) -> c_int {
    status(|| {
        // SAFETY: the caller's promise.
        let (layer, _) = unsafe { check(layer) }?;
        match Ortho::new(&layer)? {
            Some(ortho) => ortho.with_csr(|_| Ok(())),
            None => Ok(()),
        }
    })
}

/// Sets the number of threads of a forward, for all layers; 0 uses all threads of the machine.
///
/// The default is 1: the calling thread. The number does not change results. Returns 0, or -1 if the threads cannot
/// start. Threads: any; calls in progress keep their number.
#[unsafe(no_mangle)]
pub extern "C" fn orth_set_threads(threads: c_int) -> c_int {
    status(|| {
        let threads = usize::try_from(threads)
            .map_err(|_| Failure::refused(format!("{threads} threads; 0 is as many as there are")))?;
        let cpu = open(threads)?;
        let threaded = (cpu.threads() > 1).then_some(cpu);
        *THREADED.lock().unwrap_or_else(PoisonError::into_inner) = threaded;
        Ok(())
    })
}

fn open(threads: usize) -> Result<CpuBackend, Failure> {
    Ok(CpuBackend::open(&CpuOptions::default().threads(threads), &Budget::unlimited())?)
}

fn cpu() -> Result<CpuBackend, Failure> {
    let threaded = THREADED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // With only the caller's thread there is nothing to start or to keep.
    threaded.map_or_else(|| open(1), Ok)
}

/// A copy of the struct, and its base. The call checks and uses the same copy.
///
/// # Safety
/// `layer` is NULL or valid.
pub(crate) unsafe fn check(layer: *const orth_layer_t) -> Result<(orth_layer_t, Checked), Failure> {
    // SAFETY: the caller's promise.
    let layer = *unsafe { layer.as_ref() }.ok_or(Failure::Null("layer"))?;
    let checked = Checked::new(&layer)?;
    Ok((layer, checked))
}

/// Input and output as slices.
///
/// # Safety
/// The pointers are NULL or have `cols · batch` and `rows · batch` floats that nobody else writes to.
pub(crate) unsafe fn vectors<'a>(
    [rows, cols]: [usize; 2],
    input: *const f32,
    output: *mut f32,
    batch: usize,
) -> Result<(&'a [f32], &'a mut [f32]), Failure> {
    let values = |features: usize| {
        let values =
            features.checked_mul(batch).filter(|&values| values <= isize::MAX as usize / size_of::<f32>());
        values
            .ok_or_else(|| Failure::refused(format!("no memory holds {batch} vectors of {features} values")))
    };
    let (inputs, outputs) = (values(cols)?, values(rows)?);
    if batch == 0 {
        return Ok((&[], &mut []));
    }
    for (what, start) in [("input", input), ("output", output.cast_const())] {
        if start.is_null() {
            return Err(Failure::Null(what));
        }
        if !start.is_aligned() {
            return Err(Failure::refused(format!("{what} is not aligned to 4 bytes")));
        }
    }
    let (x, y) = (input.addr(), output.addr());
    if x < y.saturating_add(outputs * size_of::<f32>()) && y < x.saturating_add(inputs * size_of::<f32>()) {
        return Err(Failure::refused("input and output overlap"));
    }
    // SAFETY: the caller's promise; both are non-NULL and aligned, their sizes do not overflow, they do not overlap.
    unsafe {
        Ok((std::slice::from_raw_parts(input, inputs), std::slice::from_raw_parts_mut(output, outputs)))
    }
}
