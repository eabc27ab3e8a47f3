//! Malformed `.npy`, `.npz` and Matrix Market files, one per rule, each with its error.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;
use residua_format::file::*;
use residua_memory::Budget;
use zip::write::SimpleFileOptions;

fn assert_refused<T>(result: Result<T, FileError>, path: &Path, expected: &str, case: &str) {
    let Err(error) = result else { panic!("{case}: read") };
    let text = error.to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(text.contains(expected) && text.contains(name), "{case}: {text}");
    assert_eq!(error.path(), path, "{case}");
}

fn scratch(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

/// A `.npy` file of version 1 from the text of its header.
fn npy(header: &str, data: &[u8]) -> Vec<u8> {
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn array(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    npy(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"), data)
}

#[test]
fn npy_files() {
    let good = array("<f4", "(2, 3)", &[0; 24]);
    let mut version = good.clone();
    version[6] = 9;
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "the header of the array is cut short"),
        ("another format", b"PK\x03\x04abcdefgh".to_vec(), "no .npy array"),
        ("unknown version", version, "unknown version 9"),
        ("header cut short", good[..40].to_vec(), "the header of the array is cut short"),
        ("header of 4 GiB", long, "a header of 4294967295 bytes"),
        (
            "header that is no text",
            npy("\u{fffd}", &[]).into_iter().filter(|&b| b != 0xbd).collect(),
            "cut short",
        ),
        ("no dictionary", npy("[]", &[]), "has \"[]\" where \"{\" belongs"),
        ("no end of a string", npy("{'descr: 1", &[]), "a string without an end"),
        ("no shape", npy("{'descr': '<f4', 'fortran_order': False}", &[]), "no \"shape\""),
        ("unknown key", npy("{'color': 'red'}", &[]), "unknown key \"color\""),
        ("key twice", npy("{'descr': '<f4', 'descr': '<f4'}", &[]), "\"descr\" twice"),
        ("order that is no truth", npy("{'fortran_order': 1}", &[]), "where \"False\" belongs"),
        ("negative size", array("<f4", "(-1, 3)", &[]), "\"\" in the shape is no size"),
        ("size past 2^64", array("<f4", "(99999999999999999999, 3)", &[]), "is no size"),
        (
            "product past 2^64",
            array("<f4", "(4294967296, 4294967296)", &[]),
            "needs 18446744073709551615 bytes",
        ),
        (
            "more than the file holds",
            array("<f4", "(1000000, 1000000)", &[]),
            "shape [1000000, 1000000] needs",
        ),
        ("data missing", array("<f4", "(2, 3)", &[0; 23]), "the array of shape [2, 3] needs"),
        ("data left over", array("<f4", "(2, 3)", &[0; 25]), "1 bytes follow the array"),
        (
            "text behind the header",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (0,)} 1", &[]),
            "\"1\" follows the header",
        ),
        ("no dimension", array("<f4", "()", &[0; 4]), "shape [], but one or two dimensions"),
        ("unknown element type", array("<q9", "(1,)", &[0; 4]), "element type \"<q9\": unknown"),
        ("dates", array("<M8[s]", "(1,)", &[0; 8]), "element type \"<M8[s]\": dates"),
        ("long double", array("<f16", "(1,)", &[0; 16]), "element type \"<f16\": a long double"),
        ("long double of 80 bits", array("<f12", "(1,)", &[0; 12]), "element type \"<f12\": a long double"),
        ("complex", array("<c16", "(1,)", &[0; 16]), "element type \"<c16\": complex numbers"),
        ("text", array("<U3", "(1,)", &[0; 12]), "element type \"<U3\": text"),
        (
            "bfloat16 of ml_dtypes",
            array("<V2", "(1,)", &[0; 2]),
            "element type \"<V2\": bytes without a meaning",
        ),
        ("objects", array("|O", "(1,)", &[0; 2]), "element type \"|O\": Python objects"),
        (
            "record",
            npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", &[0; 4]),
            "element type \"[('a', '<f4')]",
        ),
        ("24 nested lists", npy(&format!("{{'descr': {}1", "[".repeat(24)), &[]), "records are not read"),
        (
            "5,000 nested tuples",
            npy(&format!("{{'descr': {}", "(".repeat(5000)), &[]),
            "records are not read",
        ),
        ("5,000 tuples in a shape", npy(&format!("{{'shape': {}", "(".repeat(5000)), &[]), "is no size"),
        ("5,000 dictionaries", npy(&"{".repeat(5000), &[]), "where \"'\" belongs"),
        ("a header above NumPy's", npy(&" ".repeat(10_001), &[]), "a header of 10001 bytes"),
    ];
    let (_dir, path) = scratch("bad.npy");
    for (case, bytes, expected) in table {
        std::fs::write(&path, bytes).unwrap();
        assert_refused(read_npy::<f32>(&path, &Budget::unlimited()), &path, expected, case);
    }
    std::fs::write(&path, &good).unwrap();
    assert!(read_npy::<f32>(&path, &Budget::new(24)).is_ok());
    assert_refused(read_npy::<f32>(&path, &Budget::new(23)), &path, "24 B for array, but 23 B", "budget");
    // Finite numbers that would become infinite.
    std::fs::write(&path, array("<f8", "(3,)", bytemuck::cast_slice(&[1.0, f64::INFINITY, 1e300]))).unwrap();
    assert_refused(
        read_npy::<f32>(&path, &Budget::unlimited()),
        &path,
        "element 2: 1e300 is too large for f32",
        "f32",
    );
    std::fs::write(&path, array("<i4", "(2,)", bytemuck::cast_slice(&[65504, 65520]))).unwrap();
    assert_refused(
        read_npy::<f16>(&path, &Budget::unlimited()),
        &path,
        "element 1: 65520 is too large for f16",
        "f16",
    );
}

/// A sparse archive: a CSR matrix of shape [2, 3] with the entries (0, 1), (1, 0), (1, 2).
fn archive() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("format", array("|S3", "()", b"csr")),
        ("shape", array("<i8", "(2,)", bytemuck::cast_slice(&[2i64, 3]))),
        ("indices", array("<i4", "(3,)", bytemuck::cast_slice(&[1i32, 0, 2]))),
        ("indptr", array("<i4", "(3,)", bytemuck::cast_slice(&[0i32, 1, 3]))),
        ("data", array("<f4", "(3,)", bytemuck::cast_slice(&[1f32, 2.0, 3.0]))),
    ]
}

fn zip(path: &Path, entries: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn npz_files() {
    let ints = |values: &[i32]| array("<i4", &format!("({},)", values.len()), bytemuck::cast_slice(values));
    let longs = |values: &[i64]| array("<i8", &format!("({},)", values.len()), bytemuck::cast_slice(values));
    let table: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("unknown format", "format", array("|S3", "()", b"dok"), "tensor format: \"dok\" is not read"),
        (
            "blocks without values of blocks",
            "format",
            array("|S3", "()", b"bsr"),
            "shape [3], but 3 dimensions",
        ),
        ("diagonals without them", "format", array("|S3", "()", b"dia"), "shape [3], but 2 dimensions"),
        ("format that is no text", "format", array("<f4", "()", &[0; 4]), "text is needed"),
        ("three sizes", "shape", longs(&[2, 3, 4]), "tensor shape: 3 dimensions, but one or two"),
        ("no size", "shape", longs(&[]), "tensor shape: 0 dimensions, but one or two"),
        ("negative size", "shape", longs(&[-2, 3]), "tensor shape: element 0: -2 is not between"),
        ("size past u32", "shape", longs(&[1 << 40, 3]), "tensor shape: element 0: 1099511627776"),
        (
            "shape of floats",
            "shape",
            array("<f8", "(2,)", &[0; 16]),
            "tensor shape: element type F64, but integers",
        ),
        (
            "column outside",
            "indices",
            ints(&[1, 3, 2]),
            "tensor indices: element 1: 3 is not between 0 and 2",
        ),
        (
            "negative column",
            "indices",
            ints(&[1, 0, -1]),
            "tensor indices: element 2: -1 is not between 0 and 2",
        ),
        ("column past u32", "indices", longs(&[1, 0, (1 << 32) + 1]), "element 2: 4294967297"),
        ("too few columns", "indices", ints(&[1, 0]), "tensor indices: indices: 2 elements, expected 3"),
        ("columns of floats", "indices", array("<f4", "(3,)", &[0; 12]), "integers are needed"),
        ("first pointer", "indptr", ints(&[1, 1, 3]), "tensor indptr: row pointer 0: 1, but the first is 0"),
        (
            "falling pointer",
            "indptr",
            ints(&[0, 3, 2]),
            "tensor indptr: row pointer 2: 2, but they never fall",
        ),
        (
            "pointer past the entries",
            "indptr",
            ints(&[0, 1, 4]),
            "tensor indptr: element 2: 4 is not between 0 and 3",
        ),
        ("too few pointers", "indptr", ints(&[0, 3]), "tensor indptr: indptr: 2 elements, expected 3"),
        (
            "too few values",
            "data",
            array("<f4", "(2,)", &[0; 8]),
            "tensor indices: indices: 3 elements, expected 2",
        ),
        ("values of two dimensions", "data", array("<f4", "(3, 1)", &[0; 12]), "tensor data: shape [3, 1]"),
        (
            "values of long doubles",
            "data",
            array("<f16", "(3,)", &[0; 48]),
            "tensor data: element type \"<f16\": a long",
        ),
        (
            "integers past f32",
            "data",
            longs(&[1, 2, 16_777_217]),
            "tensor data: element 2: 16777217 is too large for f32",
        ),
        ("values cut short", "data", array("<f4", "(3,)", &[0; 11]), "array data of shape [3] needs"),
        (
            "values that claim to be many",
            "data",
            array("<f4", "(1000000000,)", &[0; 12]),
            "array data of shape [1000000000] needs 4000000077 bytes, 89",
        ),
        (
            "values too large",
            "data",
            array("<f8", "(3,)", bytemuck::cast_slice(&[1.0, -1e39, 1.0])),
            "tensor data: element 1: -1e39 is too large",
        ),
        ("no array", "data", b"abc".to_vec(), "tensor data: the header of the array is cut short"),
    ];
    let (_dir, path) = scratch("bad.npz");
    let budget = Budget::unlimited();
    for (case, name, bytes, expected) in table {
        let entries: Vec<_> = archive()
            .into_iter()
            .map(|entry| if entry.0 == name { (name, bytes.clone()) } else { entry })
            .collect();
        zip(&path, &entries);
        assert_refused(read_npz::<f32>(&path, &budget), &path, expected, case);
        assert_eq!(budget.used(), 0, "{case}");
    }
    for missing in ["format", "shape", "indices", "indptr", "data"] {
        let entries: Vec<_> = archive().into_iter().filter(|entry| entry.0 != missing).collect();
        zip(&path, &entries);
        // Without a format it is an archive of any arrays.
        let expected = match missing {
            "format" => "save a dense one with numpy.save".to_owned(),
            _ => format!("there is no tensor {missing}"),
        };
        assert_refused(read_npz::<f32>(&path, &budget), &path, &expected, "an array missing");
    }
    zip(&path, &archive());
    assert!(read_npz::<f32>(&path, &budget).is_ok());
    assert_refused(read_npz::<f32>(&path, &Budget::new(20)), &path, "memory budget too small", "budget");

    // A bit that flips in the values is found by the archive's checksum.
    let good = std::fs::read(&path).unwrap();
    let written = bytemuck::bytes_of(&3f32);
    zip(&path, &archive());
    let stored: Vec<(&str, Vec<u8>)> = archive();
    let mut archive = zip::ZipWriter::new(std::fs::File::create(&path).unwrap());
    for (name, bytes) in stored {
        let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(&bytes).unwrap();
    }
    archive.finish().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).rposition(|window| window == written).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_refused(
        read_npz::<f32>(&path, &budget),
        &path,
        "tensor data: the archive is damaged",
        "a flipped bit",
    );
    assert_eq!(read_npz::<f32>(&path, &budget).unwrap_err().kind(), residua_memory::ErrorKind::Input);
    for end in [0, 3, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..end]).unwrap();
        assert_refused(read_npz::<f32>(&path, &budget), &path, "zip archive", "cut short");
    }
    // Damage of any kind (a broken stream, a wrong checksum or length, a name) is bad input, no failure to read.
    for at in 0..good.len() {
        for mask in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= mask;
            std::fs::write(&path, &bytes).unwrap();
            if let Err(error) = read_npz::<f32>(&path, &budget) {
                assert_eq!(error.kind(), residua_memory::ErrorKind::Input, "byte {at}: {error}");
            }
            assert_eq!(budget.used(), 0, "byte {at}");
        }
    }
}

/// An archive whose directory claims far more bytes than deflate can make is refused before memory is taken.
#[test]
fn npz_bomb() {
    let (_dir, path) = scratch("bomb.npz");
    let claimed = 3_000_000_000usize;
    let entries: Vec<_> = archive()
        .into_iter()
        .map(|entry| match entry.0 {
            "data" => ("data", array("<f4", &format!("({},)", claimed / 4), &[0; 100_000])),
            _ => entry,
        })
        .collect();
    zip(&path, &entries);
    let real = entries[4].1.len() as u32;
    let lie = real - 100_000 + claimed as u32;
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(4).position(|window| window == real.to_le_bytes()) {
        at += found;
        bytes[at..at + 4].copy_from_slice(&lie.to_le_bytes());
    }
    std::fs::write(&path, &bytes).unwrap();
    let budget = Budget::unlimited();
    assert_refused(read_npz::<f32>(&path, &budget), &path, "tensor data: 3000000076 bytes out of", "bomb");
    assert_eq!(budget.peak(), 8, "only the shape was read");
}

#[test]
fn matrix_market_files() {
    let general = |body: &str| format!("%%MatrixMarket matrix coordinate real general\n{body}");
    let banner = |words: &str, body: &str| format!("%%MatrixMarket matrix {words}\n{body}");
    let table = [
        ("empty", String::new(), "line 1: the file is empty"),
        ("no banner", "1 1 1\n1 1 1\n".into(), "line 1: no Matrix Market banner"),
        (
            "vector",
            "%%MatrixMarket vector coordinate real general\n".into(),
            "line 1: \"vector\" is not read",
        ),
        ("unknown format", banner("list real general", ""), "line 1: unknown format \"list\""),
        ("unknown field", banner("coordinate quaternion general", ""), "line 1: unknown field"),
        ("unknown symmetry", banner("coordinate real odd", ""), "line 1: unknown symmetry"),
        ("complex", banner("coordinate complex general", ""), "line 1: complex numbers are not read"),
        ("array of a pattern", banner("array pattern general", ""), "not a pattern"),
        (
            "symmetric array, not square",
            banner("array real symmetric", "3 2\n"),
            "a symmetric matrix of shape [3, 2]",
        ),
        (
            "symmetric array, too long",
            banner("array real symmetric", "1 1\n1\n2\n"),
            "more than the 1 values",
        ),
        ("symmetric array, too short", banner("array real symmetric", "2 2\n1\n2\n"), "after 2 of 3 values"),
        (
            "skew-symmetric array with a diagonal",
            banner("array real skew-symmetric", "2 2\n0\n1\n0\n"),
            "line 4: more than the 1 values",
        ),
        (
            "skew-symmetric without signs",
            banner("coordinate unsigned-integer skew-symmetric", ""),
            "are not unsigned integers",
        ),
        ("no sizes", general("% only a comment\n\n"), "the line of sizes is missing"),
        ("two sizes", general("3 3\n"), "line 2: the line of sizes needs 3 numbers"),
        ("four sizes", general("3 3 1 1\n"), "line 2: the line of sizes needs 3 numbers"),
        ("negative size", general("3 -3 1\n"), "line 2: the line of sizes needs 3 numbers"),
        ("rows past u32", general("4294967296 3 0\n"), "line 2: 4294967296 rows"),
        ("entries past 2^64", general("3 3 99999999999999999999\n"), "line 2: the line of sizes"),
        (
            "entries that the file cannot hold",
            general("3 3 4000000000\n1 1 1\n"),
            "line 2: 4000000000 entries in a file of",
        ),
        ("entries missing", general("3 3 2\n1 1 1\n"), "line 4: the file ends after 1 of 2 entries"),
        ("entries left over", general("3 3 1\n1 1 1\n2 2 2\n"), "line 4: more than the 1 entries"),
        ("row 0", general("3 3 1\n0 1 1\n"), "line 3: row 0 is not between 1 and 3"),
        ("row outside", general("3 3 1\n\n% a comment\n4 1 1\n"), "line 5: row 4 is not between 1 and 3"),
        ("column outside", general("3 3 1\r\n1 4 1\r\n"), "line 3: column 4 is not between 1 and 3"),
        ("negative column", general("3 3 1\n1 -1 1\n"), "line 3: column -1"),
        (
            "column past 2^64",
            general("3 3 1\n1 18446744073709551617 1\n"),
            "line 3: column 18446744073709551617",
        ),
        ("row that is no number", general("3 3 1\n1.0 1 1\n"), "line 3: row 1.0"),
        ("no value", general("3 3 1\n1 1\n"), "line 3: value missing"),
        ("no column", general("3 3 1\n1\n"), "line 3: column missing"),
        ("two values", general("3 3 1\n1 1 1 1\n"), "line 3: \"1\" follows the entry"),
        ("a word", general("3 3 1\n1 1 one\n"), "line 3: \"one\" is not a number"),
        ("NaN", general("3 3 1\n1 1 nan\n"), "line 3: nan is not finite"),
        ("infinity", general("3 3 1\n1 1 -inf\n"), "line 3: -inf is not finite"),
        ("past f64", general("3 3 1\n1 1 1e999\n"), "line 3: 1e999 is too large for f64"),
        ("below f64", general("3 3 1\n1 1 1e-999\n"), "line 3: 1e-999 is too small for f64"),
        (
            "past i64",
            banner("coordinate integer general", "3 3 1\n1 1 9223372036854775808\n"),
            "line 3: 9223372036854775808 is too large for an integer of 64 bits",
        ),
        (
            "integer past f32",
            banner("array integer general", "1 1\n16777217\n"),
            "line 3: 16777217 is too large for f32 to hold it exactly",
        ),
        ("past f32", general("3 3 1\n1 1 1e39\n"), "line 3: 1e39 is too large for f32"),
        (
            "fraction among integers",
            banner("coordinate integer general", "3 3 1\n1 1 1.5\n"),
            "line 3: \"1.5\"",
        ),
        (
            "value in a pattern",
            banner("coordinate pattern general", "3 3 1\n1 1 1\n"),
            "line 3: \"1\" follows",
        ),
        (
            "symmetric, not square",
            banner("coordinate real symmetric", "3 4 0\n"),
            "line 2: a symmetric matrix of shape [3, 4]",
        ),
        (
            "skew with a diagonal",
            banner("coordinate real skew-symmetric", "3 3 1\n2 2 1\n"),
            "line 3: a skew-symmetric matrix has 0 on its diagonal, not 1",
        ),
        (
            "array cut short",
            banner("array real general", "2 2\n1\n2\n3\n"),
            "the file ends after 3 of 4 values",
        ),
        ("array left over", banner("array real general", "1 1\n1\n2\n"), "line 4: more than the 1 values"),
        ("array of pairs", banner("array real general", "1 2\n1 2\n3\n"), "line 3: more than one value"),
        (
            "array that the file cannot hold",
            banner("array real general", "4294967296 4294967296\n"),
            "line 2: [4294967296, 4294967296]",
        ),
        ("endless line", general(&"1".repeat(70_000)), "line 2: longer than 65536 bytes"),
    ];
    let (_dir, path) = scratch("bad.mtx");
    let budget = Budget::unlimited();
    for (case, text, expected) in table {
        std::fs::write(&path, text).unwrap();
        assert_refused(read_mtx::<f32>(&path, &budget), &path, expected, case);
        assert_eq!(budget.used(), 0, "{case}");
    }
    // What looks odd but is right: any case, CRLF, blank lines, comments, a Fortran exponent, no last line feed.
    let odd = "%%matrixmarket MATRIX Coordinate REAL General\r\n% c\r\n\r\n 2\t2 2 \r\n\r\n1 2 1.5D+1\r\n% c\r\n2 1 +.5";
    std::fs::write(&path, odd).unwrap();
    let FileMatrix::Coo(coo) = read_mtx::<f32>(&path, &Budget::new(24)).unwrap().into_inner() else {
        panic!("triplets expected")
    };
    assert_eq!(
        (coo.row_indices(), coo.col_indices(), coo.values()),
        (&[0, 1][..], &[1, 0][..], &[15.0, 0.5][..])
    );
    assert_refused(read_mtx::<f32>(&path, &Budget::new(23)), &path, "memory budget too small", "budget");

    // No rows: the number of columns costs no time.
    std::fs::write(&path, "%%MatrixMarket matrix array real general\n0 4294967295\n").unwrap();
    let FileMatrix::Dense(empty) = read_mtx::<f32>(&path, &budget).unwrap().into_inner() else {
        panic!("an array");
    };
    assert_eq!(empty.shape(), [0, 4_294_967_295]);
}

#[test]
fn writers_refuse_what_their_format_cannot_hold() {
    let (dir, path) = scratch("old.mtx");
    std::fs::write(&path, b"old").unwrap();
    let coo = residua_format::Coo::<f32>::new(1, 2, vec![0, 0], vec![0, 1], vec![1.0, f32::NAN]).unwrap();
    assert_refused(write_mtx_coo(&path, &coo), &path, "row 0, column 1: NaN is not a finite number", "NaN");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "temporary files are left");
}

/// Every reader says at once that it does not read a pipe, which it would wait for without end.
#[cfg(unix)]
#[test]
fn a_pipe_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let budget = Budget::unlimited();
    let path = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_refused(read_npy::<f32>(&path, &budget), &path, "not a regular file", "npy");
    assert_refused(NpyFile::open(&path), &path, "not a regular file", "npy by rows");
    assert_refused(read_npz::<f32>(&path, &budget), &path, "not a regular file", "npz");
    assert_refused(read_mtx::<f32>(&path, &budget), &path, "not a regular file", "mtx");
    assert_refused(Checkpoint::open(&path), &path, "not a regular file", "checkpoint");
    assert_refused(Container::open(&path), &path, "not a regular file", "container");
    let index = dir.path().join("pipe.json");
    std::fs::rename(&path, &index).unwrap();
    assert_refused(Checkpoint::open(&index), &index, "not a regular file", "index");
}
