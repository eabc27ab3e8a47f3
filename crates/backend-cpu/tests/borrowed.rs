//! Layers in the caller's memory against the f64 reference.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use residua_backend::BackendError;
use residua_backend::reference::{Operand, layer, product};
use residua_backend_cpu::{BorrowedBase, BorrowedCsr, CpuBackend, CpuOptions};
use residua_format::FormatError;
use residua_memory::Budget;

fn open(options: CpuOptions) -> CpuBackend {
    CpuBackend::open(&options, &Budget::unlimited()).unwrap()
}

/// A layer in its simplest form.
#[derive(Debug, Clone)]
struct Plain {
    shape: [usize; 2],
    int4: bool,
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// Row, column, value; any order, duplicates too.
    entries: Vec<(usize, usize, f32)>,
}

struct Base<'a>(&'a Plain);
struct Residual<'a>(&'a Plain);

impl Operand for Base<'_> {
    fn shape(&self) -> [usize; 2] {
        self.0.shape
    }
    fn roundings(&self) -> usize {
        1
    }
    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        for (at, &code) in self.0.codes.iter().enumerate() {
            let (row, col) = (at / self.0.shape[1], at % self.0.shape[1]);
            visit(row, col, f64::from(code) * f64::from(self.0.scales[row]));
        }
    }
}

impl Operand for Residual<'_> {
    fn shape(&self) -> [usize; 2] {
        self.0.shape
    }
    fn roundings(&self) -> usize {
        0
    }
    fn for_each(&self, mut visit: impl FnMut(usize, usize, f64)) {
        self.0.entries.iter().for_each(|&(row, col, value)| visit(row, col, value.into()));
    }
}

impl Plain {
    fn packed(&self) -> Vec<u8> {
        match self.int4 {
            true => self
                .codes
                .chunks(2)
                .map(|pair| (pair[0] as u8 & 0xF) | (pair.get(1).map_or(0, |&code| code as u8) << 4))
                .collect(),
            false => self.codes.iter().map(|&code| code as u8).collect(),
        }
    }

    fn csr(&self) -> (Vec<i32>, Vec<i32>, Vec<f32>) {
        let (mut row_ptr, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in 0..self.shape[0] {
            for &(_, col, value) in self.entries.iter().filter(|entry| entry.0 == row) {
                columns.push(col as i32);
                values.push(value);
            }
            row_ptr.push(columns.len() as i32);
        }
        (row_ptr, columns, values)
    }

    fn run(&self, cpu: &CpuBackend, alpha: f32, batch: usize, x: &[f32]) -> Vec<f32> {
        let ([rows, cols], codes) = (self.shape, self.packed());
        let (row_ptr, columns, values) = self.csr();
        let base = match self.int4 {
            true => BorrowedBase::int4(rows, cols, &codes, &self.scales),
            false => BorrowedBase::int8(rows, cols, &codes, &self.scales),
        };
        let residual = BorrowedCsr::new(rows, cols, &row_ptr, &columns, &values).unwrap();
        let mut y = vec![f32::NAN; rows * batch];
        cpu.forward_borrowed(&base.unwrap(), Some(&residual), alpha, batch, x, &mut y).unwrap();
        y
    }
}

fn transposed(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols * rows).map(|at| x[at % rows * cols + at / rows]).collect()
}

fn plain() -> impl Strategy<Value = Plain> {
    let cols = prop_oneof![1usize..200, Just(64), Just(128), Just(576)];
    (1usize..210, cols, any::<bool>()).prop_flat_map(|(rows, cols, int4)| {
        let code = if int4 { -8i8..=7 } else { -128i8..=127 };
        let entry = (0..rows, 0..cols, -2.0f32..2.0);
        (
            prop::collection::vec(code, rows * cols),
            prop::collection::vec(-1.0f32..1.0, rows),
            prop::collection::vec(entry, 0..600),
        )
            .prop_map(move |(codes, scales, entries)| Plain {
                shape: [rows, cols],
                int4,
                codes,
                scales,
                entries,
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn borrowed_layers_are_the_reference(
        plain in plain(),
        batch in prop::sample::select(vec![1usize, 2, 3, 4, 7, 8, 9, 16, 24, 32, 33, 71]),
        alpha in prop::sample::select(vec![0.0f32, 0.5, 1.0, -3.0]),
        seed in any::<u32>(),
    ) {
        let [rows, cols] = plain.shape;
        let mut state = seed | 1;
        let x: Vec<f32> = (0..cols * batch).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        }).collect();
        let by_column = transposed(&x, batch, cols);
        let residual = product(&Residual(&plain), &by_column, batch);
        let expected = layer(&product(&Base(&plain), &by_column, batch), alpha, &residual);
        let one = open(CpuOptions::default().threads(1));
        let reference = plain.run(&one, alpha, batch, &x);
        for cpu in [open(CpuOptions::default().threads(2)), open(CpuOptions::default().threads(1).portable()), open(CpuOptions::default().threads(2).portable())] {
            let same_path = cpu.threads() == 2 && !format!("{cpu:?}").contains("Portable");
            let y = plain.run(&cpu, alpha, batch, &x);
            prop_assert!(!same_path || y == reference, "threads change the bits");
            for y in [&y, &reference] {
                for (at, (y, expected)) in transposed(y, batch, rows).iter().zip(&expected).enumerate() {
                    let (row, vector) = (at / batch, at % batch);
                    prop_assert!(expected.admits(*y), "[{row}] of vector {vector}: {y} for {expected:?}");
                }
            }
        }
    }
}

#[test]
fn alpha_zero_is_the_base_alone() {
    let plain = Plain {
        shape: [3, 64],
        int4: true,
        codes: (0..192).map(|i| (i % 16 - 8) as i8).collect(),
        scales: vec![0.3, 0.7, -1.1],
        entries: vec![(0, 3, f32::NAN), (2, 63, 5.0)],
    };
    let x: Vec<f32> = (0..640).map(|i| i as f32 * 0.01).collect();
    let cpu = open(CpuOptions::default().threads(1));
    let base = Plain { entries: Vec::new(), ..plain.clone() };
    assert_eq!(plain.run(&cpu, 0.0, 10, &x), base.run(&cpu, 1.0, 10, &x));
    assert!(plain.run(&cpu, 1.0, 1, &x[..64])[0].is_nan());
}

#[test]
fn every_rule_of_a_borrowed_csr_is_checked() {
    let new = |row_ptr: &[i32], columns: &[i32]| {
        BorrowedCsr::new(2, 5, row_ptr, columns, &vec![1.0; columns.len()]).map(|csr| csr.nnz())
    };
    assert_eq!(new(&[0, 2, 3], &[4, 0, 4]), Ok(3));
    assert_eq!(new(&[0, 0, 0], &[]), Ok(0));
    assert!(matches!(new(&[0, 2], &[1, 2]), Err(FormatError::Length { what: "row pointers", .. })));
    for (row_ptr, at) in
        [([1, 2, 2], 0), ([-1, 2, 2], 0), ([0, 3, 2], 2), ([0, -1, 2], 1), ([0, 1, 3], 2), ([0, 1, 1], 2)]
    {
        let error = new(&row_ptr, &[1, 2]);
        assert!(
            matches!(error, Err(FormatError::RowPointer { position, .. }) if position == at),
            "{error:?}"
        );
    }
    for bad in [5, -1, i32::MAX, i32::MIN] {
        let error = new(&[0, 2, 3], &[0, bad, 9]);
        assert!(matches!(error, Err(FormatError::OutOfRange { position: 1, .. })), "{error:?}");
    }
    let lengths = BorrowedCsr::new(2, 5, &[0, 1, 2], &[0, 1], &[1.0]).map(drop);
    assert!(matches!(lengths, Err(FormatError::Length { what: "column indices", .. })), "{lengths:?}");
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    assert!(BorrowedBase::int4(3, 3, &[0; 5], &[0.0; 3]).is_ok());
    for (codes, scales) in [(4, 3), (6, 3), (5, 2)] {
        assert!(BorrowedBase::int4(3, 3, &vec![0; codes], &vec![0.0; scales]).is_err());
    }
    assert!(BorrowedBase::int8(usize::MAX, 3, &[0; 9], &[0.0; 3]).is_err());
    let base = BorrowedBase::int8(3, 3, &[1; 9], &[1.0; 3]).unwrap();
    let (row_ptr, cpu) = ([0; 4], open(CpuOptions::default().threads(1)));
    let other = BorrowedCsr::new(3, 4, &row_ptr, &[], &[]).unwrap();
    let mut y = [7.0; 6];
    for (residual, x, len) in [(Some(&other), 6, 6), (None, 5, 6), (None, 6, 5)] {
        let error = cpu.forward_borrowed(&base, residual, 1.0, 2, &[1.0; 6][..x], &mut y[..len]);
        assert!(matches!(error, Err(BackendError::Shape { .. })), "{error:?}");
    }
    assert_eq!(y, [7.0; 6]);
    cpu.forward_borrowed(&base, None, 1.0, 0, &[], &mut []).unwrap();
}
