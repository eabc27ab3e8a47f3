//! Containers through the C interface: the same numbers as through the library.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::ffi::{CStr, CString};
use std::ptr::null_mut;

use residua::backend::{Backend, VectorShape};
use residua::cpu::{CpuBackend, CpuOptions};
use residua::format::file::{Container, Dtype, SafetensorsWriter};
use residua::memory::Budget;
use residua::split::{NoProgress, Output, SplitOptions, split};
use residua_capi::*;

fn last() -> String {
    // SAFETY: a terminated string that lives until this thread's next failure.
    unsafe { CStr::from_ptr(residua_last_error()) }.to_str().unwrap().to_owned()
}

#[test]
fn a_layer_of_a_file_runs_on_a_backend() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (folder.path().join("model.safetensors"), folder.path().join("split.safetensors"));
    let weights: Vec<u8> =
        (0..48 * 80).flat_map(|i| ((i * 7919 % 513) as f32 / 256.0 - 1.0).to_le_bytes()).collect();
    let mut writer = SafetensorsWriter::create(&model, 256).unwrap();
    writer.tensor("layer.weight", Dtype::F32, &[48, 80], &weights).unwrap();
    writer.finish().unwrap();
    let budget = Budget::new(64 << 20);
    let options = SplitOptions::default().density(0.05);
    split(&model, Output(&path), &options, &budget, &NoProgress).unwrap();

    // What the library says.
    let cpu = CpuBackend::open(&CpuOptions::default().threads(1), &Budget::unlimited()).unwrap();
    let file = Container::open(&path).unwrap();
    let base = cpu.upload_base(&file.read_base("layer.weight", &budget).unwrap()).unwrap();
    let residual = cpu.upload(&file.read_gap("layer.weight", &budget).unwrap()).unwrap();
    let input: Vec<f32> = (0..3 * 80).map(|i| (i % 11) as f32 - 5.0).collect();
    let by_column: Vec<f32> = (0..80 * 3).map(|at| input[at % 3 * 80 + at / 3]).collect();
    let (x, mut y) = (
        cpu.upload_vector(&by_column, VectorShape { len: 80, batch: 3 }).unwrap(),
        cpu.zeros(VectorShape { len: 48, batch: 3 }).unwrap(),
    );
    cpu.forward(&base, &residual, 0.5, &x, &mut y).unwrap();
    let expected = cpu.download(&y).unwrap();

    let c = |text: &str| CString::new(text).unwrap();
    let (path, name) = (c(path.to_str().unwrap()), c("layer.weight"));
    // SAFETY: strings are terminated, and the arrays as long as the calls say.
    unsafe {
        let file = residua_file_open(path.as_ptr());
        assert!(!file.is_null(), "{}", last());
        assert_eq!(residua_file_layer_count(file), 1);
        assert_eq!(CStr::from_ptr(residua_file_layer_name(file, 0)), &*name);
        assert!(residua_file_layer_name(file, 1).is_null());
        let (mut rows, mut cols, mut nnz) = (0, 0, 0);
        assert_eq!(residua_file_layer_size(file, name.as_ptr(), &mut rows, &mut cols, &mut nnz), 0);
        assert_eq!((rows, cols, nnz), (48, 80, 192));
        assert_eq!(residua_file_layer_size(file, name.as_ptr(), null_mut(), null_mut(), null_mut()), 0);

        let backend = residua_backend_open(c("cpu").as_ptr(), 1, 1 << 20);
        assert!(!backend.is_null(), "{}", last());
        assert!(residua_layer_open(file, c("other").as_ptr(), backend).is_null());
        assert!(last().contains("other"), "{}", last());
        let small = residua_backend_open(c("cpu").as_ptr(), 1, 100);
        assert!(residua_layer_open(file, name.as_ptr(), small).is_null());
        assert!(last().contains("100"), "{}", last());
        let layer = residua_layer_open(file, name.as_ptr(), backend);
        assert!(!layer.is_null(), "{}", last());
        // The layer needs neither any more.
        assert_eq!((residua_file_close(file), residua_backend_close(backend)), (0, 0));
        assert_eq!((residua_file_layer_count(file), residua_backend_close(small)), (0, 0));

        let mut output = [0.0; 3 * 48];
        assert_eq!(residua_layer_forward(layer, 0.5, input.as_ptr(), output.as_mut_ptr(), 3), 0);
        let by_row: Vec<f32> = (0..3 * 48).map(|at| expected[at % 48 * 3 + at / 48]).collect();
        assert_eq!(&output[..], by_row);
        assert_eq!(residua_layer_forward(layer, 0.5, null_mut(), null_mut(), 0), 0);
        assert_eq!((residua_layer_close(layer), residua_layer_close(layer)), (0, -1));
        assert_eq!(residua_layer_forward(layer, 0.5, input.as_ptr(), output.as_mut_ptr(), 3), -1);
    }
}
