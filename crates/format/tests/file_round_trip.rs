//! What each format's writer writes, its reader reads.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use half::{bf16, f16};
use proptest::prelude::*;
use residua_format::convert::{Duplicates, coo_to_csr};
use residua_format::file::*;
use residua_format::{Coo, Csr, Value};
use residua_memory::Budget;

/// A file name in a directory that goes away with it.
fn target(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

/// Triplets, several at one place among them; values are exact in every type but those of f64.
fn coo<V: Value>() -> impl Strategy<Value = Coo<V>> {
    (0usize..9, 0usize..300).prop_flat_map(|(rows, cols)| {
        let most = if rows * cols == 0 { 0 } else { 60 };
        let triplet = (0..rows.max(1) as u32, 0..cols.max(1) as u32, -500i32..500);
        prop::collection::vec(triplet, 0..=most).prop_map(move |triplets| {
            let values = triplets.iter().map(|t| V::from_f64(f64::from(t.2) / 8.0 * 1.1)).collect();
            let (r, c) = triplets.iter().map(|t| (t.0, t.1)).unzip();
            Coo::new(rows, cols, r, c, values).unwrap()
        })
    })
}

macro_rules! round_trips {
    ($($name:ident $type:ty;)*) => {$(mod $name {
        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]

            #[test]
            fn npz(coo in coo::<$type>()) {
                let (_dir, path) = target("a.npz");
                let budget = Budget::new(1 << 20);
                write_npz_coo(&path, &coo).unwrap();
                let read = read_npz::<$type>(&path, &budget).unwrap();
                prop_assert_eq!(&*read, &FileMatrix::Coo(coo.clone()));
                prop_assert_eq!(budget.used() > 0, true);
                drop(read);
                prop_assert_eq!(budget.used(), 0);
                let csr: Csr<$type> = coo_to_csr(&coo, Duplicates::Sum).unwrap();
                write_npz_csr(&path, &csr).unwrap();
                prop_assert_eq!(&*read_npz::<$type>(&path, &budget).unwrap(), &FileMatrix::Csr(csr));
            }

            #[test]
            fn mtx(coo in coo::<$type>()) {
                let (_dir, path) = target("a.mtx");
                let budget = Budget::new(1 << 20);
                write_mtx_coo(&path, &coo).unwrap();
                prop_assert_eq!(&*read_mtx::<$type>(&path, &budget).unwrap(), &FileMatrix::Coo(coo.clone()));
                let csr: Csr<$type> = coo_to_csr(&coo, Duplicates::Sum).unwrap();
                write_mtx_csr(&path, &csr).unwrap();
                let read = read_mtx::<$type>(&path, &budget).unwrap().into_inner();
                prop_assert_eq!(read.into_csr(Duplicates::Refuse).unwrap(), csr);
            }

            #[test]
            fn dense(shape in prop::collection::vec(0usize..20, 1..=2), seed in any::<u16>()) {
                let count = shape.iter().product::<usize>();
                let values = (0..count).map(|i| <$type>::from_f64(i as f64 * 0.3 - f64::from(seed))).collect();
                let dense = Dense::<$type>::new(shape, values).unwrap();
                let budget = Budget::new(1 << 20);
                let (_dir, path) = target("a.npy");
                write_npy(&path, &dense).unwrap();
                prop_assert_eq!(&*read_npy::<$type>(&path, &budget).unwrap(), &dense);
                let (_dir, path) = target("a.safetensors");
                write_dense(&path, "w", &dense).unwrap();
                let file = Checkpoint::open(&path).unwrap();
                prop_assert_eq!(&*file.read_dense::<$type>("w", &budget).unwrap(), &dense);
                prop_assert_eq!(budget.used(), 0);
            }
        }
    })*};
}

round_trips! {
    in_f32 f32;
    in_f64 f64;
    in_f16 f16;
    in_bf16 bf16;
}

/// Values over the whole range of a type come back bit for bit through text.
#[test]
fn mtx_keeps_every_bit() {
    let (_dir, path) = target("a.mtx");
    let values: Vec<f32> = (0..20_000u32)
        .map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761)))
        .filter(|value| value.is_finite())
        .collect();
    let places: Vec<u32> = (0..values.len() as u32).collect();
    let coo = Coo::new(1, values.len(), vec![0; values.len()], places, values).unwrap();
    write_mtx_coo(&path, &coo).unwrap();
    let FileMatrix::Coo(read) = read_mtx::<f32>(&path, &Budget::unlimited()).unwrap().into_inner() else {
        panic!("triplets expected")
    };
    assert!(read.values().iter().map(|v| v.to_bits()).eq(coo.values().iter().map(|v| v.to_bits())));
}

/// The writer of any safetensors file, against the safetensors library.
mod safetensors_files {
    use super::*;

    fn dtype() -> impl Strategy<Value = Dtype> {
        prop::sample::select(vec![
            Dtype::BOOL,
            Dtype::F4,
            Dtype::U8,
            Dtype::F8_E4M3,
            Dtype::I16,
            Dtype::BF16,
            Dtype::F32,
            Dtype::C64,
            Dtype::U64,
        ])
    }

    proptest! {
        #[test]
        fn the_library_reads_what_was_written(
            tensors in prop::collection::btree_map("[a-z\\.\"é\n]{0,12}", (dtype(), prop::collection::vec(0usize..6, 0..4), any::<bool>()), 0..9),
            capacity in 0u64..3000,
            notes in prop::collection::btree_map(".{0,8}", ".{0,200}", 0..4),
        ) {
            let (_dir, path) = target("a.safetensors");
            let mut writer = SafetensorsWriter::create(&path, capacity).unwrap();
            let mut expected = Vec::new();
            for (i, (name, (dtype, shape, plane))) in tensors.iter().enumerate() {
                let mut bits = dtype.bitsize() * shape.iter().product::<usize>();
                let mut shape = shape.clone();
                if bits % 8 != 0 {
                    shape = vec![2];
                    bits = 8;
                }
                let mut bytes: Vec<u8> = (0..bits / 8).map(|at| (at * 7 + i) as u8).collect();
                if *plane && dtype.bitsize() >= 8 {
                    writer.plane(name, *dtype, &bytes).unwrap();
                    bytes.resize(bytes.len().next_multiple_of(128), 0);
                    shape = vec![bytes.len() * 8 / dtype.bitsize()];
                } else {
                    writer.tensor(name, *dtype, &shape, &bytes).unwrap();
                }
                expected.push((name.clone(), *dtype, shape, bytes));
            }
            for (key, value) in &notes {
                writer.metadata(key, value);
            }
            let length = writer.finish().unwrap();
            let file = std::fs::read(&path).unwrap();
            prop_assert_eq!(file.len() as u64, length);
            let (header, metadata) = safetensors::SafeTensors::read_metadata(&file).unwrap();
            prop_assert_eq!((8 + header) % 128, 0);
            prop_assert_eq!(metadata.metadata().clone().unwrap_or_default().len(), notes.len());
            let library = safetensors::SafeTensors::deserialize(&file).unwrap();
            let own = Checkpoint::open(&path).unwrap();
            prop_assert_eq!(own.metadata(), &notes);
            prop_assert_eq!((library.len(), own.tensors().len()), (expected.len(), expected.len()));
            for (name, dtype, shape, bytes) in expected {
                let view = library.tensor(&name).unwrap();
                prop_assert_eq!((view.dtype(), view.shape(), view.data()), (dtype, &*shape, &*bytes));
                let info = own.tensor(&name).unwrap();
                prop_assert_eq!((info.dtype, &info.shape, info.bytes), (dtype, &shape, bytes.len() as u64));
                let from = bytes.len() / 3;
                let mut part = vec![0; bytes.len() - from];
                own.read_at(info, from as u64, &mut part).unwrap();
                prop_assert_eq!(&part, &bytes[from..]);
            }
        }
    }
}

/// A header that outgrows its room moves data of several blocks up, bit for bit.
#[test]
fn data_moves_when_the_header_needs_its_room() {
    let (_dir, path) = target("a.safetensors");
    let data: Vec<u8> = (0..(5 << 19) + 77u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut writer = SafetensorsWriter::create(&path, 0).unwrap();
    writer.tensor("w", Dtype::U8, &[data.len()], &data).unwrap();
    writer.metadata("long", "x".repeat(100_000));
    writer.finish().unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let mut read = vec![0; data.len()];
    file.read_at(&file.tensors()[0], 0, &mut read).unwrap();
    assert!(read == data);
    assert_eq!(file.tensors()[0].offset() % 128, 0);
}

/// A header of many names is held by the budget as long as the file is open, and refused before it is parsed.
#[test]
fn headers_take_their_memory_from_the_budget() {
    let (_dir, path) = target("many.safetensors");
    let mut writer = SafetensorsWriter::create(&path, 0).unwrap();
    (0..5000).for_each(|i| writer.tensor(&format!("tensor.{i}"), Dtype::U8, &[1], &[0]).unwrap());
    writer.finish().unwrap();
    let error = Checkpoint::open_within(&path, &Budget::new(300_000)).unwrap_err();
    let FileError::Budget { source, .. } = &error else { panic!("{error}") };
    let budget = Budget::new(source.minimum);
    let file = Checkpoint::open_within(&path, &budget).unwrap();
    assert_eq!(file.tensors().len(), 5000);
    assert!(budget.used() > 5000 * 100 && budget.peak() == budget.limit());
    drop(file);
    assert_eq!(budget.used(), 0);
}
