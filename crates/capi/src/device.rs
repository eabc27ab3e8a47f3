//! The seed's CUDA entry points.

use std::ffi::c_int;
use std::hash::Hasher;
use std::sync::{Arc, Mutex, PoisonError};

use residua::backend::{AnyBackend, AnyBase, AnyMatrix, VectorShape};
use residua::format::{BaseKind, Coo, QuantizedBase};
use residua::memory::AlignedVec;
use residua::{Budget, Device};
use twox_hash::XxHash3_64;

use crate::checked::{Checked, Ortho};
use crate::failure::{Failure, guard, status};
use crate::forward::{check, vectors};
use crate::triplets::Triplet;
use crate::types::orth_layer_t;

/// The CUDA backend, opened once. It does not cache a failure: a driver may be installed later.
static CUDA: Mutex<Option<Device>> = Mutex::new(None);

/// orth_layer_forward on an NVIDIA GPU; input and output are ordinary memory of this process.
///
/// It converts compressed rows or COO once, and keeps them on the device until you change the layer.
/// Returns 0, or -1 with the output unchanged if this build or this machine has no CUDA; orth_last_error states
/// which, and what to install. It never falls back to the CPU. Scales must not be negative here.
/// Threads: as orth_layer_forward.
///
/// # Safety
/// As orth_layer_forward.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn orth_layer_forward_cuda(
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
        forward_on(cuda()?.backend(), &layer, &checked, batch_size, x, y)
    })
}

/// Whether the GPU that orth_layer_forward_cuda uses has tensor cores: compute capability 7.0 or newer.
///
/// False if this build or this machine has no CUDA; orth_last_error states which. It describes only the hardware:
/// sparse products do not use tensor cores. Threads: any.
#[unsafe(no_mangle)]
pub extern "C" fn check_tensor_core_support() -> bool {
    guard(false, || {
        let device = cuda()?.description();
        let capability = capability(&device);
        Ok(capability.ok_or_else(|| Failure::refused(format!("{device}: no compute capability")))? >= 70)
    })
}

/// 10 · major + minor, from `sm_90` in a device's description.
fn capability(device: &str) -> Option<u32> {
    let (_, number) = device.split_once("sm_")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn cuda() -> Result<Device, Failure> {
    let mut cuda = CUDA.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cuda) = &*cuda {
        return Ok(cuda.clone());
    }
    let opened = Device::open("cuda", &Budget::unlimited())?;
    *cuda = Some(opened.clone());
    Ok(opened)
}

/// A layer on a backend. The buffers cache its operands there.
fn forward_on(
    backend: &AnyBackend,
    layer: &orth_layer_t,
    checked: &Checked,
    batch: usize,
    x: &[f32],
    y: &mut [f32],
) -> Result<(), Failure> {
    if batch == 0 {
        return Ok(());
    }
    let ([rows, cols], ortho) = (checked.shape(), Ortho::new(layer)?);
    let base: Arc<AnyBase> =
        checked.codes.device.get(fingerprint(checked)?, || Ok(backend.upload_base(&repacked(checked)?)?))?;
    let upload = |triplets: Vec<Triplet>| {
        let indices = |of: fn(&Triplet) -> u32| triplets.iter().map(of).collect();
        let values = triplets.iter().map(|triplet| triplet.value).collect();
        let coo =
            Coo::new(rows, cols, indices(|t| t.row), indices(|t| t.col), values).map_err(Failure::Ortho)?;
        Ok(backend.upload_coo(&coo)?)
    };
    let residual: Arc<AnyMatrix> = match &ortho {
        Some(ortho) => ortho.values.device.get(ortho.fingerprint()?, || upload(ortho.triplets()?))?,
        None => Arc::new(upload(Vec::new())?),
    };
    let x = backend.upload_rows(x, VectorShape { len: cols, batch })?;
    let mut on_device = backend.zeros(VectorShape { len: rows, batch })?;
    backend.forward(&base, &residual, checked.alpha, &x, &mut on_device)?;
    Ok(backend.read_rows(&on_device, y)?)
}

fn fingerprint(checked: &Checked) -> Result<u64, Failure> {
    let mut hash = XxHash3_64::new();
    for field in checked.shape() {
        hash.write_usize(field);
    }
    hash.write_i32(checked.base.q_bits);
    hash.write(checked.codes()?);
    hash.write(bytemuck::cast_slice(checked.scales()?));
    Ok(hash.finish())
}

/// The base in the layout of files: every row starts at a whole byte.
fn repacked(checked: &Checked) -> Result<QuantizedBase, Failure> {
    let ([rows, cols], codes) = (checked.shape(), checked.codes()?);
    let kind = if checked.base.q_bits == 4 { BaseKind::Int4 } else { BaseKind::Int8 };
    let mut packed = AlignedVec::from_slice(codes);
    if kind == BaseKind::Int4 && cols % 2 == 1 {
        packed = AlignedVec::zeroed(rows.saturating_mul(kind.row_bytes(cols)));
        for (row, to) in packed.chunks_exact_mut(kind.row_bytes(cols)).enumerate() {
            for col in 0..cols {
                let at = row * cols + col;
                to[col / 2] |= (codes[at / 2] >> (4 * (at % 2)) & 0xF) << (4 * (col % 2));
            }
        }
    }
    let scales = AlignedVec::from_slice(checked.scales()?);
    QuantizedBase::new(rows, cols, kind, packed, scales).map_err(Failure::Base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{orth_layer_alloc_ortho_csr, orth_layer_free, orth_layer_init};

    #[test]
    fn capabilities_are_read() {
        assert_eq!(capability("cuda 0 NVIDIA H100 80GB HBM3, sm_90, driver for 12.4"), Some(90));
        assert_eq!(capability("cuda 0 NVIDIA GeForce GTX 1080, sm_61, driver for 12.4"), Some(61));
        assert_eq!(capability("cpu avx2, 1 thread"), None);
    }

    /// The path to a device, run on the CPU.
    #[test]
    fn a_layer_on_a_backend_is_the_layer() {
        let cpu = Device::open("cpu", &Budget::unlimited()).unwrap();
        for (rows, cols, q_bits) in [(5, 7, 4), (4, 64, 4), (3, 9, 8)] {
            let mut layer = orth_layer_t::default();
            let (x, mut y, mut expected) = (vec![0.5; 2 * cols], vec![0.0; 2 * rows], vec![0.0; 2 * rows]);
            // SAFETY: the test owns the layer; its buffers have the sizes from the calls.
            unsafe {
                assert_eq!(orth_layer_init(&mut layer, cols, rows, q_bits), 0);
                assert_eq!(orth_layer_alloc_ortho_csr(&mut layer, rows, rows), 0);
                for byte in 0..cols * rows * q_bits as usize / 8 {
                    layer.base.q_weight.cast::<u8>().add(byte).write((byte * 37) as u8);
                }
                for row in 0..rows {
                    layer.base.q_scales.cast::<f32>().add(row).write(row as f32);
                    layer.ortho.row_ptr.add(row + 1).write(row as i32 + 1);
                    layer.ortho.values.add(row).write(2.0);
                }
                for alpha in [1.0, 0.0, 0.25] {
                    layer.alpha = alpha;
                    layer.ortho.values.add(1).write(3.0 + alpha);
                    let (copy, checked) = check(&layer).unwrap();
                    forward_on(cpu.backend(), &copy, &checked, 2, &x, &mut y).unwrap();
                    assert_eq!(crate::orth_layer_forward(&layer, x.as_ptr(), expected.as_mut_ptr(), 2), 0);
                    // Halves, small integers and quarters: every sum is exact.
                    assert_eq!(y, expected, "{rows} x {cols}, {q_bits} bits, alpha {alpha}");
                }
                orth_layer_free(&mut layer);
            }
        }
    }
}
