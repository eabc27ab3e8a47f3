//! Inputs as 8-bit integers: exact where rounding them is exact, the same bits on every path, and near the f32 product.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use residua_backend::{Activations, Backend, Shaped, VectorShape, reference};
use residua_backend_cpu::{CpuBackend, CpuBase, CpuMatrix, CpuOptions};
use residua_format::{BaseKind, Csr, Grid, QuantizedBase};
use residua_memory::{AlignedVec, Budget};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// About normal, mean 0, variance 1.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..12).map(|_| self.below(1 << 20) as f32 / (1 << 20) as f32).sum();
        sum - 6.0
    }
}

/// Every path that the processor has, with some threads.
fn backends(activations: Activations) -> Vec<CpuBackend> {
    let options = CpuOptions::default().activations(activations);
    let all = [
        options.clone().portable().threads(1),
        options.clone().portable().threads(3),
        options.clone().avx2().threads(1),
        options.clone().avx2().threads(2),
        options.clone().avx512().threads(1),
        options.avx512().threads(3),
    ];
    all.iter().filter_map(|options| CpuBackend::open(options, &Budget::unlimited()).ok()).collect()
}

/// Random codes over random scales; a codebook has random levels, the extreme ones too.
fn base(random: &mut Random, kind: BaseKind, [rows, cols]: [usize; 2]) -> QuantizedBase {
    let row_bytes = kind.row_bytes(cols);
    let mut codes: Vec<u8> = (0..rows * row_bytes).map(|_| random.next() as u8).collect();
    let last = codes.iter_mut().skip(row_bytes.wrapping_sub(1)).step_by(row_bytes.max(1));
    last.for_each(|byte| *byte &= kind.last_byte_mask(cols));
    let scales: AlignedVec<f32> =
        (0..rows * kind.groups(cols)).map(|_| (1 + random.below(1 << 20)) as f32 / 3e7).collect();
    let grid = if kind.is_codebook() {
        let mut levels: Vec<i8> = (2..kind.levels()).map(|_| random.next() as i8).collect();
        levels.extend([i8::MIN, i8::MAX]);
        levels.sort_unstable();
        Grid::codebook(kind, &levels).unwrap()
    } else {
        kind.into()
    };
    QuantizedBase::new(rows, cols, grid, codes.into(), scales).unwrap()
}

fn residual(random: &mut Random, [rows, cols]: [usize; 2]) -> Csr<f32, u32> {
    let (mut row_ptr, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..rows {
        for column in 0..cols as u32 {
            if random.below(10) == 0 {
                columns.push(column);
                values.push(random.normal());
            }
        }
        row_ptr.push(columns.len() as u32);
    }
    Csr::new(rows, cols, row_ptr, columns, values).unwrap()
}

/// Interleaved vectors that rounding leaves as they are: in every block the largest is 127 times a power of two, and all are
/// multiples of that power.
fn on_the_grid(random: &mut Random, cols: usize, batch: usize) -> Vec<f32> {
    let mut x = vec![0.0; cols * batch];
    for vector in 0..batch {
        for first in (0..cols).step_by(32) {
            let step = [0.25, 1.0, 8.0][random.below(3)];
            let end = cols.min(first + 32);
            for column in first..end {
                x[column * batch + vector] = (random.below(255) as f32 - 127.0) * step;
            }
            let most = first + random.below(end - first);
            x[most * batch + vector] = if random.below(2) == 0 { 127.0 * step } else { -127.0 * step };
        }
    }
    x
}

fn forward(cpu: &CpuBackend, base: &CpuBase, residual: &CpuMatrix, alpha: f32, x: &[f32]) -> Vec<f32> {
    let [rows, cols] = base.shape();
    let batch = x.len() / cols;
    let x = cpu.upload_vector(x, VectorShape { len: cols, batch }).unwrap();
    let mut y = cpu.upload_vector(&vec![f32::NAN; rows * batch], VectorShape { len: rows, batch }).unwrap();
    cpu.forward(base, residual, alpha, &x, &mut y).unwrap();
    cpu.download(&y).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// On the grid the product is exact up to f32 sums; every path gives the same bits; alpha 0 is the base alone.
fn check(kind: BaseKind, shape: [usize; 2], batch: usize, seed: u64) {
    let mut random = Random(seed);
    let (base, residual) = (base(&mut random, kind, shape), residual(&mut random, shape));
    let x = on_the_grid(&mut random, shape[1], batch);
    let expected = [reference::product(&base, &x, batch), reference::product(&residual, &x, batch)];
    let mut first: Option<Vec<u32>> = None;
    for cpu in backends(Activations::I8) {
        let what = format!("{kind}, {shape:?}, batch {batch}, {}", cpu.device());
        let (base, residual) = (cpu.upload_base(&base).unwrap(), cpu.upload_csr(&residual).unwrap());
        for alpha in [0.0, 1.0] {
            let found = forward(&cpu, &base, &residual, alpha, &x);
            let layer = reference::layer(&expected[0], alpha, &expected[1]);
            for (i, (found, expected)) in found.iter().zip(&layer).enumerate() {
                assert!(expected.admits(*found), "{what}, {i}: {found} for {expected:?}");
            }
            if alpha == 0.0 {
                let nothing = cpu.upload_csr(&Csr::empty(shape[0], shape[1])).unwrap();
                assert_eq!(bits(&found), bits(&forward(&cpu, &base, &nothing, 1.0, &x)), "{what}");
                assert_eq!(first.get_or_insert_with(|| bits(&found)), &bits(&found), "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn exact_inputs_give_exact_sums(
        kind in prop::sample::select(&BaseKind::ALL[..]),
        shape in prop::array::uniform2(1usize..140),
        batch in prop::sample::select(vec![1usize, 2, 3, 5, 7, 8, 12, 13, 16, 17, 31, 33, 48, 64, 130, 200]),
        seed in any::<u64>(),
    ) {
        check(kind, shape, batch, seed);
    }
}

#[test]
fn long_rows_are_exact() {
    for kind in [BaseKind::Int4, BaseKind::Int4G64, BaseKind::Int8, BaseKind::Lut4, BaseKind::Lut4G16] {
        for batch in [1, 4, 20] {
            check(kind, [70, 3000], batch, 7);
        }
    }
}

#[test]
fn nothing_to_multiply_is_no_trouble() {
    for cpu in backends(Activations::I8) {
        for shape in [[0, 5], [5, 0], [0, 0]] {
            let base = cpu.upload_base(&base(&mut Random(1), BaseKind::Int4, shape)).unwrap();
            let residual = cpu.upload_csr(&Csr::empty(shape[0], shape[1])).unwrap();
            for batch in [0, 1, 40] {
                let x = cpu.zeros(VectorShape { len: shape[1], batch }).unwrap();
                let mut y = cpu.zeros(VectorShape { len: shape[0], batch }).unwrap();
                cpu.forward(&base, &residual, 1.0, &x, &mut y).unwrap();
                assert!(cpu.download(&y).unwrap().iter().all(|y| *y == 0.0));
            }
        }
    }
}

/// The promise on ordinary inputs: at most 0.6 % beside f32.
#[test]
fn normal_inputs_come_out_within_0_6_percent() {
    let mut random = Random(3);
    let shape = [192, 1536];
    let x: Vec<f32> = (0..shape[1] * 20).map(|_| random.normal()).collect();
    for kind in BaseKind::ALL {
        let (base, residual) = (base(&mut random, kind, shape), residual(&mut random, shape));
        let [exact, rounded] = [Activations::F32, Activations::I8].map(|activations| {
            let cpu = backends(activations).pop().unwrap();
            let (base, residual) = (cpu.upload_base(&base).unwrap(), cpu.upload_csr(&residual).unwrap());
            // The base alone: the residual takes f32.
            forward(&cpu, &base, &residual, 0.0, &x)
        });
        let distance: f64 = exact.iter().zip(&rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let length: f64 = exact.iter().map(|a| f64::from(*a).powi(2)).sum();
        let relative = (distance / length).sqrt();
        assert!(relative > 1e-4 && relative <= 0.006, "{kind}: {relative}");
    }
}

#[test]
fn a_bad_value_is_nan_in_its_vector_alone() {
    let mut random = Random(5);
    let shape = [40, 100];
    let (base, residual) = (base(&mut random, BaseKind::Lut4, shape), residual(&mut random, shape));
    for cpu in backends(Activations::I8) {
        let (base, residual) = (cpu.upload_base(&base).unwrap(), cpu.upload_csr(&residual).unwrap());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for batch in [1, 3, 20] {
                let mut x = vec![0.5; shape[1] * batch];
                x[70 * batch + batch / 2] = bad;
                for (i, y) in forward(&cpu, &base, &residual, 1.0, &x).iter().enumerate() {
                    assert_eq!(y.is_nan(), i % batch == batch / 2, "{i} of {batch}: {y}");
                }
            }
        }
    }
}

/// Four-bit codes stay four bits, those of a codebook too.
#[test]
fn a_packed_base_is_as_small_as_its_file() {
    let cpu = &backends(Activations::I8)[0];
    for kind in BaseKind::ALL.into_iter().filter(|kind| kind.bits() == 4 && kind.block().is_none()) {
        let base = base(&mut Random(9), kind, [192, 1536]);
        let bytes = cpu.upload_base(&base).unwrap().bytes();
        assert!(bytes as f64 <= 1.02 * base.bytes() as f64, "{kind}: {bytes} for {}", base.bytes());
    }
}

#[test]
fn the_budget_counts_packing_and_rounding() {
    let base = base(&mut Random(9), BaseKind::Int4, [192, 1536]);
    let open = |bytes| {
        CpuBackend::open(&CpuOptions::default().threads(1).activations(Activations::I8), &Budget::new(bytes))
            .unwrap()
    };
    assert!(open(base.bytes() as u64).upload_base(&base).is_err());
    let budget = Budget::new(400_000);
    let cpu =
        CpuBackend::open(&CpuOptions::default().threads(1).activations(Activations::I8), &budget).unwrap();
    let layer = (cpu.upload_base(&base).unwrap(), cpu.upload_csr(&Csr::empty(192, 1536)).unwrap());
    let x = cpu.zeros(VectorShape { len: 1536, batch: 16 }).unwrap();
    let mut y = cpu.zeros(VectorShape { len: 192, batch: 16 }).unwrap();
    // x as integers takes another 30,720 bytes.
    let rest = budget.reserve(budget.available() - 30_000, "the rest").unwrap();
    assert!(cpu.forward(&layer.0, &layer.1, 0.0, &x, &mut y).is_err());
    drop(rest);
    cpu.forward(&layer.0, &layer.1, 0.0, &x, &mut y).unwrap();
}
