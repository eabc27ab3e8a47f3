//! Failures become errors that say what failed and why. The process survives, and the backend can be opened again.
//!
//! Tests that need a device are ignored by name when there is none.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_wgpu::{AdapterInfo, WgpuBackend, WgpuOptions, adapters};
use residua_format::convert::csr_to_gap;
use residua_format::{BaseKind, Csr, DenseMatrix, DenseValues, QuantizedBase, ValueType};
use residua_memory::Budget;

type Outcome = Result<(), Failed>;
/// A test by name.
type Case = (&'static str, fn() -> Outcome);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let cases: [Case; 10] = [
        ("devices by their ids", devices_by_id),
        ("an adapter by a wrong name", wrong_name),
        ("an adapter by a wrong number", wrong_number),
        ("a row beyond the binding limit", row_too_large),
        ("a base's row beyond the binding limit", base_row_too_large),
        ("a vector beyond the binding limit", vector_too_large),
        ("an operand of another device", foreign),
        ("values of 16 bits without the device's own", halves),
        ("a lost device, opened again", lost),
        ("a device lost with work queued", lost_with_work),
    ];
    let adapters = adapters();
    // Only a device in software takes its memory from the process, and only on Linux can that be limited here.
    let own_memory = cfg!(target_os = "linux") && adapters.first().is_some_and(AdapterInfo::is_software);
    let mut trials: Vec<Trial> =
        cases.into_iter().map(|(name, run)| trial(name, run, !adapters.is_empty(), "adapter")).collect();
    trials.push(trial(REFUSED, out_of_memory, own_memory, "software adapter"));
    // Elsewhere drivers are part of the system; the choice itself is tested where it is made.
    trials.push(trial(NONE, no_adapter, cfg!(target_os = "linux"), "Vulkan loader"));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Names of the tests that run in a separate process.
const REFUSED: &str = "memory that the device refuses";
const NONE: &str = "no adapter at all";

/// A test, or its name as skipped.
fn trial(name: &str, run: fn() -> Outcome, runs: bool, needed: &str) -> Trial {
    match runs {
        true => Trial::test(name, run),
        false => {
            Trial::test(name, || Ok(())).with_kind(format!("skipped, no {needed}")).with_ignored_flag(true)
        }
    }
}

fn open() -> Result<WgpuBackend, BackendError> {
    WgpuBackend::open(&WgpuOptions::default(), &Budget::unlimited())
}

fn open_adapter(adapter: &str) -> Result<WgpuBackend, BackendError> {
    WgpuBackend::open(&WgpuOptions::default().adapter(adapter), &Budget::unlimited())
}

fn small_bindings(bytes: u64) -> Result<WgpuBackend, BackendError> {
    WgpuBackend::open(&WgpuOptions::default().binding_limit(bytes), &Budget::unlimited())
}

/// Fails unless a product on `backend` is right.
fn works(backend: &WgpuBackend) -> Outcome {
    let a = backend.upload_csr(&Csr::new(2, 2, vec![0, 1, 2], vec![0, 1], vec![2.0, 3.0])?)?;
    let x = backend.upload_vector(&[10.0, 20.0], VectorShape { len: 2, batch: 1 })?;
    let mut y = backend.zeros(VectorShape { len: 2, batch: 1 })?;
    backend.spmv(1.0, &a, &x, 0.0, &mut y)?;
    let found = backend.download(&y)?;
    if found == [20.0, 60.0] { Ok(()) } else { Err(format!("{found:?}").into()) }
}

/// Fails unless `result` is an error of a kind, on one line that holds all of `words`.
fn refused<T>(result: Result<T, BackendError>, kind: fn(&BackendError) -> bool, words: &[&str]) -> Outcome {
    let Err(error) = result else { return Err("it was not refused".into()) };
    let text = error.to_string();
    if kind(&error) && words.iter().all(|word| text.contains(word)) && !text.contains('\n') {
        return Ok(());
    }
    Err(format!("{error:?}: {text:?} lacks some of {words:?}, or is of another kind").into())
}

/// Runs in a process that sees no adapter.
fn no_adapter() -> Outcome {
    const CHILD: &str = "RESIDUA_TEST_NO_ADAPTER";
    if std::env::var_os(CHILD).is_some() {
        let kind = |error: &BackendError| matches!(error, BackendError::Unavailable { .. });
        return refused(open(), kind, &["wgpu is not available", "Vulkan", "mesa-vulkan-drivers"]);
    }
    // The Vulkan loader takes its drivers from here alone.
    child(
        std::process::Command::new(std::env::current_exe()?)
            .args(["--exact", NONE])
            .env(CHILD, "1")
            .env("VK_DRIVER_FILES", "/nonexistent.json")
            .env("VK_ICD_FILENAMES", "/nonexistent.json"),
    )
}

fn devices_by_id() -> Outcome {
    for (device, adapter) in WgpuBackend::devices().iter().zip(adapters()) {
        let number = device.id.strip_prefix("wgpu:").ok_or("an id without its backend")?;
        let opened = open_adapter(number)?;
        if opened.adapter() != &adapter || device.name != adapter.name {
            return Err(format!("{device} opens {:?}", opened.adapter()).into());
        }
        if device.software != adapter.is_software() {
            return Err(format!("{device} is of kind {}", adapter.kind).into());
        }
    }
    Ok(())
}

fn wrong_name() -> Outcome {
    let there = &adapters()[0].name;
    refused(
        open_adapter("voodoo 2"),
        |e| matches!(e, BackendError::NoSuchDevice { .. }),
        &["voodoo 2", there],
    )
}

fn wrong_number() -> Outcome {
    refused(open_adapter("99"), |e| matches!(e, BackendError::NoSuchDevice { .. }), &["99"])
}

fn is_limit(error: &BackendError) -> bool {
    matches!(error, BackendError::DeviceLimit { .. })
}

fn row_too_large() -> Outcome {
    let backend = small_bindings(64 << 10)?;
    let row = |entries: u32| {
        let columns: Vec<u32> = (0..entries).collect();
        Csr::new(3, 1 << 20, vec![0, 0, entries, entries], columns, vec![1.0f32; entries as usize])
    };
    let large = row(20_000)?;
    refused(backend.upload_csr(&large), is_limit, &["row 1 with 20000 entries", "100000", "65536"])?;
    refused(backend.upload_plain_csr(&large), is_limit, &["row 1 with 20000 entries", "80000", "65536"])?;
    backend.upload_csr(&row(10_000)?)?;
    works(&backend)
}

fn base_row_too_large() -> Outcome {
    let backend = small_bindings(64 << 10)?;
    let base = |cols: usize| {
        let codes = vec![0u8; 2 * BaseKind::Int8.row_bytes(cols)];
        QuantizedBase::new(2, cols, BaseKind::Int8, codes[..].into(), [1.0f32; 2][..].into())
    };
    refused(backend.upload_base(&base(65_537)?), is_limit, &["65537 columns", "65540", "65536"])?;
    backend.upload_base(&base(65_536)?)?;
    let dense = |cols: usize| {
        let values = vec![half::bf16::ONE; 2 * cols];
        DenseMatrix::new(2, cols, DenseValues::Bf16(values[..].into()))
    };
    refused(backend.upload_dense(&dense(32_769)?), is_limit, &["32769 columns", "65540", "65536"])?;
    backend.upload_dense(&dense(32_768)?)?;
    works(&backend)
}

fn vector_too_large() -> Outcome {
    let backend = small_bindings(64 << 10)?;
    let is_large = |error: &BackendError| matches!(error, BackendError::TooLarge { .. });
    refused(backend.zeros(VectorShape { len: 16_385, batch: 1 }), is_large, &["[16385, 1]", "16384 values"])?;
    refused(backend.zeros(VectorShape { len: 8192, batch: 3 }), is_large, &["[8192, 3]", "16384 values"])?;
    backend.zeros(VectorShape { len: 16_384, batch: 1 })?;
    works(&backend)
}

/// Runs in a process to which the operating system gives little memory.
fn out_of_memory() -> Outcome {
    const CHILD: &str = "RESIDUA_TEST_OUT_OF_MEMORY";
    if std::env::var_os(CHILD).is_some() {
        return fill_memory();
    }
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "ulimit -v 4000000; exec \"$0\" --exact \"$1\""]);
    child(command.arg(std::env::current_exe()?).arg(REFUSED).env(CHILD, "1"))
}

fn fill_memory() -> Outcome {
    let budget = Budget::new(1 << 40);
    let backend = WgpuBackend::open(&WgpuOptions::default(), &budget)?;
    works(&backend)?;
    let values = backend.adapter().binding_limit.min(64 << 20) as usize / 4;
    let mut held = Vec::new();
    let error = loop {
        let used = budget.used();
        match backend.zeros(VectorShape { len: values, batch: 1 }) {
            Ok(_) if held.len() > 200 => return Err("12 GiB were found in 4".into()),
            Ok(vector) => held.push(vector),
            // Nothing stays reserved for what was refused.
            Err(error) if budget.used() == used => break error,
            Err(error) => {
                return Err(format!("{error}: {} bytes are still held", budget.used() - used).into());
            }
        }
    };
    let is_memory = |error: &BackendError| matches!(error, BackendError::OutOfMemory { .. });
    refused::<()>(Err(error), is_memory, &[&format!("{} bytes for a vector", 4 * values)])?;
    drop(held);
    works(&backend)?;
    works(&open()?)
}

/// Fails unless the test in another process passed.
fn child(command: &mut std::process::Command) -> Outcome {
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() && text(&output.stdout).contains("1 passed") {
        return Ok(());
    }
    Err(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}

/// The backend requests no feature for 16-bit floats, so no device can lack it.
fn halves() -> Outcome {
    let backend = open()?;
    let features = backend.wgpu().0.features();
    if features.contains(residua_backend_wgpu::wgpu::Features::SHADER_F16) {
        return Err("16-bit floats were requested".into());
    }
    let csr = Csr::new(1, 3, vec![0, 3], vec![0, 1, 2], vec![0.5f32, -2.0, 65504.0])?;
    for value_type in [ValueType::F16, ValueType::Bf16] {
        let gap = csr_to_gap(&csr, value_type)?;
        let a = backend.upload(&gap)?;
        let x = backend.upload_vector(&[4.0, 1.5, 0.0], VectorShape { len: 3, batch: 1 })?;
        let mut y = backend.zeros(VectorShape { len: 1, batch: 1 })?;
        backend.spmv(1.0, &a, &x, 0.0, &mut y)?;
        let found = backend.download(&y)?;
        if found != [-1.0] {
            return Err(format!("{value_type}: {found:?}").into());
        }
    }
    Ok(())
}

fn foreign() -> Outcome {
    let (one, other) = (open()?, open()?);
    let a = one.upload_csr(&Csr::empty(2, 2))?;
    let (x, mut y) =
        (other.zeros(VectorShape { len: 2, batch: 1 })?, other.zeros(VectorShape { len: 2, batch: 1 })?);
    let is_foreign = |error: &BackendError| matches!(error, BackendError::Foreign { .. });
    refused(other.spmv(1.0, &a, &x, 0.0, &mut y), is_foreign, &["the matrix", "upload it here"])?;
    refused(one.spmv(1.0, &a, &x, 0.0, &mut y), is_foreign, &["x is held"])?;
    refused(one.download(&y), is_foreign, &["the vector"])?;
    works(&one)
}

fn is_lost(error: &BackendError) -> bool {
    matches!(error, BackendError::DeviceLost { .. })
}

fn lost() -> Outcome {
    let backend = open()?;
    works(&backend)?;
    let a = backend.upload_csr(&Csr::new(1, 1, vec![0, 1], vec![0], vec![1.0f32])?)?;
    let (x, mut y) =
        (backend.zeros(VectorShape { len: 1, batch: 1 })?, backend.zeros(VectorShape { len: 1, batch: 1 })?);
    backend.wgpu().0.destroy();
    let words = ["the device is lost", "open the backend again"];
    refused(backend.synchronize(), is_lost, &words)?;
    refused(backend.upload_vector(&[1.0], VectorShape { len: 1, batch: 1 }), is_lost, &words)?;
    refused(backend.spmv(1.0, &a, &x, 0.0, &mut y), is_lost, &words)?;
    refused(backend.download(&y), is_lost, &words)?;
    refused(backend.time(|| Ok(())), is_lost, &words)?;
    drop((a, x, y, backend));
    works(&open()?)
}

fn lost_with_work() -> Outcome {
    let backend = open()?;
    let a = backend.upload_csr(&Csr::new(1, 1, vec![0, 1], vec![0], vec![1.0f32])?)?;
    let (x, mut y) = (
        backend.upload_vector(&[1.0], VectorShape { len: 1, batch: 1 })?,
        backend.zeros(VectorShape { len: 1, batch: 1 })?,
    );
    for _ in 0..10 {
        backend.spmv(1.0, &a, &x, 1.0, &mut y)?;
    }
    backend.wgpu().0.destroy();
    refused(backend.download(&y), is_lost, &["the device is lost"])?;
    works(&open()?)
}
