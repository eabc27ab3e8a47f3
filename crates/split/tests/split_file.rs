//! Layers loaded from split files, and the search for a base that is another checkpoint.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use residua_format::BaseKind;
use residua_format::file::{Checkpoint, ContainerKind, ContainerWriter, Dtype, FileError};
use residua_memory::Budget;
use residua_split::{
    BaseLocation, DiffOptions, ErrorKind, Importance, LayerBase, MaterializeOptions, New, NoProgress, Old,
    Output, SplitError, SplitFile, SplitOptions, diff, materialize,
};
use split_support::{Bench, Dense, weights};

const FLOATS: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::BF16];

fn matrix(name: &str, dtype: Dtype, values: &[f32]) -> Dense {
    Dense::new(name, dtype, &[values.len() / 10, 10], values)
}

/// A bench with `w`, split against the checkpoint `base`.
fn against_a_base(dtype: Dtype) -> (Bench, Dense) {
    let bench = Bench::new();
    let base = matrix("w", dtype, &weights(30, 10, 1));
    let mut changed = base.values();
    changed.iter_mut().step_by(7).for_each(|w| *w += 0.5);
    let path = bench.write("base", &[Dense::new("w", dtype, &[30, 10], &base.values())]);
    bench.write("w", &[matrix("w", dtype, &changed)]);
    let options = SplitOptions::default().base(path);
    bench.split("w", &options).unwrap();
    (bench, base)
}

#[test]
fn a_layer_with_a_quantised_base_is_loaded() {
    let bench = Bench::new();
    let tensors = [matrix("b", Dtype::F16, &weights(8, 10, 1)), matrix("a", Dtype::F32, &weights(5, 10, 2))];
    bench.write("w", &tensors);
    bench.split("w", &SplitOptions::default()).unwrap();
    let file = SplitFile::open(bench.split_path("w")).unwrap();
    assert_eq!(file.path(), bench.split_path("w"));
    assert_eq!(file.layers().collect::<Vec<_>>(), ["a", "b"]);
    assert!(file.base().is_none());
    let layer = file.layer("b").unwrap();
    assert_eq!((layer.name(), layer.shape(), layer.nnz()), ("b", [8, 10], 1));
    assert_eq!(layer.base_kind(), Some(BaseKind::Lut4G16));
    let budget = Budget::new(1 << 20);
    let LayerBase::Quantized(base) = layer.read_base(&budget).unwrap() else { panic!("a quantised base") };
    let residual = layer.read_residual(&budget).unwrap();
    assert!(budget.used() > 0);
    let container = bench.container("w");
    assert_eq!(*base, *container.read_base("b", &Budget::unlimited()).unwrap());
    assert_eq!(*residual, *container.read_gap("b", &Budget::unlimited()).unwrap());
    drop((base, residual));
    assert_eq!(budget.used(), 0);

    let error = file.layer("c").unwrap_err();
    assert!(error.to_string().contains("no tensor c, but a, b"), "{error}");
    assert!(matches!(error, SplitError::File(FileError::MissingTensor { .. })));
}

#[test]
fn a_base_checkpoint_is_found_at_the_stored_path_and_read() {
    for dtype in FLOATS {
        let (bench, base) = against_a_base(dtype);
        let file = SplitFile::open(bench.split_path("w")).unwrap();
        assert_eq!(file.base().map(Checkpoint::path), Some(&*bench.path("base")));
        let layer = file.layer("w").unwrap();
        assert_eq!(layer.base_kind(), None);
        let budget = Budget::new(base.bytes.len() as u64);
        let LayerBase::Dense(dense) = layer.read_base(&budget).unwrap() else { panic!("a dense base") };
        assert_eq!([dense.rows(), dense.cols()], [30, 10]);
        assert_eq!(dense.values().as_bytes(), base.bytes);
        assert_eq!(budget.used(), budget.limit());
        drop(dense);
        assert_eq!(budget.used(), 0);
        let error = layer.read_base(&Budget::new(base.bytes.len() as u64 - 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Budget, "{error}");
    }
}

#[test]
fn a_base_that_is_gone_is_an_error_only_when_it_is_needed() {
    let (bench, base) = against_a_base(Dtype::BF16);
    let (at, moved) = (bench.path("base"), bench.path("moved"));
    std::fs::rename(&at, &moved).unwrap();
    let path = bench.split_path("w");
    let file = SplitFile::open(&path).unwrap();
    assert!(file.base().is_none());
    let layer = file.layer("w").unwrap();
    assert_eq!(layer.shape(), [30, 10]);
    layer.read_residual(&Budget::unlimited()).unwrap();
    let error = layer.read_base(&Budget::unlimited()).unwrap_err();
    let text = error.to_string();
    let hash = blake3::hash(&base.bytes).to_hex().to_string();
    let (at, file) = (at.display().to_string(), path.display().to_string());
    for word in [&file, "layer w", &at, &hash, "name the base checkpoint"] {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
    assert!(matches!(error, SplitError::BaseNotFound { .. }) && error.kind() == ErrorKind::Io);

    let found = SplitFile::open_with_base(&path, &moved).unwrap();
    assert!(found.layer("w").unwrap().read_base(&Budget::unlimited()).is_ok());
    let error = SplitFile::open_with_base(&path, bench.path("nowhere")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[test]
fn a_stored_path_is_followed_near_the_file_or_on_request() {
    let (bench, _) = against_a_base(Dtype::F32);
    let folder = bench.path("folder");
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("split");
    std::fs::rename(bench.split_path("w"), &path).unwrap();
    let near = SplitFile::open(&path).unwrap();
    let error = near.require_base().unwrap_err();
    assert!(matches!(&error, SplitError::BaseNotFound { tried: Some(_), source: None, .. }), "{error}");
    assert_eq!((error.kind(), near.base().is_none()), (ErrorKind::Usage, true));
    let stored = SplitFile::open_at(&path, &BaseLocation::Stored, &Budget::unlimited()).unwrap();
    assert_eq!(stored.base().map(Checkpoint::path), Some(&*bench.path("base")));

    // A relative path starts at the file, whatever the current directory is.
    let bytes = std::fs::read(&path).unwrap();
    let absolute = bench.path("base").display().to_string();
    for (relative, inside) in [("below", true), ("../base", false)] {
        let text = bytes.windows(absolute.len()).position(|text| text == absolute.as_bytes()).unwrap();
        let mut moved = bytes.clone();
        // The rest of the header moves up; spaces at its end keep its length.
        let end = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        let header = [&bytes[8..text], relative.as_bytes(), &bytes[text + absolute.len()..end]].concat();
        moved[8..end].fill(b' ');
        moved[8..8 + header.len()].copy_from_slice(&header);
        std::fs::write(&path, moved).unwrap();
        std::fs::copy(bench.path("base"), folder.join("below")).unwrap();
        assert_eq!(SplitFile::open(&path).unwrap().require_base().is_ok(), inside, "{relative}");
        assert!(
            SplitFile::open_at(&path, &BaseLocation::Stored, &Budget::unlimited())
                .unwrap()
                .require_base()
                .is_ok()
        );
    }
}

#[test]
fn a_wrong_base_is_refused() {
    let (bench, base) = against_a_base(Dtype::F16);
    let mut values = base.values();
    values[3] += 0.5;
    let other = bench.write("other", &[matrix("w", Dtype::F16, &values)]);
    let read = |base: &std::path::Path| {
        let file = SplitFile::open_with_base(bench.split_path("w"), base).unwrap();
        file.layer("w").unwrap().read_base(&Budget::unlimited()).unwrap_err()
    };
    let error = read(&other);
    let SplitError::File(FileError::Hash { path, expected, .. }) = &error else { panic!("{error}") };
    assert_eq!((path, expected), (&other, &blake3::hash(&base.bytes).to_hex().to_string()));
    let shape = bench.write("shape", &[Dense::new("w", Dtype::F16, &[10, 30], &values)]);
    assert!(read(&shape).to_string().contains("[10, 30]"));
    let name = bench.write("name", &[matrix("v", Dtype::F16, &values)]);
    assert!(read(&name).to_string().contains("no tensor w, but v"));
}

/// Writes a container of one matrix that names a base by hash and stores no path to it.
fn write_without_path(path: &std::path::Path, bench: &Bench, kind: ContainerKind) {
    let residual = bench.container("w").read_gap("w", &Budget::unlimited()).unwrap();
    let mut writer = ContainerWriter::create(path, kind, 0).unwrap();
    writer.write_gap("w", &residual).unwrap();
    writer.matrix_mut("w").unwrap().base_hash = Some("00".repeat(32));
    writer.finish().unwrap();
}

#[test]
fn a_file_may_store_no_path_to_its_base() {
    let (bench, _) = against_a_base(Dtype::F32);
    let path = bench.path("no path");
    write_without_path(&path, &bench, ContainerKind::Split);
    let error = SplitFile::open(&path).unwrap().layer("w").unwrap().read_base(&Budget::unlimited());
    let error = error.unwrap_err();
    assert!(error.to_string().contains("no path to it is stored"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn other_containers_are_no_split_files() {
    let (bench, _) = against_a_base(Dtype::F32);
    let [delta, matrix] = ["delta", "matrix"].map(|name| bench.path(name));
    let (old, new) = (Old(bench.path("base")), New(bench.path("w")));
    diff(old, new, Output(&delta), &DiffOptions::default(), &Budget::unlimited(), &NoProgress).unwrap();
    write_without_path(&matrix, &bench, ContainerKind::Matrix);
    let refused = |path: &std::path::Path| SplitFile::open(path).unwrap_err().to_string();
    assert!(refused(&delta).contains("a delta is patched into a checkpoint"), "{}", refused(&delta));
    assert!(refused(&matrix).contains("its kind is \"matrix\""), "{}", refused(&matrix));
    assert!(refused(&bench.path("w")).contains("ordinary safetensors file"));
}

#[test]
fn nothing_is_written_over_an_input() {
    let (bench, _) = against_a_base(Dtype::F32);
    let (split, base) = (bench.split_path("w"), bench.path("base"));
    let before = [&split, &base].map(|path| std::fs::read(path).unwrap());
    let options = MaterializeOptions::default();
    for output in [&split, &base] {
        let error =
            materialize(&split, Output(output), &options, &Budget::unlimited(), &NoProgress).unwrap_err();
        assert!(matches!(error, SplitError::File(FileError::OutputIsInput { .. })), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    let calibration = bench.write("cal", &[Dense::new("w", Dtype::F32, &[10], &[1.0; 10])]);
    let importance = Importance::Calibration(calibration.clone());
    let options = SplitOptions::default().base(base.clone()).importance(importance);
    for output in [&bench.path("w"), &base, &calibration] {
        let split = residua_split::split(
            bench.path("w"),
            Output(output),
            &options,
            &Budget::unlimited(),
            &NoProgress,
        );
        assert!(matches!(split, Err(SplitError::File(FileError::OutputIsInput { .. }))), "{split:?}");
        for (old, new) in [(&base, &bench.path("w")), (&bench.path("w"), &base)] {
            if output != &calibration {
                let result = diff(
                    Old(old),
                    New(new),
                    Output(output),
                    &DiffOptions::default(),
                    &Budget::unlimited(),
                    &NoProgress,
                );
                assert!(matches!(result, Err(SplitError::File(FileError::OutputIsInput { .. }))));
            }
        }
    }
    assert_eq!([&split, &base].map(|path| std::fs::read(path).unwrap()), before);
}
