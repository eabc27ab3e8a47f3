//! Malformed safetensors files, indices and containers, one per rule, each with its error.

#![allow(clippy::unwrap_used, clippy::unit_arg)]

use std::path::Path;

use residua_format::convert::csr_to_gap;
use residua_format::file::*;
use residua_format::{BaseKind, Csr, QuantizedBase, ValueType};
use residua_memory::Budget;
use serde_json::{Value as Json, json};

/// A safetensors file from its header and data.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn assert_says(error: &FileError, path: &Path, expected: &str, case: &str) {
    let text = error.to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(expected) && text.contains(name), "{case}: {text}");
    assert!(error.path().ends_with(name) || error.path() == path, "{case}: {}", error.path().display());
}

#[test]
fn malformed_headers() {
    let one = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let with = |fields: &str| file(&format!(r#"{{"w":{{{fields}}}}}"#), &[0; 8]);
    let two = |second: &str| {
        let header = format!(
            r#"{{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#
        );
        file(&header, &[0; 8])
    };
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty file", vec![], "header needs 8 bytes, 0 are there"),
        ("seven bytes", vec![1; 7], "header needs 8 bytes, 7 are there"),
        (
            "header beyond the file",
            file(one, &[])[..30].to_vec(),
            "the safetensors header needs 62 bytes, 30",
        ),
        ("huge header", u64::MAX.to_le_bytes().to_vec(), "header would have 18446744073709551615 bytes"),
        ("large header of a small file", 99_999_999u64.to_le_bytes().to_vec(), "needs 100000007 bytes, 8"),
        ("header that is no JSON", file("{nonsense", &[]), "safetensors header: key must be a string"),
        ("header that is no map", file("[1,2]", &[]), "a map of tensors"),
        (
            "header that is no UTF-8",
            [&[4, 0, 0, 0, 0, 0, 0, 0][..], b"{\"\xff\""].concat(),
            "safetensors header",
        ),
        ("text behind the map", file("{} x", &[]), "trailing characters"),
        (
            "unknown element type",
            with(r#""dtype":"F33","shape":[2],"data_offsets":[0,8]"#),
            "unknown variant `F33`",
        ),
        (
            "negative size",
            with(r#""dtype":"F32","shape":[-2],"data_offsets":[0,8]"#),
            "invalid value: integer `-2`",
        ),
        ("no shape", with(r#""dtype":"F32","data_offsets":[0,8]"#), "missing field `shape`"),
        (
            "shape against bytes",
            with(r#""dtype":"F32","shape":[3],"data_offsets":[0,8]"#),
            "tensor w: shape [3] of F32 has 12 bytes, its data 0..8",
        ),
        (
            "end before start",
            with(r#""dtype":"F32","shape":[2],"data_offsets":[8,0]"#),
            "tensor w: its data starts at byte 8",
        ),
        (
            "shape past 2^64",
            with(r#""dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]"#),
            "tensor w: shape",
        ),
        (
            "half a byte",
            with(r#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#),
            "not a whole number of bytes",
        ),
        ("data missing", file(one, &[0; 7]), "the tensor data needs 70 bytes, 69 are there"),
        ("data left over", file(one, &[0; 9]), "1 bytes follow the last tensor"),
        ("overlap", two("[3,7]"), "tensor b: its data starts at byte 3, but the data before it ends at 4"),
        ("hole", two("[5,9]"), "tensor b: its data starts at byte 5, but the data before it ends at 4"),
        ("same place", two("[0,4]"), "tensor b: its data starts at byte 0"),
        (
            "name twice",
            file(
                r#"{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
                &[],
            ),
            "\"w\" is there twice",
        ),
        ("metadata that is no text", file(r#"{"__metadata__":{"a":1}}"#, &[]), "expected a string"),
        (
            "metadata twice",
            file(r#"{"__metadata__":{},"__metadata__":{}}"#, &[]),
            "\"__metadata__\" is there twice",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.safetensors");
    for (case, bytes, expected) in table {
        std::fs::write(&path, &bytes).unwrap();
        assert_says(&Checkpoint::open(&path).unwrap_err(), &path, expected, case);
    }
    std::fs::write(&path, file(one, &[0; 8])).unwrap();
    let good = Checkpoint::open(&path).unwrap();
    let error = good.read_at(&good.tensors()[0], 4, &mut [0; 5]).unwrap_err();
    assert_says(
        &error,
        &path,
        "a read of tensor w at byte 4 needs 5 bytes, 4 are there",
        "read past the end",
    );
    assert!(good.read_at(&good.tensors()[0], u64::MAX, &mut [0; 5]).is_err());
    let gone = Checkpoint::open(dir.path().join("gone.safetensors")).unwrap_err();
    assert_says(&gone, &dir.path().join("gone.safetensors"), "cannot open", "no file");
}

/// Tensors that the index places in another shard, or nowhere, are left out, and told.
#[test]
fn the_index_decides_which_shard_a_tensor_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let both = r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    std::fs::create_dir(at("sub")).unwrap();
    std::fs::write(at("sub/s1"), file(both, &[1, 2])).unwrap();
    std::fs::write(at("s2.safetensors"), file(both, &[3, 4])).unwrap();
    std::fs::write(at("stray.safetensors"), "no safetensors file").unwrap();
    let index = at("model.safetensors.index.fp16.json");
    let value = |checkpoint: &Checkpoint, name: &str| {
        let mut byte = [0];
        checkpoint.read_at(checkpoint.tensor(name).unwrap(), 0, &mut byte).unwrap();
        byte[0]
    };
    std::fs::write(&index, r#"{"weight_map":{"a":"./s2.safetensors","b":"sub/./s1"}}"#).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!((value(&checkpoint, "a"), value(&checkpoint, "b")), (3, 2));
    assert_eq!((checkpoint.tensors().len(), checkpoint.whole_file()), (2, None));
    let left_out =
        |path: &str| format!("{}: left out 1 tensor that the index does not place there", at(path).display());
    let stray = format!("{} is read, not stray.safetensors", index.display());
    assert_eq!(checkpoint.notes(), [left_out("s2.safetensors"), left_out("sub/s1"), stray]);

    // One shard, named in two ways.
    std::fs::write(&index, r#"{"weight_map":{"a":"sub/s1","b":"./sub/s1"}}"#).unwrap();
    let checkpoint = Checkpoint::open(&index).unwrap();
    assert_eq!((value(&checkpoint, "a"), value(&checkpoint, "b")), (1, 2));
    assert_eq!((checkpoint.notes().len(), checkpoint.whole_file()), (0, Some(&*at("sub/s1"))));

    std::fs::write(at("other.safetensors.index.json"), "{}").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("2 indices of shards (model.safetensors.index.fp16.json, other."), "{error}");
}

#[test]
fn malformed_indices_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let shard = |name: &str, tensor: &str| {
        let header = format!(r#"{{"{tensor}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        std::fs::write(dir.path().join(name), file(&header, &[7])).unwrap();
    };
    shard("s1.safetensors", "a");
    shard("s2.safetensors", "b");
    shard("also-a.safetensors", "a");
    let table = [
        ("no JSON", "{", "index of shards: EOF"),
        ("no map of weights", r#"{"metadata":{}}"#, "missing field `weight_map`"),
        (
            "tensor twice",
            r#"{"weight_map":{"a":"s1.safetensors","a":"s2.safetensors"}}"#,
            "\"a\" is there twice",
        ),
        (
            "parent directory",
            r#"{"weight_map":{"a":"../s1.safetensors"}}"#,
            "tensor a: its shard \"../s1.safetensors\" is no file below the index",
        ),
        ("absolute path", r#"{"weight_map":{"a":"/etc/passwd"}}"#, "no file below the index"),
        ("no name", r#"{"weight_map":{"a":""}}"#, "no file below the index"),
        ("missing shard", r#"{"weight_map":{"a":"s3.safetensors"}}"#, "s3.safetensors: cannot open"),
        (
            "tensor that the shard lacks",
            r#"{"weight_map":{"a":"s1.safetensors","x":"s1.safetensors"}}"#,
            "s1.safetensors: there is no tensor x",
        ),
        (
            "tensor in another shard than the index says",
            r#"{"weight_map":{"a":"s2.safetensors"}}"#,
            "s2.safetensors: there is no tensor a",
        ),
        (
            "parent directory behind a folder",
            r#"{"weight_map":{"a":"x/../s1.safetensors"}}"#,
            "no file below the index",
        ),
    ];
    let index = dir.path().join("model.safetensors.index.json");
    for (case, text, expected) in table {
        std::fs::write(&index, text).unwrap();
        for path in [&index, dir.path()] {
            let error = Checkpoint::open(path).unwrap_err().to_string();
            assert!(error.contains(expected), "{case}: {error}");
        }
    }
    std::fs::write(&index, r#"{"weight_map":{"b":"s2.safetensors","a":"s1.safetensors"}}"#).unwrap();
    let both = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(both.tensors().len(), 2);
    let text = format!("{} is read, not also-a.safetensors", index.display());
    assert_eq!((both.notes(), both.whole_file()), (&[text][..], None));
    let large = std::fs::File::create(&index).unwrap();
    large.set_len(100_000_001).unwrap();
    let error = Checkpoint::open(&index).unwrap_err().to_string();
    assert!(error.contains("no index of shards: 100000001 bytes"), "{error}");
    std::fs::remove_file(&index).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("holds 3 .safetensors files and no index"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(empty.path()).unwrap_err().to_string();
    assert!(error.contains("holds no .safetensors file"), "{error}");
}

/// A container of one matrix: row 0 has a filler, row 1 is empty, row 2 is a bitmap.
fn container(path: &Path) {
    let columns: Vec<u32> = [3, 300].into_iter().chain(0..200).collect();
    let values: Vec<f32> = (1..=columns.len()).map(|v| v as f32).collect();
    let csr = Csr::<f32>::new(3, 400, vec![0, 2, 2, 202], columns, values).unwrap();
    let base = QuantizedBase::new(3, 400, BaseKind::Int8, vec![1; 1200].into(), vec![1.0; 3].into()).unwrap();
    let mut writer = ContainerWriter::create(path, ContainerKind::Split, 4096).unwrap();
    writer.write_gap("w", &csr_to_gap(&csr, ValueType::I8).unwrap()).unwrap();
    writer.write_base("w", &base).unwrap();
    writer.finish().unwrap();
}

/// Changes a file's header and data; data of a tensor starts at the returned offsets.
fn tamper(path: &Path, change: impl FnOnce(&mut Json, &mut [u8])) {
    let bytes = std::fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Json = serde_json::from_slice(&bytes[8..start]).unwrap();
    let mut data = bytes[start..].to_vec();
    change(&mut header, &mut data);
    std::fs::write(path, file(&header.to_string(), &data)).unwrap();
}

/// Bytes of a plane.
fn plane<'a>(header: &Json, data: &'a mut [u8], name: &str) -> &'a mut [u8] {
    let offsets = &header[format!("w.{name}")]["data_offsets"];
    &mut data[offsets[0].as_u64().unwrap() as usize..offsets[1].as_u64().unwrap() as usize]
}

#[test]
fn malformed_containers_are_refused_when_opened() {
    // A change of the file's metadata, or of one field of the matrix's.
    let file_field = |key: &'static str, value: &'static str| {
        Box::new(move |header: &mut Json, _: &mut [u8]| header["__metadata__"][key] = json!(value))
            as Box<dyn Fn(&mut Json, &mut [u8])>
    };
    let matrix_field = |key: &'static str, value: Json| {
        Box::new(move |header: &mut Json, _: &mut [u8]| {
            let text = header["__metadata__"]["matrix:w"].as_str().unwrap();
            let mut meta: Json = serde_json::from_str(text).unwrap();
            meta[key] = value.clone();
            header["__metadata__"]["matrix:w"] = json!(meta.to_string());
        }) as Box<dyn Fn(&mut Json, &mut [u8])>
    };
    let table = [
        ("another format", file_field("format", "pt"), "is an ordinary safetensors file, not a container"),
        ("a later version", file_field("format_version", "2"), "format version \"2\""),
        ("unknown kind", file_field("kind", "new"), "unknown kind Some(\"new\")"),
        ("no JSON", file_field("matrix:w", "{"), "tensor w: metadata: EOF"),
        (
            "matrix without planes",
            file_field(
                "matrix:v",
                r#"{"shape":[1,1],"dtype":"F32","op":"add","nnz":0,"entries":0,"index_bytes":0}"#,
            ),
            "there is no tensor v.row_ptr",
        ),
        ("unknown op", matrix_field("op", json!("mul")), "tensor w: metadata: unknown variant `mul`"),
        ("unknown values", matrix_field("values", json!("f8")), "tensor w: metadata: unknown variant `f8`"),
        ("unknown base", matrix_field("base", json!("int3")), "unknown variant `int3`"),
        (
            "one row more",
            matrix_field("shape", json!([4, 400])),
            "tensor w.base: 1280 bytes, but the metadata demands 1600",
        ),
        (
            "rows past memory",
            matrix_field("shape", json!([1u64 << 62, 400])),
            "tensor w: metadata: shape [4611686018427387904, 400]",
        ),
        ("columns past u32", matrix_field("shape", json!([3, 1u64 << 33])), "one is above 4294967295"),
        (
            "entries past the plane",
            matrix_field("entries", json!(1000)),
            "tensor w.values: 256 bytes, but the metadata demands 1000",
        ),
        ("fewer index bytes", matrix_field("index_bytes", json!(1000)), "but the metadata demands"),
        ("more non-zeros than entries", matrix_field("nnz", json!(900)), "900 non-zeros in"),
        ("mode planes disowned", matrix_field("row_modes", json!(false)), "and no row modes"),
        (
            "other values",
            matrix_field("values", json!("f32")),
            "tensor w.values: element type I8, but the metadata demands [F32]",
        ),
        ("raw bits", matrix_field("values", Json::Null), "element type I8, but"),
        ("another tensor shape", matrix_field("tensor_shape", json!([3, 401])), "does not hold the elements"),
        (
            "wide pointers",
            Box::new(|header: &mut Json, _: &mut [u8]| {
                header["w.row_ptr"]["dtype"] = json!("U64");
                header["w.row_ptr"]["shape"] = json!([16]);
            }),
            "tensor w.row_ptr: element type U64, but the metadata demands [U32]",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.safetensors");
    for (case, change, expected) in table {
        container(&path);
        tamper(&path, change);
        match Container::open(&path) {
            Ok(_) => panic!("{case}: opened"),
            Err(error) => assert_says(&error, &path, expected, case),
        }
    }
}

#[test]
fn malformed_planes_are_refused_when_read() {
    type Change = fn(&Json, &mut [u8]);
    let table: [(&str, Change, &str); 18] = [
        (
            "first pointer",
            |h, d| plane(h, d, "row_ptr")[0] = 1,
            "tensor w.row_ptr: row pointer 0: 1, but the first is 0",
        ),
        (
            "falling pointer",
            |h, d| plane(h, d, "row_ptr")[4..8].copy_from_slice(&[9; 4]),
            "tensor w: row pointer 2",
        ),
        (
            "last pointer",
            |h, d| plane(h, d, "row_ptr")[12] += 1,
            "row pointer 3: 204, but the last is the length of the plane",
        ),
        (
            "last pointer short",
            |h, d| plane(h, d, "row_ptr")[12] -= 1,
            "row pointer 3: 202, but the last is the length of the plane",
        ),
        ("first index pointer", |h, d| plane(h, d, "index_ptr")[0] = 1, "tensor w.index_ptr: row pointer 0"),
        ("falling index pointer", |h, d| plane(h, d, "index_ptr")[4] = 200, "tensor w: row pointer 2"),
        ("last index pointer", |h, d| plane(h, d, "index_ptr")[12] -= 1, "tensor w.index_ptr: row pointer 3"),
        ("unknown mode", |h, d| plane(h, d, "row_modes")[0] = 7, "row 0: unknown row mode"),
        (
            "another mode",
            |h, d| plane(h, d, "row_modes")[2] = 0,
            "row 2: its index bytes do not match its entries",
        ),
        ("column outside", |h, d| plane(h, d, "gaps")[0] = 255, "row 0: a column lies outside the matrix"),
        ("last byte a filler", |h, d| plane(h, d, "gaps")[2] = 0, "row 0: it ends in a filler"),
        ("bit missing", |h, d| plane(h, d, "gaps")[3] = 0x7f, "row 2: its bitmap"),
        (
            "filler with a value",
            |h, d| plane(h, d, "values")[1] = 1,
            "row 0: a filler holds a value other than 0",
        ),
        (
            "scale that is NaN",
            |h, d| plane(h, d, "scales")[4..8].copy_from_slice(&f32::NAN.to_le_bytes()),
            "tensor w: scale 1: NaN",
        ),
        (
            "negative scale",
            |h, d| plane(h, d, "scales")[..4].copy_from_slice(&(-1f32).to_le_bytes()),
            "tensor w: scale 0: -1",
        ),
        (
            "infinite base scale",
            |h, d| plane(h, d, "base_scales")[8..12].copy_from_slice(&f32::INFINITY.to_le_bytes()),
            "tensor w: scale 2: inf",
        ),
        ("filler made an entry", |h, d| plane(h, d, "gaps")[1] = 1, "non-zeros: 203 elements, expected 202"),
        ("entry made a filler", |h, d| plane(h, d, "gaps")[0] = 0, "tensor w"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.safetensors");
    for (case, change, expected) in table {
        container(&path);
        tamper(&path, |header, data| change(header, data));
        let container = Container::open(&path).unwrap();
        let budget = Budget::unlimited();
        let gap = container.read_gap("w", &budget).map(drop);
        match gap.and_then(|()| container.read_base("w", &budget).map(drop)) {
            Ok(()) => panic!("{case}: read"),
            Err(error) => assert_says(&error, &path, expected, case),
        }
        // By single rows nothing malformed comes out either, and nothing panics.
        for row in 0..3 {
            let _ = container.read_gap_rows("w", row..row + 1, &budget);
        }
        assert_eq!(budget.used(), 0, "{case}");
    }
    container(&path);
    let container = Container::open(&path).unwrap();
    let budget = Budget::unlimited();
    let error = container.read_gap_rows("w", 2..4, &budget).unwrap_err();
    assert_says(&error, &path, "tensor w: rows 2..4 asked for, it has 3", "rows outside");
    let error = container.read_gap("v", &budget).unwrap_err();
    assert_says(&error, &path, "there is no tensor v", "no such matrix");
}

#[test]
fn writers_refuse_what_readers_would() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("old.safetensors");
    std::fs::write(&path, b"old").unwrap();
    let raw = |act: &dyn Fn(&mut SafetensorsWriter) -> Result<(), FileError>| {
        let mut writer = SafetensorsWriter::create(&path, 0).unwrap();
        act(&mut writer).and_then(|()| writer.finish().map(drop)).unwrap_err().to_string()
    };
    let planes = |act: &dyn Fn(&mut ContainerWriter) -> Result<(), FileError>| {
        let mut writer = ContainerWriter::create(&path, ContainerKind::Delta, 0).unwrap();
        act(&mut writer).and_then(|()| writer.finish().map(drop)).unwrap_err().to_string()
    };
    let meta =
        |nnz| MatrixMeta { nnz, entries: nnz, index_bytes: nnz, ..MatrixMeta::new([1, 9], Dtype::BF16) };
    let table = [
        (
            "name twice",
            raw(&|w| {
                w.tensor("a", Dtype::U8, &[1], &[1]).and_then(|()| w.tensor("a", Dtype::U8, &[1], &[1]))
            }),
            "tensor a: the name is taken",
        ),
        ("reserved name", raw(&|w| w.tensor("__metadata__", Dtype::U8, &[1], &[1])), "the name is taken"),
        (
            "too few bytes",
            raw(&|w| w.tensor("a", Dtype::F32, &[2], &[0; 7])),
            "7 bytes written, shape [2] of F32 has 8",
        ),
        (
            "too few bytes, carried on",
            raw(&|w| Ok(drop((w.tensor("a", Dtype::U8, &[2], &[0]), w.tensor("b", Dtype::U8, &[1], &[0]))))),
            "tensor b: its data starts at byte 1",
        ),
        ("left open", raw(&|w| w.begin("a", Dtype::U8, &[2])), "tensor a: not ended"),
        (
            "two open",
            raw(&|w| w.begin("a", Dtype::U8, &[2]).and_then(|()| w.begin("b", Dtype::U8, &[2]))),
            "begun while tensor a is open",
        ),
        (
            "ended as plane",
            raw(&|w| w.begin("a", Dtype::U8, &[0]).and_then(|()| w.end_plane().map(drop))),
            "a plane ended as tensor",
        ),
        ("none open", raw(&|w| w.write(&[1])), "outside of a tensor"),
        ("none to end", raw(&|w| w.end()), "not begun"),
        (
            "half an element",
            raw(&|w| w.plane("a", Dtype::U32, &[0; 6])),
            "6 bytes written, an element of U32 has 4",
        ),
        (
            "shape past 2^64",
            raw(&|w| w.begin("a", Dtype::U8, &[usize::MAX, 2])),
            "not a whole number of bytes below 2^64",
        ),
        (
            "plane without matrix",
            planes(&|w| w.plane("w", Plane::Gaps, Dtype::U8, &[1])),
            "tensor w.gaps: a plane whose matrix has no metadata",
        ),
        ("matrix without plane", planes(&|w| Ok(w.matrix("w", meta(0)))), "there is no tensor w.row_ptr"),
        (
            "counts against planes",
            planes(&|w| {
                w.matrix("w", meta(4));
                w.plane("w", Plane::RowPtr, Dtype::U32, &[0; 8])?;
                w.plane("w", Plane::Gaps, Dtype::U8, &[1; 3])
            }),
            "tensor w.gaps: 3 bytes, but the metadata demands 4",
        ),
        (
            "plane after dense",
            planes(&|w| {
                w.begin_dense("d", Dtype::U8, &[1])?;
                w.write(&[1])?;
                w.end_dense()?;
                w.plane("w", Plane::Gaps, Dtype::U8, &[1])
            }),
            "tensor w.gaps: planes must come before dense tensors",
        ),
        (
            "wide after narrow",
            planes(&|w| {
                w.begin_dense("d", Dtype::U8, &[0])?;
                w.end_dense()?;
                w.begin_dense("e", Dtype::F32, &[0])
            }),
            "tensor e: dense tensors must come in falling order",
        ),
    ];
    for (case, error, expected) in table {
        assert!(error.contains(expected) && error.contains("old.safetensors"), "{case}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{case}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "temporary files are left");
    let error = SafetensorsWriter::create(dir.path(), 0).unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
}
