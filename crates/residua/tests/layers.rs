//! Layers of files: row-major in and out, over a quantised base, another checkpoint, or none.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use residua::format::file::{Checkpoint, ContainerKind, ContainerWriter, Dtype, SafetensorsWriter};
use residua::format::{BaseKind, Csr, ValueType, convert};
use residua::{
    BaseSpec, Budget, Device, Error, ErrorKind, Job, Layer, New, Old, Output, SplitFile, SplitOptions,
};

const ROWS: usize = 48;
const COLS: usize = 80;

/// Files of one test.
struct Bench {
    folder: tempfile::TempDir,
    job: Job<'static>,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), job: Job::new(&Budget::new(64 << 20)) };
        bench.checkpoint("old", Dtype::F32, 0.0);
        bench.checkpoint("tuned", Dtype::F32, 0.25);
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).with_extension("safetensors")
    }

    /// Every seventh weight differs by `change`.
    fn checkpoint(&self, name: &str, dtype: Dtype, change: f32) {
        let mut writer = SafetensorsWriter::create(self.at(name), 256).unwrap();
        let weights: Vec<f32> = (0..ROWS * COLS).map(|i| weight(i, change)).collect();
        let bytes: Vec<u8> = match dtype {
            Dtype::F32 => weights.iter().flat_map(|w| w.to_le_bytes()).collect(),
            // The upper half of an f32; the weights are multiples of 1/64 below 2.
            _ => weights.iter().flat_map(|w| ((w.to_bits() >> 16) as u16).to_le_bytes()).collect(),
        };
        writer.tensor("layer.weight", dtype, &[ROWS, COLS], &bytes).unwrap();
        writer.finish().unwrap();
    }

    fn split(&self, from: &str, to: &str, options: &SplitOptions) -> PathBuf {
        self.job.split(self.at(from), Output(self.at(to)), options).unwrap();
        self.at(to)
    }

    /// The weights at some alpha, as `materialize` gives them.
    fn dense(&self, split: &Path, alpha: f32) -> Vec<f32> {
        let options = residua::MaterializeOptions::default().alpha(alpha);
        self.job.materialize(split, Output(self.at("dense")), &options).unwrap();
        let file = Checkpoint::open(self.at("dense")).unwrap();
        let info = file.expect_tensor("layer.weight").unwrap();
        let mut raw = vec![0; info.bytes as usize];
        file.read_at(info, 0, &mut raw).unwrap();
        match info.dtype {
            Dtype::F32 => raw.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            _ => raw
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16))
                .collect(),
        }
    }
}

fn weight(i: usize, change: f32) -> f32 {
    (i * 29 % 127) as f32 / 64.0 - 1.0 + if i.is_multiple_of(7) { change } else { 0.0 }
}

fn cpu() -> Device {
    Device::open("cpu", &Budget::new(16 << 20)).unwrap()
}

/// `[batch, COLS]`, every row another one.
fn input(batch: usize) -> Vec<f32> {
    (0..batch * COLS).map(|i| (i * 13 % 31) as f32 / 4.0 - 3.0).collect()
}

/// Row-major `x·Wᵀ` in f64.
fn product(weights: &[f32], x: &[f32], batch: usize) -> Vec<f64> {
    let one = |b: usize, row: usize| {
        let terms = weights[row * COLS..][..COLS].iter().zip(&x[b * COLS..][..COLS]);
        terms.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
    };
    (0..batch).flat_map(|b| (0..ROWS).map(move |row| (b, row))).map(|(b, row)| one(b, row)).collect()
}

fn close(found: &[f32], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&y, &e)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(y) - e).abs() <= 1e-3 * (1.0 + e.abs()), "{what}: [{i}] is {y}, not {e}");
    }
}

#[test]
fn rows_in_are_rows_out() {
    let bench = Bench::new();
    let options = SplitOptions::default().density(0.05).base(BaseSpec::Quantized(BaseKind::Int4G32));
    let split = bench.split("old", "split", &options);
    let layer = SplitFile::open(&split).unwrap().layer("layer.weight", &cpu()).unwrap();
    assert_eq!((layer.in_features(), layer.out_features(), layer.name()), (COLS, ROWS, "layer.weight"));
    for alpha in [0.0, 0.5, 1.0] {
        let weights = bench.dense(&split, alpha);
        for batch in [0, 1, 3, 8, 33] {
            let x = input(batch);
            let y = layer.forward(alpha, &x, batch).unwrap();
            close(&y, &product(&weights, &x, batch), &format!("alpha {alpha}, batch {batch}"));
            // Again, with the vectors of the last call, into a slice that holds something else.
            let mut again = vec![f32::NAN; y.len()];
            layer.forward_into(alpha, &x, batch, &mut again).unwrap();
            assert_eq!(again, y);
        }
    }
}

#[test]
fn a_layer_over_another_checkpoint_runs_on_its_weights() {
    let bench = Bench::new();
    for dtype in [Dtype::F32, Dtype::BF16] {
        bench.checkpoint("base", dtype, 0.0);
        bench.checkpoint("tuned", dtype, 0.25);
        let options = SplitOptions::default().density(0.2).base(BaseSpec::Checkpoint(bench.at("base")));
        let split = bench.split("tuned", "split", &options);
        let layer = SplitFile::open(&split).unwrap().layer("layer.weight", &cpu()).unwrap();
        let x = input(3);
        for (alpha, change) in [(0.0, 0.0), (1.0, 0.25)] {
            let weights: Vec<f32> = (0..ROWS * COLS).map(|i| weight(i, change)).collect();
            let y = layer.forward(alpha, &x, 3).unwrap();
            close(&y, &product(&weights, &x, 3), &format!("{dtype}, alpha {alpha}"));
        }
    }
}

#[test]
fn a_base_checkpoint_is_found_where_it_is_named_and_must_be_the_right_one() {
    let bench = Bench::new();
    let options = SplitOptions::default().density(0.2).base(BaseSpec::Checkpoint(bench.at("old")));
    let split = bench.split("tuned", "split", &options);
    std::fs::rename(bench.at("old"), bench.at("moved")).unwrap();

    let file = SplitFile::open(&split).unwrap();
    assert_eq!(file.layers().len(), 1);
    let error = file.layer("layer.weight", &cpu()).unwrap_err();
    let text = error.to_string();
    for word in ["split.safetensors", "layer.weight", "old.safetensors", "base checkpoint"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    let file = SplitFile::open_with_base(&split, bench.at("moved")).unwrap();
    let y = file.layer("layer.weight", &cpu()).unwrap().forward(1.0, &input(1), 1).unwrap();
    let weights: Vec<f32> = (0..ROWS * COLS).map(|i| weight(i, 0.25)).collect();
    close(&y, &product(&weights, &input(1), 1), "moved");

    let wrong = SplitFile::open_with_base(&split, bench.at("tuned")).unwrap();
    let error = wrong.layer("layer.weight", &cpu()).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("hash"), "{error}");

    assert_eq!(SplitFile::open_with_base(&split, bench.at("missing")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn a_base_elsewhere_must_be_named() {
    let bench = Bench::new();
    let options = SplitOptions::default().density(0.2).base(BaseSpec::Checkpoint(bench.at("old")));
    let split = bench.split("tuned", "split", &options);
    let folder = bench.at("old").with_file_name("folder");
    std::fs::create_dir(&folder).unwrap();
    let moved = folder.join("split.safetensors");
    std::fs::rename(&split, &moved).unwrap();
    let error = SplitFile::open(&moved).unwrap().layer("layer.weight", &cpu()).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("was not followed"), "{error}");
    let file = SplitFile::open_with_base(&moved, bench.at("old")).unwrap();
    file.layer("layer.weight", &cpu()).unwrap();
}

#[test]
fn single_matrices_are_layers_without_a_base() {
    let bench = Bench::new();
    let csr = Csr::<f32, u32>::new(2, 3, vec![0, 2, 3], vec![0, 2, 1], vec![2.0, 3.0, -1.5]).unwrap();
    let gap = convert::csr_to_gap(&csr, ValueType::F32).unwrap();
    let mut writer = ContainerWriter::create(bench.at("matrix"), ContainerKind::Matrix, 4096).unwrap();
    writer.write_gap("m", &gap).unwrap();
    writer.finish().unwrap();
    let layer = SplitFile::open(bench.at("matrix")).unwrap().layer("m", &cpu()).unwrap();
    let y = layer.forward(2.0, &[1.0, 10.0, 100.0, 0.0, 1.0, 0.0], 2).unwrap();
    assert_eq!(y, [604.0, -30.0, 0.0, -3.0]);
    assert_eq!(layer.forward(0.0, &[f32::NAN; 3], 1).unwrap(), [0.0, 0.0]);
}

#[test]
fn what_cannot_run_says_why() {
    let bench = Bench::new();
    let split = bench.split("old", "split", &SplitOptions::default());
    let file = SplitFile::open(&split).unwrap();
    let error = file.layer("other", &cpu()).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("layer.weight"), "{error}");

    let small = Device::open("cpu", &Budget::new(100)).unwrap();
    assert_eq!(file.layer("layer.weight", &small).unwrap_err().kind(), ErrorKind::Budget);

    bench.job.diff(Old(bench.at("old")), New(bench.at("tuned")), Output(bench.at("delta"))).unwrap();
    let error = SplitFile::open(bench.at("delta")).unwrap_err();
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("delta"), "{error}");
    assert_eq!(SplitFile::open(bench.at("missing")).unwrap_err().kind(), ErrorKind::Io);

    // [in, batch] in place of [batch, in] has the same number of values; every other length is refused.
    let layer: Layer = file.layer("layer.weight", &cpu()).unwrap();
    for (x, batch) in [(COLS, 2), (COLS + 1, 1), (0, 1), (1, usize::MAX)] {
        let error = layer.forward(1.0, &vec![0.0; x], batch).unwrap_err();
        assert!(matches!(error, Error::Operand { operand: "x", .. }) && error.kind() == ErrorKind::Usage);
    }
    let mut y = [f32::NAN; ROWS + 1];
    let error = layer.forward_into(1.0, &input(1), 1, &mut y).unwrap_err();
    assert!(error.to_string().contains("49") && y.iter().all(|y| y.is_nan()), "{error}");
}

#[test]
fn threads_share_a_layer() {
    let bench = Bench::new();
    let split = bench.split("old", "split", &SplitOptions::default());
    let layer = SplitFile::open(&split).unwrap().layer("layer.weight", &cpu()).unwrap();
    let expected: Vec<Vec<f32>> =
        (1..5).map(|batch| layer.forward(1.0, &input(batch), batch).unwrap()).collect();
    std::thread::scope(|scope| {
        for (batch, expected) in (1..5).zip(&expected) {
            let layer = &layer;
            scope.spawn(move || {
                for _ in 0..50 {
                    assert_eq!(&layer.forward(1.0, &input(batch), batch).unwrap(), expected);
                }
            });
        }
    });
}
