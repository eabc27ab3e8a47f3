//! The container: what is written is what is read, whole and by rows, and Python's safetensors agrees.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use half::f16;
use proptest::prelude::*;
use residua_format::convert::csr_to_gap;
use residua_format::file::{
    Checkpoint, Container, ContainerKind, ContainerWriter, Dtype, FileError, MatrixMeta, Op, Plane,
};
use residua_format::{BaseKind, Csr, GapCsr, QuantizedBase, ValueType};
use residua_memory::Budget;

fn gap(rows: &[Vec<u32>], cols: usize, value_type: ValueType) -> GapCsr {
    let mut row_ptr = vec![0u32];
    let mut columns = Vec::new();
    for row in rows {
        columns.extend(row);
        row_ptr.push(columns.len() as u32);
    }
    let values: Vec<f32> = (0..columns.len()).map(|i| i as f32 / 8.0 - 3.0).collect();
    let csr = Csr::new(rows.len(), cols, row_ptr, columns, values).unwrap();
    csr_to_gap(&csr, value_type).unwrap()
}

fn base(rows: usize, cols: usize, kind: BaseKind) -> QuantizedBase {
    let mut codes: Vec<u8> = (0..rows * kind.row_bytes(cols)).map(|i| (i % 7) as u8).collect();
    codes
        .chunks_mut(kind.row_bytes(cols))
        .for_each(|row| row[kind.row_bytes(cols) - 1] &= kind.last_byte_mask(cols));
    let scales: Vec<f32> = (0..rows * kind.groups(cols)).map(|i| (i % 2048) as f32).collect();
    QuantizedBase::new(rows, cols, kind, codes.into(), scales.into()).unwrap()
}

fn rows(cols: u32) -> impl Strategy<Value = Vec<Vec<u32>>> {
    let row = prop_oneof![
        Just(Vec::new()),
        prop::collection::btree_set(0..cols, 0..40).prop_map(|set| set.into_iter().collect()),
        (1..cols.max(2)).prop_map(move |step| (0..cols).step_by(step as usize).collect()),
    ];
    prop::collection::vec(row, 0..12)
}

/// `half` stores the base's scales as f16.
fn write(path: &Path, gap: &GapCsr, base: &QuantizedBase, half: bool) -> Result<u64, FileError> {
    let mut writer = ContainerWriter::create(path, ContainerKind::Split, 0)?;
    writer.metadata("alpha", "0.5");
    writer.matrix("layer.w", MatrixMeta { op: Op::Add, ..MatrixMeta::new([0, 0], Dtype::BF16) });
    writer.write_gap("layer.w", gap)?;
    if half {
        let scales: Vec<f16> = base.scales().iter().map(|&scale| f16::from_f32(scale)).collect();
        writer.plane("layer.w", Plane::Base, Dtype::U8, base.codes())?;
        writer.plane("layer.w", Plane::BaseScales, Dtype::F16, bytemuck::cast_slice(&scales))?;
        if base.kind().is_codebook() {
            writer.plane(
                "layer.w",
                Plane::BaseLevels,
                Dtype::I8,
                bytemuck::cast_slice(base.grid().levels()),
            )?;
        }
        writer.matrix_mut("layer.w").unwrap().set_base(base);
    } else {
        writer.write_base("layer.w", base)?;
    }
    writer.begin_dense("norm", Dtype::F32, &[3])?;
    writer.write(&[7; 12])?;
    writer.end_dense()?;
    writer.begin_dense("step", Dtype::U8, &[])?;
    writer.write(&[1])?;
    writer.end_dense()?;
    writer.finish()
}

proptest! {
    #[test]
    fn whole_matrices_round_trip(
        (cols, rows) in prop_oneof![1u32..40, 200u32..1500, Just(70_000u32)].prop_flat_map(|c| (Just(c), rows(c))),
        value_type in prop::sample::select(&ValueType::ALL[..]),
        kind in prop::sample::select(&BaseKind::ALL[..]),
        cut in (0usize..13, 0usize..13), half in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        let (gap, base) = (gap(&rows, cols as usize, value_type), base(rows.len(), cols as usize, kind));
        let bytes = write(&path, &gap, &base, half).unwrap();
        prop_assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
        let container = Container::open(&path).unwrap();
        let budget = Budget::new(1 << 30);
        let read = container.read_gap("layer.w", &budget).unwrap();
        prop_assert_eq!(&*read, &gap);
        prop_assert_eq!(&*container.read_base("layer.w", &budget).unwrap(), &base);
        prop_assert!(budget.used() >= gap.bytes() as u64);
        drop(read);
        prop_assert_eq!(budget.used(), 0);
        prop_assert_eq!(container.gap_bytes("layer.w").unwrap(), gap.bytes() as u64);
        let saved = if half { 2 * base.scales().len() } else { 0 };
        prop_assert_eq!(container.base_bytes("layer.w").unwrap(), (base.bytes() - saved) as u64);

        let meta = container.matrix("layer.w").unwrap();
        prop_assert_eq!((meta.dtype, meta.nnz, meta.op), (Dtype::BF16, gap.nnz() as u64, Op::Add));
        prop_assert_eq!(container.metadata("alpha"), Some("0.5"));
        let dense: Vec<_> = container.dense().map(|t| (&*t.name, t.shape.clone())).collect();
        prop_assert_eq!(dense, [("norm", vec![3]), ("step", vec![])]);
        for plane in Plane::ALL.into_iter().filter(|plane| plane.belongs(meta)) {
            prop_assert_eq!(container.plane("layer.w", plane).unwrap().offset() % 128, 0);
        }

        // Blocks of rows hold the rows of the whole.
        let range = cut.0.min(cut.1).min(rows.len())..cut.0.max(cut.1).min(rows.len());
        let block = container.read_gap_rows("layer.w", range.clone(), &budget).unwrap();
        let block_base = container.read_base_rows("layer.w", range.clone(), &budget).unwrap();
        for (at, row) in range.clone().enumerate() {
            prop_assert!(block.row(at).eq(gap.row(row)));
            for col in (0..cols as usize).step_by(97) {
                prop_assert_eq!(block_base.weight(at, col), base.weight(row, col));
            }
        }
        let (pattern, entries) = container.read_pattern_rows("layer.w", range.clone(), &budget).unwrap();
        prop_assert_eq!(&*pattern, block.pattern());
        prop_assert_eq!(entries.end - entries.start, block.pattern().entries() as u64);
        prop_assert!(container.rows_bytes("layer.w", range).unwrap() >= block.bytes() as u64);

        // And the safetensors library reads the file.
        let bytes = std::fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(tensors.len(), Checkpoint::open(&path).unwrap().tensors().len());
        prop_assert_eq!(tensors.tensor("norm").unwrap().data(), &[7; 12]);
    }
}

proptest! {
    /// Whatever bytes of the planes change: an error, or a matrix whose rows are those read singly.
    #[test]
    fn changed_bytes_never_come_out_invalid(
        rows in rows(700),
        value_type in prop::sample::select(&ValueType::ALL[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.safetensors");
        write(&path, &gap(&rows, 700, value_type), &base(rows.len(), 700, BaseKind::Int4G32), false).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let data = &mut bytes[start..];
        for (at, value) in changes {
            let at = at.index(data.len());
            data[at] = value;
        }
        std::fs::write(&path, bytes).unwrap();
        let container = Container::open(&path).unwrap();
        let budget = Budget::unlimited();
        let _ = container.read_base("layer.w", &budget);
        if let Ok(gap) = container.read_gap("layer.w", &budget) {
            for row in 0..rows.len() {
                let single = container.read_gap_rows("layer.w", row..row + 1, &budget).unwrap();
                let bits = |(column, value): (u32, f32)| (column, value.to_bits());
                prop_assert!(single.row(0).map(bits).eq(gap.row(row).map(bits)));
                prop_assert!(gap.row(row).all(|(column, _)| column < 700));
            }
        }
        for row in 0..rows.len() {
            let _ = container.read_gap_rows("layer.w", row..row + 1, &budget);
        }
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn budget_is_asked_before_a_plane_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.safetensors");
    let gap = gap(&vec![(0..1000).collect(); 10], 1000, ValueType::F32);
    write(&path, &gap, &base(10, 1000, BaseKind::Int4), false).unwrap();
    let container = Container::open(&path).unwrap();
    for least in [1, gap.bytes() as u64 - 1] {
        let error = container.read_gap("layer.w", &Budget::new(least)).unwrap_err();
        assert!(matches!(&error, FileError::Budget { .. }), "{error}");
        assert!(
            error.to_string().contains("c.safetensors") && error.to_string().contains("layer.w"),
            "{error}"
        );
    }
    assert!(container.read_gap_rows("layer.w", 0..1, &Budget::new(5000)).is_ok());
}
