//! cuSPARSE: `cusparseSpMV` and `cusparseSpMM` on CSR with f32 values and 32-bit indices. The matrix is preprocessed if the
//! library can, and the fastest of its algorithms on this device is used.
//!
//! Descriptors take a few words of host memory each and live until the process ends.

use std::ffi::c_void;
use std::ptr::null_mut;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use cudarc::cusparse::sys::{
    self, cudaDataType_t::CUDA_R_32F as F32, cusparseConstDnMatDescr_t, cusparseConstDnVecDescr_t,
    cusparseConstSpMatDescr_t, cusparseDnVecDescr_t, cusparseHandle_t,
    cusparseIndexBase_t::CUSPARSE_INDEX_BASE_ZERO, cusparseIndexType_t::CUSPARSE_INDEX_32I as INDEX,
    cusparseOperation_t::CUSPARSE_OPERATION_NON_TRANSPOSE as PLAIN, cusparseOrder_t::CUSPARSE_ORDER_ROW,
    cusparseSpMMAlg_t::*, cusparseSpMVAlg_t::*, cusparseStatus_t,
};
use cudarc::driver::{CudaSlice, CudaStream};
use residua_format::Csr;

use super::super::shared::check::is_product;
use super::{ONE, Product, Result, ZERO, pointer, scalar};

/// Number of launches that compare algorithms.
const TRIALS: usize = 20;

pub(super) struct Sparse {
    handle: cusparseHandle_t,
    stream: Arc<CudaStream>,
}

fn check(call: &str, status: cusparseStatus_t) -> Result {
    status.result().map_err(|error| format!("{call}: {:?}", error.0).into())
}

/// An algorithm of one of the two functions.
#[derive(Debug, Clone, Copy)]
enum Algorithm {
    Vector(sys::cusparseSpMVAlg_t),
    Matrix(sys::cusparseSpMMAlg_t),
}

impl Algorithm {
    fn all(batch: usize) -> Vec<Self> {
        if batch == 1 {
            return [CUSPARSE_SPMV_ALG_DEFAULT, CUSPARSE_SPMV_CSR_ALG1, CUSPARSE_SPMV_CSR_ALG2]
                .map(Self::Vector)
                .to_vec();
        }
        // X and Y are row-major like those of the backend. The second algorithm is made for this order.
        [CUSPARSE_SPMM_ALG_DEFAULT, CUSPARSE_SPMM_CSR_ALG1, CUSPARSE_SPMM_CSR_ALG2, CUSPARSE_SPMM_CSR_ALG3]
            .map(Self::Matrix)
            .to_vec()
    }
}

impl Sparse {
    pub(super) fn open(stream: &Arc<CudaStream>) -> Result<Self> {
        // SAFETY: only tries to open the library.
        if !unsafe { sys::is_culib_present() } {
            return Err("not present".into());
        }
        let handle = cudarc::cusparse::result::create().map_err(|error| format!("{:?}", error.0))?;
        // SAFETY: handle and stream live, the stream as long as this. The runtime's and the driver's streams are the same.
        check("cusparseSetStream", unsafe { sys::cusparseSetStream(handle, stream.cu_stream().cast()) })?;
        Ok(Self { handle, stream: stream.clone() })
    }

    /// The product with `copies` copies of the matrix and the fastest algorithm.
    pub(super) fn products(
        &self,
        csr: &Csr<f32, u32>,
        batch: usize,
        x: &[f32],
        copies: usize,
    ) -> Result<Vec<SparseProduct>> {
        let vectors = Rc::new(Vectors::new(&self.stream, [csr.rows(), csr.cols()], batch, x)?);
        let operands = Operands { matrix: Rc::new(Matrix::new(&self.stream, csr)?), vectors };
        let (mut best, mut refusals) = (None, Vec::new());
        for algorithm in Algorithm::all(batch) {
            match self.trial(&operands, algorithm, csr, x) {
                Ok(seconds) if best.is_some_and(|(least, _)| least <= seconds) => {}
                Ok(seconds) => best = Some((seconds, algorithm)),
                Err(error) => refusals.push(format!("{algorithm:?}: {error}")),
            }
        }
        let Some((_, algorithm)) = best else { return Err(refusals.join("; ").into()) };
        let mut products = vec![SparseProduct::new(self, operands.clone(), algorithm)?];
        for _ in 1..copies {
            let matrix = Rc::new(Matrix::new(&self.stream, csr)?);
            let operands = Operands { matrix, ..operands.clone() };
            products.push(SparseProduct::new(self, operands, algorithm)?);
        }
        Ok(products)
    }

    /// Seconds of a launch of an algorithm whose result is right.
    fn trial(
        &self,
        operands: &Operands,
        algorithm: Algorithm,
        csr: &Csr<f32, u32>,
        x: &[f32],
    ) -> Result<f64> {
        let product = SparseProduct::new(self, operands.clone(), algorithm)?;
        product.launch()?;
        let y = self.stream.clone_dtoh(&operands.vectors.y)?;
        self.stream.synchronize()?;
        is_product("its result", csr, csr.nnz(), x, &y)?;
        let start = Instant::now();
        (0..TRIALS).try_for_each(|_| product.launch())?;
        self.stream.synchronize()?;
        Ok(start.elapsed().as_secs_f64() / TRIALS as f64)
    }
}

/// The operands of a product on the device. Copies of a matrix share the vectors.
#[derive(Clone)]
struct Operands {
    matrix: Rc<Matrix>,
    vectors: Rc<Vectors>,
}

struct Matrix {
    descriptor: sys::cusparseSpMatDescr_t,
    _held: (CudaSlice<u32>, CudaSlice<u32>, CudaSlice<f32>),
}

struct Vectors {
    x_descriptor: Descriptor,
    y_descriptor: Descriptor,
    y: CudaSlice<f32>,
    _x: CudaSlice<f32>,
}

/// A dense operand: `cusparseDnVecDescr_t` of a single vector, `cusparseDnMatDescr_t` of several.
#[derive(Clone, Copy)]
struct Descriptor(*mut c_void);

impl Descriptor {
    /// Of `[rows][batch]` values.
    fn new(rows: usize, batch: usize, memory: &CudaSlice<f32>) -> Result<Self> {
        let (rows, batch, values) = (i64::try_from(rows)?, i64::try_from(batch)?, pointer(memory));
        if batch == 1 {
            let mut vector = null_mut();
            // SAFETY: writes the descriptor; the memory holds `rows` values and is held beside it.
            let status = unsafe { sys::cusparseCreateDnVec(&mut vector, rows, values, F32) };
            check("cusparseCreateDnVec", status)?;
            return Ok(Self(vector.cast()));
        }
        let mut matrix = null_mut();
        // SAFETY: as above with `rows · batch` values; row-major, so the leading dimension is the number of columns.
        let status = unsafe {
            sys::cusparseCreateDnMat(&mut matrix, rows, batch, batch, values, F32, CUSPARSE_ORDER_ROW)
        };
        check("cusparseCreateDnMat", status)?;
        Ok(Self(matrix.cast()))
    }
}

impl Vectors {
    fn new(stream: &Arc<CudaStream>, [rows, cols]: [usize; 2], batch: usize, x: &[f32]) -> Result<Self> {
        let (x, y) = (stream.clone_htod(x)?, stream.alloc_zeros::<f32>(rows * batch)?);
        let (x_descriptor, y_descriptor) =
            (Descriptor::new(cols, batch, &x)?, Descriptor::new(rows, batch, &y)?);
        Ok(Self { x_descriptor, y_descriptor, y, _x: x })
    }
}

impl Matrix {
    fn new(stream: &Arc<CudaStream>, csr: &Csr<f32, u32>) -> Result<Self> {
        let (rows, cols, nnz) = (csr.rows(), csr.cols(), csr.nnz());
        if nnz == 0 {
            return Err("a matrix without entries".into());
        }
        let row_ptr = stream.clone_htod(csr.row_ptr())?;
        let columns = stream.clone_htod(csr.col_indices())?;
        let values = stream.clone_htod(csr.values())?;
        let sizes = [rows, cols, nnz].map(|size| size as i64);
        let planes = [pointer(&row_ptr), pointer(&columns), pointer(&values)];
        let mut descriptor = null_mut();
        // SAFETY: writes the descriptor; the three planes have rows + 1, nnz and nnz elements of the types that are named,
        // a `Csr` is valid, and they are held beside the descriptor.
        let status = unsafe {
            let ([rows, cols, nnz], [row_ptr, columns, values]) = (sizes, planes);
            let zero = CUSPARSE_INDEX_BASE_ZERO;
            sys::cusparseCreateCsr(
                &mut descriptor,
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
        };
        check("cusparseCreateCsr", status)?;
        Ok(Self { descriptor, _held: (row_ptr, columns, values) })
    }
}

/// A product that is ready to be launched.
pub(super) struct SparseProduct {
    handle: cusparseHandle_t,
    algorithm: Algorithm,
    operands: Operands,
    workspace: CudaSlice<u8>,
}

/// `cusparseSpMV_preprocess`, which the bindings lack. It has the parameters of the product.
type Preprocess = unsafe extern "C" fn(
    cusparseHandle_t,
    sys::cusparseOperation_t,
    *const c_void,
    cusparseConstSpMatDescr_t,
    cusparseConstDnVecDescr_t,
    *const c_void,
    cusparseDnVecDescr_t,
    sys::cudaDataType,
    sys::cusparseSpMVAlg_t,
    *mut c_void,
) -> cusparseStatus_t;

impl SparseProduct {
    fn new(sparse: &Sparse, operands: Operands, algorithm: Algorithm) -> Result<Self> {
        let (handle, mut bytes, one, zero) = (sparse.handle, 0, scalar(&ONE), scalar(&ZERO));
        let (matrix, x, y) = operands.handles();
        match algorithm {
            Algorithm::Vector(by) => check("cusparseSpMV_bufferSize", {
                let (x, y) = (x.cast(), y.cast());
                // SAFETY: handle and descriptors live, and the dense ones are of vectors; one number is written.
                unsafe {
                    sys::cusparseSpMV_bufferSize(handle, PLAIN, one, matrix, x, zero, y, F32, by, &mut bytes)
                }
            })?,
            Algorithm::Matrix(by) => check("cusparseSpMM_bufferSize", {
                let (x, y) = (x.cast(), y.cast());
                // SAFETY: as above, and the dense descriptors are of matrices.
                unsafe {
                    sys::cusparseSpMM_bufferSize(
                        handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, by, &mut bytes,
                    )
                }
            })?,
        }
        let workspace = sparse.stream.alloc_zeros::<u8>(bytes.max(1))?;
        let product = Self { handle, algorithm, operands, workspace };
        product.preprocess()?;
        Ok(product)
    }

    fn preprocess(&self) -> Result {
        let (handle, one, zero, work) = (self.handle, scalar(&ONE), scalar(&ZERO), pointer(&self.workspace));
        let (matrix, x, y) = self.operands.handles();
        match self.algorithm {
            Algorithm::Vector(by) => {
                // SAFETY: the library stays loaded, and the function has had these parameters since it is there.
                let found = unsafe { sys::culib().get::<Preprocess>(b"cusparseSpMV_preprocess\0") };
                let Ok(preprocess) = found else { return Ok(()) };
                let (x, y) = (x.cast(), y.cast());
                // SAFETY: the arguments of the product itself; the workspace has the size that the library asked for.
                let status = unsafe { preprocess(handle, PLAIN, one, matrix, x, zero, y, F32, by, work) };
                check("cusparseSpMV_preprocess", status)
            }
            Algorithm::Matrix(by) => {
                let (x, y): (cusparseConstDnMatDescr_t, _) = (x.cast(), y.cast());
                // SAFETY: as above.
                let status = unsafe {
                    sys::cusparseSpMM_preprocess(handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, by, work)
                };
                check("cusparseSpMM_preprocess", status)
            }
        }
    }
}

impl Operands {
    /// The matrix, X and Y. Descriptors of dense operands still need a cast.
    fn handles(&self) -> (cusparseConstSpMatDescr_t, *const c_void, *mut c_void) {
        let Vectors { x_descriptor, y_descriptor, .. } = &*self.vectors;
        (self.matrix.descriptor.cast_const(), x_descriptor.0.cast_const(), y_descriptor.0)
    }
}

impl Product for SparseProduct {
    fn launch(&self) -> Result {
        let (handle, one, zero, work) = (self.handle, scalar(&ONE), scalar(&ZERO), pointer(&self.workspace));
        let (matrix, x, y) = self.operands.handles();
        match self.algorithm {
            Algorithm::Vector(by) => check("cusparseSpMV", {
                let (x, y) = (x.cast(), y.cast());
                // SAFETY: handle, descriptors and workspace live as long as this; the workspace has the size that was asked
                // for with these arguments. Scalars are the host's, its default pointer mode.
                unsafe { sys::cusparseSpMV(handle, PLAIN, one, matrix, x, zero, y, F32, by, work) }
            }),
            Algorithm::Matrix(by) => check("cusparseSpMM", {
                let (x, y) = (x.cast(), y.cast());
                // SAFETY: as above.
                unsafe { sys::cusparseSpMM(handle, PLAIN, PLAIN, one, matrix, x, zero, y, F32, by, work) }
            }),
        }
    }
}
