//! Products that the conformance suite does not try: matrices and bases beyond the binding limit, plain CSR, every
//! half, timing, many products in one submission, vectors that are written again. Tests are ignored by name when there
//! is no device.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use residua_backend::reference::{Expected, layer, product, scaled};
use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_wgpu::{WgpuBackend, WgpuOptions, adapters};
use residua_format::{
    BaseKind, Csr, DenseMatrix, DenseValues, GapCsr, GapPattern, QuantizedBase, ValuePlane, ValueType,
    convert,
};
use residua_memory::Budget;

type Outcome = Result<(), Failed>;
/// A test by name.
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let cases: [Case; 12] = [
        ("a matrix in parts", matrix_in_parts),
        ("base and residual in different parts", layer_in_parts),
        ("dense base and residual in different parts", dense_layer_in_parts),
        ("plain CSR", plain_csr),
        ("plain CSR in parts", plain_csr_in_parts),
        ("every half is decoded exactly", every_half),
        ("every half of a dense base is decoded exactly", every_half_of_a_base),
        ("more products than one submission holds", many_products),
        ("kernels timed", timed),
        ("layers that feed each other", chained),
        ("two threads on one device", two_threads),
        ("a vector written between products", written),
    ];
    let none = adapters().is_empty();
    let trials = cases.into_iter().map(|(name, run)| match none {
        true => Trial::test(name, || Ok(())).with_kind("skipped, no adapter").with_ignored_flag(true),
        false => Trial::test(name, run),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn open(change: impl FnOnce(WgpuOptions) -> WgpuOptions) -> Result<WgpuBackend, BackendError> {
    WgpuBackend::open(&change(WgpuOptions::default()), &Budget::unlimited())
}

fn numbers(seed: u32, len: usize) -> Vec<f32> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

/// Rows of very different lengths, some empty, one long enough for segments.
fn matrix(rows: usize, cols: usize) -> Result<Csr<f32, u32>, Failed> {
    let (mut row_ptr, mut columns) = (vec![0], Vec::new());
    for row in 0..rows {
        let step = if row == rows / 3 { 1 } else { [3, 7, 40, 1000, cols][row % 5] };
        if row % 11 != 0 {
            columns.extend((row % 3..cols).step_by(step).map(|column| column as u32));
        }
        row_ptr.push(columns.len() as u32);
    }
    let values = numbers(1, columns.len());
    Ok(Csr::new(rows, cols, row_ptr, columns, values)?)
}

fn agree(what: &str, found: &[f32], expected: &[Expected]) -> Outcome {
    let bad = found.iter().zip(expected).position(|(&found, expected)| !expected.admits(found));
    match bad {
        None if found.len() == expected.len() => Ok(()),
        None => Err(format!("{what}: {} values for {}", found.len(), expected.len()).into()),
        Some(i) => Err(format!("{what}: value {i} is {} for {:?}", found[i], expected[i]).into()),
    }
}

fn matrix_in_parts() -> Outcome {
    let csr = matrix(300, 20_000)?;
    let backend = open(|options| options.binding_limit(360 << 10))?;
    for value_type in ValueType::ALL {
        let gap: GapCsr = convert::csr_to_gap(&csr, value_type)?;
        let a = backend.upload(&gap)?;
        if a.parts() < 3 {
            return Err(format!("{value_type}: {} parts", a.parts()).into());
        }
        for batch in [1, 3] {
            let x = numbers(2, 20_000 * batch);
            let y = numbers(3, 300 * batch);
            let on_device = backend.upload_vector(&x, VectorShape { len: 20_000, batch })?;
            let mut out = backend.upload_vector(&y, VectorShape { len: 300, batch })?;
            backend.spmm(0.5, &a, &on_device, 2.0, &mut out)?;
            let expected = scaled(0.5, &product(&gap, &x, batch), 2.0, &y);
            agree(&format!("{value_type}, batch {batch}"), &backend.download(&out)?, &expected)?;
        }
    }
    Ok(())
}

fn layer_in_parts() -> Outcome {
    let csr = matrix(100, 20_000)?;
    let gap: GapCsr = convert::csr_to_gap(&csr, ValueType::Bf16)?;
    let backend = open(|options| options.binding_limit(100 << 10))?;
    for kind in BaseKind::ALL {
        let base = QuantizedBase::quantize(100, 20_000, &numbers(4, 100 * 20_000), kind)?;
        let (held, a) = (backend.upload_base(&base)?, backend.upload(&gap)?);
        if held.parts() < 3 || a.parts() < 3 {
            return Err(
                format!("{kind}: {} parts of the base, {} of the residual", held.parts(), a.parts()).into()
            );
        }
        for alpha in [0.0, 0.5] {
            let x = numbers(5, 20_000);
            let on_device = backend.upload_vector(&x, VectorShape { len: 20_000, batch: 1 })?;
            let mut y = backend.upload_vector(&[f32::NAN; 100], VectorShape { len: 100, batch: 1 })?;
            backend.forward(&held, &a, alpha, &on_device, &mut y)?;
            let expected = layer(&product(&base, &x, 1), alpha, &product(&gap, &x, 1));
            agree(&format!("{kind}, alpha {alpha}"), &backend.download(&y)?, &expected)?;
        }
    }
    Ok(())
}

fn dense_layer_in_parts() -> Outcome {
    // Odd, so that rows of 16-bit values end inside a word.
    let (rows, cols) = (60, 5001);
    let csr = matrix(rows, cols)?;
    let gap: GapCsr = convert::csr_to_gap(&csr, ValueType::Bf16)?;
    let weights = numbers(8, rows * cols);
    let values = [
        DenseValues::F32(weights[..].into()),
        DenseValues::F16(weights.iter().map(|&w| half::f16::from_f32(w)).collect::<Vec<_>>()[..].into()),
        DenseValues::Bf16(weights.iter().map(|&w| half::bf16::from_f32(w)).collect::<Vec<_>>()[..].into()),
    ];
    let whole = open(|options| options)?;
    let backend = open(|options| options.binding_limit(96 << 10))?;
    for values in values {
        let (name, base) = (values.value_type(), DenseMatrix::new(rows, cols, values)?);
        let (held, a) = (backend.upload_dense(&base)?, backend.upload(&gap)?);
        if held.parts() < 3 || a.parts() < 2 || held.bytes() < base.values().as_bytes().len() {
            let (parts, bytes) = (held.parts(), held.bytes());
            return Err(
                format!("{name}: base of {parts} parts, {bytes} bytes, residual of {}", a.parts()).into()
            );
        }
        let in_one = whole.upload_dense(&base)?;
        for (alpha, batch) in [(0.0, 1), (0.5, 1), (0.5, 3)] {
            let x = numbers(9, cols * batch);
            let on_device = backend.upload_vector(&x, VectorShape { len: cols, batch })?;
            let mut y =
                backend.upload_vector(&vec![f32::NAN; rows * batch], VectorShape { len: rows, batch })?;
            backend.forward(&held, &a, alpha, &on_device, &mut y)?;
            let found = backend.download(&y)?;
            let expected = layer(&product(&base, &x, batch), alpha, &product(&gap, &x, batch));
            agree(&format!("{name}, alpha {alpha}, batch {batch}"), &found, &expected)?;
            if alpha == 0.0 {
                // Splitting a base changes no bits.
                let on_device = whole.upload_vector(&x, VectorShape { len: cols, batch })?;
                let mut y = whole.zeros(VectorShape { len: rows, batch })?;
                whole.forward(&in_one, &whole.upload(&gap)?, alpha, &on_device, &mut y)?;
                if whole.download(&y)? != found {
                    return Err(format!("{name}: other bits in one part").into());
                }
            }
        }
    }
    Ok(())
}

fn plain(backend: &WgpuBackend) -> Outcome {
    let csr = matrix(300, 20_000)?;
    let a = backend.upload_plain_csr(&csr)?;
    let mut x = numbers(6, 20_000);
    let y = numbers(7, 300);
    for poisoned in [false, true] {
        if poisoned {
            // A padding entry that is not masked reads this.
            x[0] = f32::NAN;
        }
        let on_device = backend.upload_vector(&x, VectorShape { len: 20_000, batch: 1 })?;
        let mut out = backend.upload_vector(&y, VectorShape { len: 300, batch: 1 })?;
        backend.spmv_plain_csr(0.5, &a, &on_device, 2.0, &mut out)?;
        let expected = scaled(0.5, &product(&csr, &x, 1), 2.0, &y);
        agree(&format!("poisoned {poisoned}"), &backend.download(&out)?, &expected)?;
    }
    let (empty, x, mut y) = (
        backend.upload_plain_csr(&Csr::empty(0, 3))?,
        backend.zeros(VectorShape { len: 3, batch: 1 })?,
        backend.zeros(VectorShape { len: 0, batch: 1 })?,
    );
    backend.spmv_plain_csr(1.0, &empty, &x, 0.0, &mut y)?;
    Ok(backend.synchronize()?)
}

fn plain_csr() -> Outcome {
    for lanes in [1, 1 << 14, 1 << 20] {
        plain(&open(|options| options.lanes(lanes))?)?;
        plain(&open(|options| options.lanes(lanes).without_subgroups())?)?;
    }
    Ok(())
}

fn plain_csr_in_parts() -> Outcome {
    plain(&open(|options| options.binding_limit(512 << 10))?)
}

/// One row for each 16-bit value.
fn every_half() -> Outcome {
    let backend = open(|options| options)?;
    let rows = 1 << 16;
    let row_ptr: Vec<u32> = (0..=rows).collect();
    let pattern =
        || GapPattern::new(rows as usize, 1, row_ptr[..].into(), vec![1u8; rows as usize][..].into(), None);
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let brains: Vec<half::bf16> = (0..=u16::MAX).map(half::bf16::from_bits).collect();
    let wide = [
        halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(),
        brains.iter().map(|brain| brain.to_f32()).collect(),
    ];
    let planes = [ValuePlane::F16(halves[..].into()), ValuePlane::Bf16(brains[..].into())];
    for (plane, expected) in planes.into_iter().zip(wide) {
        let a = backend.upload(&GapCsr::new(pattern()?, plane)?)?;
        let (x, mut y) = (
            backend.upload_vector(&[1.0], VectorShape { len: 1, batch: 1 })?,
            backend.zeros(VectorShape { len: rows as usize, batch: 1 })?,
        );
        backend.spmv(1.0, &a, &x, 0.0, &mut y)?;
        exact(&backend.download(&y)?, &expected)?;
    }
    Ok(())
}

/// Fails unless values are the same. Devices may flush f32 values below the normal range.
fn exact(found: &[f32], expected: &[f32]) -> Outcome {
    for (bits, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let flushed = expected.is_subnormal() && found == 0.0;
        let same = found == expected || (found.is_nan() && expected.is_nan()) || flushed;
        if !same {
            return Err(format!("{bits:#06x}: {found} for {expected}").into());
        }
    }
    Ok(())
}

/// Rows of two values, each in one half of a word: `x` picks the first values, then the second.
fn every_half_of_a_base() -> Outcome {
    let backend = open(|options| options)?;
    let rows = 1 << 15;
    let halves: Vec<half::f16> = (0..=u16::MAX).map(half::f16::from_bits).collect();
    let brains: Vec<half::bf16> = (0..=u16::MAX).map(half::bf16::from_bits).collect();
    let wide = [
        halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(),
        brains.iter().map(|brain| brain.to_f32()).collect(),
    ];
    let values = [DenseValues::F16(halves[..].into()), DenseValues::Bf16(brains[..].into())];
    let nothing = backend.upload_csr(&Csr::empty(rows, 2))?;
    for (values, wide) in values.into_iter().zip(wide) {
        let base = backend.upload_dense(&DenseMatrix::new(rows, 2, values)?)?;
        for picked in 0..2 {
            let x = [[1.0, 0.0], [0.0, 1.0]][picked];
            let x = backend.upload_vector(&x, VectorShape { len: 2, batch: 1 })?;
            let mut y = backend.zeros(VectorShape { len: rows, batch: 1 })?;
            backend.forward(&base, &nothing, 1.0, &x, &mut y)?;
            let pairs = wide.chunks_exact(2);
            // 0 times infinity is NaN.
            let term = |own: f32, other: f32| if other.is_finite() { own } else { f32::NAN };
            let expected: Vec<f32> = pairs.map(|pair| term(pair[picked], pair[1 - picked])).collect();
            exact(&backend.download(&y)?, &expected)?;
        }
    }
    Ok(())
}

/// `y = y + x`, a thousand times.
fn many_products() -> Outcome {
    let backend = open(|options| options)?;
    let a = backend.upload_csr(&Csr::new(1, 1, vec![0, 1], vec![0], vec![1.0f32])?)?;
    let (x, mut y) = (
        backend.upload_vector(&[1.0], VectorShape { len: 1, batch: 1 })?,
        backend.zeros(VectorShape { len: 1, batch: 1 })?,
    );
    for _ in 0..1000 {
        backend.spmv(1.0, &a, &x, 1.0, &mut y)?;
    }
    match backend.download(&y)?[..] {
        [1000.0] => Ok(()),
        ref found => Err(format!("{found:?}").into()),
    }
}

fn timed() -> Outcome {
    let backend = open(|options| options)?;
    let csr = matrix(300, 20_000)?;
    let (a, x, mut y) = (
        backend.upload_csr(&csr)?,
        backend.zeros(VectorShape { len: 20_000, batch: 1 })?,
        backend.zeros(VectorShape { len: 300, batch: 1 })?,
    );
    let mut product =
        |times: usize| backend.time(|| (0..times).try_for_each(|_| backend.spmv(1.0, &a, &x, 0.0, &mut y)));
    product(1)?;
    let (none, some) = (product(0)?, product(600)?);
    if some.seconds > 0.0 && some.seconds < 60.0 && none.seconds < some.seconds {
        return Ok(());
    }
    Err(format!("{none:?} for nothing, {some:?} for 600 products").into())
}

/// A sequence of layers whose vectors never leave the device.
fn chained() -> Outcome {
    let backend = open(|options| options)?;
    // Rotates the places by one.
    let rotate =
        Csr::new(64, 64, (0..=64).collect(), (0..64).map(|i| (i + 1) % 64).collect(), vec![1.0f32; 64])?;
    let a = backend.upload_csr(&rotate)?;
    let x: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let (mut one, mut other) = (
        backend.upload_vector(&x, VectorShape { len: 64, batch: 1 })?,
        backend.zeros(VectorShape { len: 64, batch: 1 })?,
    );
    for _ in 0..5 {
        backend.spmv(1.0, &a, &one, 0.0, &mut other)?;
        std::mem::swap(&mut one, &mut other);
    }
    let expected: Vec<f32> = (0..64).map(|i| ((i + 5) % 64) as f32).collect();
    let found = backend.download(&one)?;
    if found == expected { Ok(()) } else { Err(format!("{found:?}").into()) }
}

/// Long rows share memory for the sums of their segments.
fn two_threads() -> Outcome {
    let backend = open(|options| options)?;
    let products = &|seed: u32| -> Outcome {
        let (row_ptr, columns) = (vec![0, 40_000], (0..40_000).collect());
        let csr = Csr::new(1, 40_000, row_ptr, columns, numbers(seed, 40_000))?;
        let (a, x) = (backend.upload_csr(&csr)?, numbers(seed + 1, 40_000));
        let expected = product(&csr, &x, 1);
        let x = backend.upload_vector(&x, VectorShape { len: 40_000, batch: 1 })?;
        for _ in 0..100 {
            let mut y = backend.zeros(VectorShape { len: 1, batch: 1 })?;
            backend.spmv(1.0, &a, &x, 0.0, &mut y)?;
            agree(&format!("seed {seed}"), &backend.download(&y)?, &expected)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others = [10, 20].map(|seed| scope.spawn(move || products(seed).map_err(|e| format!("{e:?}"))));
        others.into_iter().try_for_each(|other| match other.join() {
            Ok(outcome) => outcome.map_err(Failed::from),
            Err(_) => Err("a thread panicked".into()),
        })
    })
}

/// What was queued before a write sees the old values, what is queued after it the new ones.
fn written() -> Outcome {
    let budget = Budget::new(1 << 30);
    let backend = WgpuBackend::open(&WgpuOptions::default(), &budget)?;
    // More values than the host hands over at a time.
    for (len, batch) in [(3, 1), (5, 3), (70_000, 17), (1_200_000, 1)] {
        let shape = VectorShape { len, batch };
        let identity =
            Csr::new(len, len, (0..=len as u32).collect(), (0..len as u32).collect(), vec![1.0f32; len])?;
        let a = backend.upload_csr(&identity)?;
        let (old, new) = (numbers(10, len * batch), numbers(11, len * batch));
        let mut x = backend.upload_vector(&old, shape)?;
        let (mut before, mut after) = (backend.zeros(shape)?, backend.zeros(shape)?);
        backend.spmm(1.0, &a, &x, 0.0, &mut before)?;
        let used = budget.used();
        backend.write(&new, &mut x)?;
        backend.spmm(1.0, &a, &x, 0.0, &mut after)?;
        let found = [&before, &after, &x].map(|vector| backend.download(vector));
        for (found, expected) in found.into_iter().zip([&old, &new, &new]) {
            if found? != *expected {
                return Err(format!("[{len}, {batch}]: other values").into());
            }
        }
        if budget.used() != used {
            return Err(format!("{} bytes were used, now {}", used, budget.used()).into());
        }
        if backend.write(&new[1..], &mut x).is_ok() {
            return Err("a write of too few values".into());
        }
    }
    Ok(())
}
