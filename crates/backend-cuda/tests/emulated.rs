//! What the conformance suite does not test: failures leave nothing behind, graphs replay, COO becomes the same CSR as on
//! the host. Everything runs on the emulator; only the driver differs from a GPU.
#![allow(clippy::unwrap_used)]

mod work;

use proptest::prelude::*;
use residua_backend::{Backend, BackendError, VectorShape, reference};
use residua_backend_cuda::{CudaBackend, CudaOptions, Emulator, PeerCoo, PeerKernel};
use residua_format::convert::{coo_to_csr, csr_to_coo, csr_to_gap};
use residua_format::strategies::{any_gap_csr, coo};
use residua_format::{Coo, Csr, DenseMatrix, DenseValues, Duplicates, ValueType};
use residua_memory::Budget;

use work::{base, everything, matrix, numbers};

/// A backend with an unlimited budget on a new device.
fn emulated() -> CudaBackend {
    Emulator::new().backend(&Budget::unlimited())
}

#[test]
fn whatever_fails_leaves_no_memory_behind() {
    let emulator = Emulator::new();
    let expected = everything(&emulator.backend(&Budget::unlimited())).unwrap();
    assert_eq!(emulator.used(), 0);
    let mut failures = 0;
    loop {
        emulator.fail_after(failures);
        let result = everything(&emulator.backend(&Budget::unlimited()));
        assert_eq!(emulator.used(), 0, "after failure {failures}");
        if emulator.stop_failing() {
            assert_eq!(result.unwrap(), expected);
            break;
        }
        assert!(
            matches!(result, Err(BackendError::OutOfMemory { .. } | BackendError::Device { .. })),
            "{result:?}"
        );
        failures += 1;
    }
    assert!(failures > 30, "{failures} calls that can fail");
}

#[test]
fn a_device_that_is_too_small_says_so_with_numbers() {
    let emulator = Emulator::with_memory(10_000);
    let cuda = emulator.backend(&Budget::unlimited());
    let held = cuda.zeros(VectorShape { len: 1000, batch: 1 }).unwrap();
    let error = cuda.zeros(VectorShape { len: 2000, batch: 1 }).unwrap_err();
    match &error {
        BackendError::OutOfMemory { asked: 8004, free: Some(5996), .. } => {}
        other => panic!("{other:?}"),
    }
    assert!(error.to_string().contains("8004") && error.to_string().contains("5996"), "{error}");
    drop(held);
    assert_eq!(emulator.used(), 0);
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_no_panic() {
    let error = CudaBackend::open(&CudaOptions::default().device("1000"), &Budget::unlimited()).unwrap_err();
    let text = error.to_string();
    match error {
        BackendError::Unavailable { backend: "cuda", .. } => assert!(text.contains("install"), "{text}"),
        BackendError::NoSuchDevice { .. } => assert!(text.contains("1000"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn operands_of_another_device_are_refused() {
    let (here, there) = (emulated(), emulated());
    let csr = matrix(4, 6, 2);
    let (a, base_here) = (here.upload_csr(&csr).unwrap(), here.upload_base(&base(4, 6)).unwrap());
    let (x, mut y) = (
        here.zeros(VectorShape { len: 6, batch: 1 }).unwrap(),
        here.zeros(VectorShape { len: 4, batch: 1 }).unwrap(),
    );
    let (foreign, mut foreign_y) = (
        there.zeros(VectorShape { len: 6, batch: 1 }).unwrap(),
        there.zeros(VectorShape { len: 4, batch: 1 }).unwrap(),
    );
    let results = [
        here.spmv(1.0, &a, &foreign, 0.0, &mut y),
        here.spmv(1.0, &a, &x, 0.0, &mut foreign_y),
        there.spmv(1.0, &a, &foreign, 0.0, &mut foreign_y),
        there.forward(&base_here, &a, 1.0, &foreign, &mut foreign_y),
        here.write(&[0.0; 6], &mut there.zeros(VectorShape { len: 6, batch: 1 }).unwrap()),
        there.download(&x).map(drop),
    ];
    for result in results {
        assert!(matches!(result, Err(BackendError::Foreign { .. })), "{result:?}");
    }
}

#[test]
fn a_graph_computes_what_was_recorded_on_what_is_there_now() {
    let cuda = emulated();
    let csr = matrix(33, 70, 4);
    let mut x = cuda.zeros(VectorShape { len: 70, batch: 1 }).unwrap();
    let (mut y, mut z) = (
        cuda.zeros(VectorShape { len: 33, batch: 1 }).unwrap(),
        cuda.zeros(VectorShape { len: 33, batch: 1 }).unwrap(),
    );
    let graph = {
        // The graph keeps the memory of its operands.
        let (base, a) = (cuda.upload_base(&base(33, 70)).unwrap(), cuda.upload_csr(&csr).unwrap());
        cuda.record(|cuda| {
            cuda.spmv(1.0, &a, &x, 0.0, &mut y)?;
            cuda.forward(&base, &a, 0.5, &x, &mut z)
        })
        .unwrap()
    };
    assert_eq!(cuda.download(&y).unwrap(), [0.0; 33], "recording computes nothing");
    for seed in 0..3 {
        let input = numbers(seed, 70);
        cuda.write(&input, &mut x).unwrap();
        graph.replay().unwrap();
        let a = cuda.upload_csr(&csr).unwrap();
        let (mut own_y, mut own_z) = (
            cuda.zeros(VectorShape { len: 33, batch: 1 }).unwrap(),
            cuda.zeros(VectorShape { len: 33, batch: 1 }).unwrap(),
        );
        cuda.spmv(1.0, &a, &x, 0.0, &mut own_y).unwrap();
        let base = cuda.upload_base(&base(33, 70)).unwrap();
        cuda.forward(&base, &a, 0.5, &x, &mut own_z).unwrap();
        assert_eq!(cuda.download(&y).unwrap(), cuda.download(&own_y).unwrap());
        assert_eq!(cuda.download(&z).unwrap(), cuda.download(&own_z).unwrap());
    }
}

#[test]
fn uploads_and_downloads_are_not_recorded() {
    let emulator = Emulator::new();
    let cuda = emulator.backend(&Budget::unlimited());
    let y = cuda.zeros(VectorShape { len: 3, batch: 1 }).unwrap();
    for result in [
        cuda.record(|cuda| cuda.zeros(VectorShape { len: 1, batch: 1 }).map(drop)),
        cuda.record(|cuda| cuda.upload_csr(&Csr::empty(1, 1)).map(drop)),
        cuda.record(|cuda| cuda.download(&y).map(drop)),
    ] {
        let text = result.unwrap_err().to_string();
        assert!(text.contains("cannot be recorded"), "{text}");
    }
}

/// A base needs little more room than it takes on the device: 12.1 MB and 8 MiB here.
#[test]
fn a_large_base_is_laid_out_in_pieces() {
    let [rows, cols] = [1001, 6000];
    let values = numbers(3, rows * cols).iter().map(|&value| half::bf16::from_f32(value)).collect();
    let dense = DenseMatrix::new(rows, cols, DenseValues::Bf16(values)).unwrap();
    let budget = Budget::new(21 << 20);
    let cuda = Emulator::new().backend(&budget);
    let base = cuda.upload_dense(&dense).unwrap();
    // Padded to 16 rows and 64 columns.
    assert_eq!(base.bytes(), 1008 * 6016 * 2);
    assert_eq!(budget.used(), base.bytes() as u64);
    let (residual, x) = (cuda.upload_csr(&Csr::empty(rows, cols)).unwrap(), numbers(4, cols));
    let (on_device, mut y) = (
        cuda.upload_vector(&x, VectorShape { len: cols, batch: 1 }).unwrap(),
        cuda.zeros(VectorShape { len: rows, batch: 1 }).unwrap(),
    );
    cuda.forward(&base, &residual, 1.0, &on_device, &mut y).unwrap();
    for (found, expected) in cuda.download(&y).unwrap().iter().zip(reference::product(&dense, &x, 1)) {
        assert!(expected.admits(*found), "{found} for {expected:?}");
    }
}

/// A residual at 5 % takes little more on the device than in a file.
#[test]
fn the_layout_is_about_as_small_as_the_file() {
    let csr = matrix(1024, 8192, 20);
    for value_type in ValueType::ALL {
        let gap = csr_to_gap(&csr, value_type).unwrap();
        let bytes = emulated().upload(&gap).unwrap().bytes();
        let most = if value_type == ValueType::I8 { 1.45 } else { 1.35 };
        assert!(bytes as f64 <= gap.bytes() as f64 * most, "{value_type}: {bytes} for {}", gap.bytes());
    }
}

/// Checks that the CSR of the device and of the host give the same bits: the kernel adds entries in their order.
fn same_as_on_the_host(emulator: &Emulator, coo: &Coo<f32, u32>) {
    let cuda = emulator.backend(&Budget::unlimited());
    let csr = coo_to_csr(coo, Duplicates::Sum).unwrap();
    let (device, host) = (cuda.upload_coo(coo).unwrap(), cuda.upload_csr_unchanged(&csr).unwrap());
    assert_eq!(device.nnz(), csr.nnz());
    let x = cuda.upload_vector(&numbers(3, coo.cols()), VectorShape { len: coo.cols(), batch: 1 }).unwrap();
    let (mut one, mut other) = (
        cuda.zeros(VectorShape { len: coo.rows(), batch: 1 }).unwrap(),
        cuda.zeros(VectorShape { len: coo.rows(), batch: 1 }).unwrap(),
    );
    cuda.spmv(1.0, &device, &x, 0.0, &mut one).unwrap();
    cuda.spmv(1.0, &host, &x, 0.0, &mut other).unwrap();
    let bits = |vector| cuda.download(vector).unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(&one), bits(&other));
}

/// A row with more triplets than shared memory can sort, many triplets at one place, and rows in reverse order.
#[test]
fn long_rows_of_triplets_with_many_duplicates() {
    let entries = 5000usize;
    let rows = (0..entries).map(|i| if i % 10 == 0 { 1 } else { 0 }).collect();
    let columns = (0..entries).map(|i| (i * 7919 % 900) as u32).collect();
    let coo = Coo::new(2, 900, rows, columns, numbers(4, entries)).unwrap();
    for emulator in [Emulator::new(), Emulator::reversed()] {
        same_as_on_the_host(&emulator, &coo);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn triplets_become_the_csr_of_the_host(coo in coo::<f32, u32>()) {
        for emulator in [Emulator::new(), Emulator::reversed()] {
            same_as_on_the_host(&emulator, &coo);
        }
    }

    #[test]
    fn infinities_show_where_entries_are(
        gap in any_gap_csr(),
        batch in prop::sample::select(vec![1usize, 3, 9]),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut x = numbers(5, gap.cols() * batch);
        if !x.is_empty() {
            for (i, place) in places.iter().enumerate() {
                let place = place.index(x.len());
                x[place] = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY][i % 3];
            }
        }
        let expected = reference::product(&gap, &x, batch);
        let cuda = emulated();
        let a = cuda.upload(&gap).unwrap();
        let x = cuda.upload_vector(&x, VectorShape { len: gap.cols(), batch }).unwrap();
        let mut y = cuda.upload_vector(&vec![f32::NAN; gap.rows() * batch], VectorShape { len: gap.rows(), batch }).unwrap();
        cuda.spmm(1.0, &a, &x, 0.0, &mut y).unwrap();
        for (found, expected) in cuda.download(&y).unwrap().iter().zip(&expected) {
            prop_assert!(expected.admits(*found), "{found} for {expected:?}");
        }
    }
}

#[test]
fn what_the_device_program_compares_with_is_right() {
    let cuda = emulated();
    let csr = matrix(70, 50, 4);
    let coo = PeerCoo::new(&cuda, &csr_to_coo(&csr).unwrap()).unwrap();
    for batch in [1, 3] {
        let x = numbers(1, 50 * batch);
        let expected = reference::product(&csr, &x, batch);
        let (x, mut y) = (
            cuda.upload_vector(&x, VectorShape { len: 50, batch }).unwrap(),
            cuda.zeros(VectorShape { len: 70, batch }).unwrap(),
        );
        for kernel in [PeerKernel::PerEntry, PeerKernel::Scan] {
            coo.spmm(&cuda, kernel, &x, &mut y).unwrap();
            let found = cuda.download(&y).unwrap();
            assert!(found.iter().zip(&expected).all(|(found, e)| e.admits(*found)), "{kernel:?}, {batch}");
        }
        let converted = coo.to_csr(&cuda).unwrap();
        cuda.spmm(1.0, &converted, &x, 0.0, &mut y).unwrap();
        assert!(cuda.download(&y).unwrap().iter().zip(&expected).all(|(found, e)| e.admits(*found)));
    }
}
