//! Matrices beyond the binding limit, split by rows, and other products that the conformance suite does not try:
//! plain CSR, every half, timing, many products in one submission. Tests are ignored by name where there is no device.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use residua_backend::reference::{Expected, layer, product, scaled};
use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_wgpu::{Options, WgpuBackend, adapters};
use residua_format::{BaseKind, Csr, GapCsr, GapPattern, QuantizedBase, ValuePlane, ValueType, convert};

type Outcome = Result<(), Failed>;
/// A test by name.
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let cases: [Case; 9] = [
        ("a matrix in parts", matrix_in_parts),
        ("base and residual in different parts", layer_in_parts),
        ("plain CSR", plain_csr),
        ("plain CSR in parts", plain_csr_in_parts),
        ("every half is decoded exactly", every_half),
        ("more products than one submission holds", many_products),
        ("kernels timed", timed),
        ("layers that feed each other", chained),
        ("two threads on one device", two_threads),
    ];
    let none = adapters().is_empty();
    let trials = cases.into_iter().map(|(name, run)| match none {
        true => Trial::test(name, || Ok(())).with_kind("skipped, no adapter").with_ignored_flag(true),
        false => Trial::test(name, run),
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn open(change: impl FnOnce(&mut Options)) -> Result<WgpuBackend, BackendError> {
    let mut options = Options::default();
    change(&mut options);
    WgpuBackend::new(&options)
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
    let backend = open(|options| options.binding_limit = Some(360 << 10))?;
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
    let backend = open(|options| options.binding_limit = Some(100 << 10))?;
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

fn plain(backend: &WgpuBackend) -> Outcome {
    let csr = matrix(300, 20_000)?;
    let a = backend.upload_plain_csr(&csr)?;
    let mut x = numbers(6, 20_000);
    let y = numbers(7, 300);
    for poisoned in [false, true] {
        if poisoned {
            // What a padding entry would read, was it not masked.
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
        plain(&open(|options| options.lanes = Some(lanes))?)?;
        plain(&open(|options| (options.lanes, options.without_subgroups) = (Some(lanes), true))?)?;
    }
    Ok(())
}

fn plain_csr_in_parts() -> Outcome {
    plain(&open(|options| options.binding_limit = Some(512 << 10))?)
}

/// One row for each 16-bit value.
fn every_half() -> Outcome {
    let backend = open(|_| {})?;
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
        for (bits, (found, expected)) in backend.download(&y)?.into_iter().zip(expected).enumerate() {
            // Devices may flush numbers below the normal range of f32, which only brain floats hold.
            let flushed = expected.is_subnormal() && found == 0.0;
            let same = found == expected || (found.is_nan() && expected.is_nan()) || flushed;
            if !same {
                return Err(format!("{bits:#06x}: {found} for {expected}").into());
            }
        }
    }
    Ok(())
}

/// `y = y + x`, a thousand times.
fn many_products() -> Outcome {
    let backend = open(|_| {})?;
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
    let backend = open(|_| {})?;
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
    let backend = open(|_| {})?;
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
    let backend = open(|_| {})?;
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
