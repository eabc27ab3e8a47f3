//! Laws of the products, on matrices of every kind. Values and vectors are small integers, so that equality is exact.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use residua_backend::{Backend, BackendError, Shaped, VectorShape, reference};
use residua_backend_cpu::{CpuBackend, CpuMatrix, CpuOptions};
use residua_format::convert::gap_to_csr;
use residua_format::strategies::{any_gap_csr, csr};
use residua_format::{Csr, GapCsr};
use residua_memory::Budget;

/// Every path, with threads.
fn backends() -> impl Iterator<Item = CpuBackend> {
    let two = CpuOptions::default().threads(2);
    let open = |options: &CpuOptions| CpuBackend::open(options, &Budget::unlimited());
    [open(&two.clone().portable()), open(&two.clone().avx2()), open(&two.avx512())]
        .into_iter()
        .filter_map(Result::ok)
}

fn multiply(cpu: &CpuBackend, a: &CpuMatrix, x: &[f32], batch: usize) -> Result<Vec<f32>, BackendError> {
    let [rows, cols] = a.shape();
    let x = cpu.upload_vector(x, VectorShape { len: cols, batch })?;
    let mut y = cpu.upload_vector(&vec![f32::NAN; rows * batch], VectorShape { len: rows, batch })?;
    cpu.spmm(1.0, a, &x, 0.0, &mut y)?;
    cpu.download(&y)
}

fn integers(seed: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i + 1) * (seed + 31) % 15) as f32 - 7.0).collect()
}

proptest! {
    #[test]
    fn products_are_linear(gap in any_gap_csr(), batch in 1usize..12, seed in 0usize..100) {
        for cpu in backends() {
            let a = cpu.upload(&gap).unwrap();
            let (one, two) = (integers(seed, gap.cols() * batch), integers(seed + 1, gap.cols() * batch));
            let sum: Vec<f32> = one.iter().zip(&two).map(|(one, two)| one + two).collect();
            let [of_one, of_two] = [one, two].map(|x| multiply(&cpu, &a, &x, batch).unwrap());
            let sum_of: Vec<f32> = of_one.iter().zip(&of_two).map(|(one, two)| one + two).collect();
            prop_assert_eq!(multiply(&cpu, &a, &sum, batch).unwrap(), sum_of);
        }
    }

    #[test]
    fn gap_csr_and_its_csr_agree(gap in any_gap_csr(), batch in 1usize..12) {
        let csr: Csr<f32, u32> = gap_to_csr(&gap).unwrap();
        let x = integers(3, gap.cols() * batch);
        for cpu in backends() {
            let [one, other] = [cpu.upload(&gap).unwrap(), cpu.upload_csr(&csr).unwrap()];
            prop_assert_eq!(multiply(&cpu, &one, &x, batch), multiply(&cpu, &other, &x, batch));
        }
    }

    #[test]
    fn sprs_agrees(csr in csr::<f32, u32>()) {
        let x = integers(5, csr.cols());
        let theirs: sprs::CsMatI<f32, u32> = csr.clone().try_into().unwrap();
        let mut expected = vec![0.0; csr.rows()];
        sprs::prod::mul_acc_mat_vec_csr(theirs.view(), &x, &mut expected[..]);
        for cpu in backends() {
            let a = cpu.upload_csr(&csr).unwrap();
            prop_assert_eq!(&multiply(&cpu, &a, &x, 1).unwrap(), &expected);
        }
    }

    #[test]
    fn infinities_show_where_entries_are(
        gap in any_gap_csr(),
        batch in prop::sample::select(vec![1usize, 3, 9]),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..40),
    ) {
        let mut x = integers(7, gap.cols() * batch);
        if !x.is_empty() {
            for (i, place) in places.iter().enumerate() {
                let place = place.index(x.len());
                x[place] = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY][i % 3];
            }
        }
        let expected = reference::product(&gap, &x, batch);
        for cpu in backends() {
            let found = multiply(&cpu, &cpu.upload(&gap).unwrap(), &x, batch).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!(expected.admits(*found), "{found} for {expected:?}");
            }
        }
    }
}

/// A layer's residual takes about the bytes of its file.
#[test]
fn layout_is_as_small_as_the_file() {
    // Every 20th column on average, no two rows the same: like a layer at a density of 5 %.
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 16
    };
    let rows: Vec<Vec<u32>> = (0..512).map(|_| (0..8192).filter(|_| next() % 20 == 0).collect()).collect();
    let row_ptr = std::iter::once(0).chain(rows.iter().scan(0, |end, row| {
        *end += row.len() as u32;
        Some(*end)
    }));
    let columns: Vec<u32> = rows.iter().flatten().copied().collect();
    let nnz = columns.len();
    let csr = Csr::new(512, 8192, row_ptr.collect(), columns, vec![1.0f32; nnz]).unwrap();
    let cpu = CpuBackend::open(&CpuOptions::default().threads(1), &Budget::unlimited()).unwrap();
    for value_type in residua_format::ValueType::ALL {
        let gap: GapCsr = residua_format::convert::csr_to_gap(&csr, value_type).unwrap();
        let bytes = cpu.upload(&gap).unwrap().bytes();
        assert!(bytes as f64 <= gap.bytes() as f64 * 1.06, "{value_type}: {bytes} for {}", gap.bytes());
    }
}
