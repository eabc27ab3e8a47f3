//! cuSPARSE and cuBLAS on the same device, through their C interfaces, where their libraries are installed.
//!
//! Descriptors and handles live until the process ends; memory is given back.
#![allow(clippy::undocumented_unsafe_blocks)] // All of this is calls of C functions with what was made for them just above.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;
use std::time::Instant;

use cudarc::driver::result;
use cudarc::driver::sys::{CUdeviceptr, CUgraphInstantiate_flags, CUstream, CUstreamCaptureMode};
use cudarc::{cublas::sys as cublas, cusparse::sys as cusparse};
use residua_format::Csr;

use super::Result;
use super::timing::Sequence;

/// Bytes of each end of a copy that measures bandwidth.
const COPY: usize = 512 << 20;

pub(crate) struct Peers {
    stream: CUstream,
    cusparse: Option<cusparse::cusparseHandle_t>,
    cublas: Option<cublas::cublasHandle_t>,
}

/// A contestant's name, and whether it runs `cold` or `warm`.
pub(crate) type Name = (String, &'static str);

/// Memory of the device.
struct Memory(CUdeviceptr);

impl Memory {
    fn new(bytes: usize) -> Result<Self> {
        Ok(Self(unsafe { result::malloc_sync(bytes.max(1)) }?))
    }

    fn filled(bytes: usize) -> Result<Self> {
        let memory = Self::new(bytes)?;
        // bf16 numbers of about 0.01.
        unsafe { result::memset_d8_sync(memory.0, 0x3C, bytes) }?;
        Ok(memory)
    }

    fn from_slice<T>(values: &[T]) -> Result<Self> {
        let memory = Self::new(size_of_val(values))?;
        unsafe { result::memcpy_htod_sync(memory.0, values) }?;
        Ok(memory)
    }

    fn pointer(&self) -> *mut c_void {
        self.0 as *mut c_void
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = unsafe { result::free_sync(self.0) };
    }
}

fn sparse(call: &str, status: cusparse::cusparseStatus_t) -> Result {
    match status {
        cusparse::cusparseStatus_t::CUSPARSE_STATUS_SUCCESS => Ok(()),
        other => Err(format!("{call}: {other:?}").into()),
    }
}

fn dense(call: &str, status: cublas::cublasStatus_t) -> Result {
    match status {
        cublas::cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
        other => Err(format!("{call}: {other:?}").into()),
    }
}

impl Peers {
    pub(crate) fn open(device: usize) -> Result<Self> {
        let device = result::device::get(i32::try_from(device)?)?;
        let context = unsafe { result::primary_ctx::retain(device) }?;
        unsafe { result::ctx::set_current(context) }?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)?;
        let mut peers = Self { stream, cusparse: None, cublas: None };
        if unsafe { cusparse::is_culib_present() } {
            let mut handle = null_mut();
            sparse("cusparseCreate", unsafe { cusparse::cusparseCreate(&mut handle) })?;
            sparse("cusparseSetStream", unsafe { cusparse::cusparseSetStream(handle, stream.cast()) })?;
            peers.cusparse = Some(handle);
        }
        if unsafe { cublas::is_culib_present() } {
            let mut handle = null_mut();
            dense("cublasCreate", unsafe { cublas::cublasCreate_v2(&mut handle) })?;
            dense("cublasSetStream", unsafe { cublas::cublasSetStream_v2(handle, stream.cast()) })?;
            peers.cublas = Some(handle);
        }
        Ok(peers)
    }

    pub(crate) fn absent(&self) -> Vec<String> {
        let both = [("cuSPARSE", self.cusparse.is_none()), ("cuBLAS", self.cublas.is_none())];
        both.into_iter().filter(|(_, absent)| *absent).map(|(name, _)| name.to_owned()).collect()
    }

    /// Bytes per second that a copy reads and writes.
    pub(crate) fn copy_bandwidth(&self) -> Result<f64> {
        let (from, to) = (Memory::filled(COPY)?, Memory::new(COPY)?);
        let mut best = 0f64;
        for _ in 0..10 {
            let start = Instant::now();
            for _ in 0..10 {
                unsafe { result::memcpy_dtod_async(to.0, from.0, COPY, self.stream) }?;
            }
            unsafe { result::stream::synchronize(self.stream) }?;
            best = best.max(20.0 * COPY as f64 / start.elapsed().as_secs_f64());
        }
        Ok(best)
    }

    /// `Y = A·X` by everyone who is here, cold and warm.
    pub(crate) fn products(
        &self,
        csr: &Csr<f32, u32>,
        batch: usize,
        x: &[f32],
        cold_bytes: usize,
        warm_launches: usize,
    ) -> Result<Vec<(Name, Sequence<'_>)>> {
        let mut sequences = Vec::new();
        if let Some(handle) = self.cusparse {
            let bytes = csr.nnz() * 8 + (csr.rows() + 1) * 4;
            let copies = cold_bytes.div_ceil(bytes.max(1)).clamp(1, 128);
            let all =
                (0..copies).map(|_| SparseProduct::new(handle, csr, batch, x)).collect::<Result<Vec<_>>>()?;
            self.both(&mut sequences, "cuSPARSE CSR f32", all, warm_launches)?;
        }
        if let Some(handle) = self.cublas {
            let bytes = csr.rows() * csr.cols() * 2;
            let copies = cold_bytes.div_ceil(bytes.max(1)).clamp(1, 16);
            let all = (0..copies)
                .map(|_| DenseProduct::new(handle, [csr.rows(), csr.cols()], batch))
                .collect::<Result<Vec<_>>>()?;
            self.both(&mut sequences, "cuBLAS dense bf16", all, warm_launches)?;
        }
        Ok(sequences)
    }

    /// One sequence over all copies, one over the first again and again.
    fn both<P: Product + 'static>(
        &self,
        sequences: &mut Vec<(Name, Sequence<'_>)>,
        name: &str,
        copies: Vec<P>,
        warm_launches: usize,
    ) -> Result {
        let copies = Rc::new(copies);
        for (mode, launches) in [("cold", copies.len()), ("warm", warm_launches)] {
            let launch = |i: usize| copies[if mode == "cold" { i } else { 0 }].launch();
            let graph = self.capture(|| (0..launches).try_for_each(launch))?;
            let (stream, held) = (self.stream, copies.clone());
            let run = Box::new(move || {
                let _ = &held;
                unsafe { result::graph::launch(graph, stream) }?;
                Ok(unsafe { result::stream::synchronize(stream) }?)
            });
            sequences.push(((name.to_owned(), mode), Sequence { launches, run }));
        }
        Ok(())
    }

    fn capture(&self, work: impl FnOnce() -> Result) -> Result<cudarc::driver::sys::CUgraphExec> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        unsafe { result::stream::begin_capture(self.stream, mode) }?;
        let worked = work();
        let graph = unsafe { result::stream::end_capture(self.stream) };
        worked?;
        Ok(unsafe { result::graph::instantiate(graph?, CUgraphInstantiate_flags(0)) }?)
    }
}

trait Product {
    fn launch(&self) -> Result;
}

/// cusparseSpMV or cusparseSpMM, f32 values and 32-bit indices, preprocessed where the library can.
struct SparseProduct {
    handle: cusparse::cusparseHandle_t,
    matrix: cusparse::cusparseSpMatDescr_t,
    /// Vectors, or matrices of several.
    x: *mut c_void,
    y: *mut c_void,
    batch: usize,
    work: Memory,
    _held: Vec<Memory>,
}

const ONE: f32 = 1.0;
const ZERO: f32 = 0.0;

fn scalar(value: &'static f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

impl SparseProduct {
    fn new(handle: cusparse::cusparseHandle_t, csr: &Csr<f32, u32>, batch: usize, x: &[f32]) -> Result<Self> {
        use cusparse::cusparseIndexType_t::CUSPARSE_INDEX_32I as INDEX;
        use cusparse::{cudaDataType_t::CUDA_R_32F as F32, cusparseOrder_t::CUSPARSE_ORDER_ROW as ROW};
        let (rows, cols, nnz) = (csr.rows() as i64, csr.cols() as i64, csr.nnz() as i64);
        let row_ptr = Memory::from_slice(csr.row_ptr())?;
        let columns = Memory::from_slice(csr.col_indices())?;
        let values = Memory::from_slice(csr.values())?;
        let (x_here, y_here) = (Memory::from_slice(x)?, Memory::new(csr.rows() * batch * 4)?);
        let mut matrix = null_mut();
        let pointers = [&row_ptr, &columns, &values].map(Memory::pointer);
        let zero = cusparse::cusparseIndexBase_t::CUSPARSE_INDEX_BASE_ZERO;
        sparse("cusparseCreateCsr", unsafe {
            let [row_ptr, columns, values] = pointers;
            cusparse::cusparseCreateCsr(
                &mut matrix,
                rows,
                cols,
                nnz,
                row_ptr,
                columns,
                values,
                INDEX,
                INDEX,
                zero,
                F32,
            )
        })?;
        let descriptor = |rows: i64, memory: &Memory| -> Result<*mut c_void> {
            if batch == 1 {
                let mut vector = null_mut();
                sparse("cusparseCreateDnVec", unsafe {
                    cusparse::cusparseCreateDnVec(&mut vector, rows, memory.pointer(), F32)
                })?;
                return Ok(vector.cast());
            }
            let (mut dense, batch) = (null_mut(), batch as i64);
            sparse("cusparseCreateDnMat", unsafe {
                cusparse::cusparseCreateDnMat(&mut dense, rows, batch, batch, memory.pointer(), F32, ROW)
            })?;
            Ok(dense.cast())
        };
        let (x, y) = (descriptor(cols, &x_here)?, descriptor(rows, &y_here)?);
        let held = vec![row_ptr, columns, values, x_here, y_here];
        let mut product = Self { handle, matrix, x, y, batch, work: Memory(0), _held: held };
        product.prepare()?;
        Ok(product)
    }

    fn prepare(&mut self) -> Result {
        use cusparse::cudaDataType_t::CUDA_R_32F as F32;
        use cusparse::cusparseOperation_t::CUSPARSE_OPERATION_NON_TRANSPOSE as PLAIN;
        let (mut bytes, one, zero) = (0, scalar(&ONE), scalar(&ZERO));
        let (handle, matrix) = (self.handle, self.matrix.cast_const());
        if self.batch == 1 {
            let (x, y) = (self.x.cast_const().cast(), self.y.cast());
            sparse("cusparseSpMV_bufferSize", unsafe {
                cusparse::cusparseSpMV_bufferSize(
                    handle, PLAIN, one, matrix, x, zero, y, F32, SPMV, &mut bytes,
                )
            })?;
            self.work = Memory::new(bytes)?;
            // Newer than the bindings, with the same parameters as the product.
            type Preprocess = unsafe extern "C" fn(
                cusparse::cusparseHandle_t,
                cusparse::cusparseOperation_t,
                *const c_void,
                cusparse::cusparseConstSpMatDescr_t,
                cusparse::cusparseConstDnVecDescr_t,
                *const c_void,
                cusparse::cusparseDnVecDescr_t,
                cusparse::cudaDataType,
                cusparse::cusparseSpMVAlg_t,
                *mut c_void,
            ) -> cusparse::cusparseStatus_t;
            let preprocess = unsafe { cusparse::culib().get::<Preprocess>(b"cusparseSpMV_preprocess\0") };
            if let Ok(preprocess) = preprocess {
                let work = self.work.pointer();
                sparse("cusparseSpMV_preprocess", unsafe {
                    preprocess(handle, PLAIN, one, matrix, x, zero, y, F32, SPMV, work)
                })?;
            }
            return Ok(());
        }
        let (x, y) = (self.x.cast_const().cast(), self.y.cast());
        sparse("cusparseSpMM_bufferSize", unsafe {
            cusparse::cusparseSpMM_bufferSize(
                handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, SPMM, &mut bytes,
            )
        })?;
        self.work = Memory::new(bytes)?;
        let work = self.work.pointer();
        sparse("cusparseSpMM_preprocess", unsafe {
            cusparse::cusparseSpMM_preprocess(handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, SPMM, work)
        })
    }
}

const SPMV: cusparse::cusparseSpMVAlg_t = cusparse::cusparseSpMVAlg_t::CUSPARSE_SPMV_ALG_DEFAULT;
/// The one that the library recommends for row-major operands.
const SPMM: cusparse::cusparseSpMMAlg_t = cusparse::cusparseSpMMAlg_t::CUSPARSE_SPMM_CSR_ALG2;

impl Product for SparseProduct {
    fn launch(&self) -> Result {
        use cusparse::cudaDataType_t::CUDA_R_32F as F32;
        use cusparse::cusparseOperation_t::CUSPARSE_OPERATION_NON_TRANSPOSE as PLAIN;
        let (one, zero, work) = (scalar(&ONE), scalar(&ZERO), self.work.pointer());
        let (handle, matrix) = (self.handle, self.matrix.cast_const());
        if self.batch == 1 {
            let (x, y) = (self.x.cast_const().cast(), self.y.cast());
            return sparse("cusparseSpMV", unsafe {
                cusparse::cusparseSpMV(handle, PLAIN, one, matrix, x, zero, y, F32, SPMV, work)
            });
        }
        let (x, y) = (self.x.cast_const().cast(), self.y.cast());
        sparse("cusparseSpMM", unsafe {
            cusparse::cusparseSpMM(handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, SPMM, work)
        })
    }
}

/// cublasGemmEx on bf16 with f32 sums, of the matrix with all its zeros.
struct DenseProduct {
    handle: cublas::cublasHandle_t,
    shape: [i32; 2],
    batch: i32,
    matrix: Memory,
    x: Memory,
    y: Memory,
}

impl DenseProduct {
    fn new(handle: cublas::cublasHandle_t, [rows, cols]: [usize; 2], batch: usize) -> Result<Self> {
        let product = Self {
            handle,
            shape: [i32::try_from(rows)?, i32::try_from(cols)?],
            batch: i32::try_from(batch)?,
            matrix: Memory::filled(rows * cols * 2)?,
            x: Memory::filled(cols * batch * 2)?,
            y: Memory::new(rows * batch * 4)?,
        };
        // The first call sets up what must not be set up while a graph is captured.
        product.launch()?;
        Ok(product)
    }
}

impl Product for DenseProduct {
    fn launch(&self) -> Result {
        use cublas::cublasOperation_t::CUBLAS_OP_T as TRANSPOSED;
        use cublas::{cublasComputeType_t::CUBLAS_COMPUTE_32F, cublasGemmAlgo_t::CUBLAS_GEMM_DFALT};
        use cublas::{cudaDataType_t::CUDA_R_16BF as BF16, cudaDataType_t::CUDA_R_32F as F32};
        let ([rows, cols], batch) = (self.shape, self.batch);
        // Row-major operands are column-major ones transposed.
        dense("cublasGemmEx", unsafe {
            cublas::cublasGemmEx(
                self.handle,
                TRANSPOSED,
                TRANSPOSED,
                rows,
                batch,
                cols,
                scalar(&ONE),
                self.matrix.pointer(),
                BF16,
                cols,
                self.x.pointer(),
                BF16,
                batch,
                scalar(&ZERO),
                self.y.pointer(),
                F32,
                rows,
                CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DFALT,
            )
        })
    }
}
