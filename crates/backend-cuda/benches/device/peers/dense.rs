//! cuBLAS: `cublasGemmEx` on bf16 with f32 sums. The matrix holds its zeros.

use std::rc::Rc;
use std::sync::Arc;

use cudarc::cublas::sys::{cublasComputeType_t, cublasGemmAlgo_t, cublasOperation_t, cudaDataType_t};
use cudarc::cublas::{CudaBlas, result, sys};
use cudarc::driver::{CudaSlice, CudaStream};

use super::{ONE, Product, Result, ZERO, pointer, scalar};

/// NVIDIA's recommendation for Hopper, larger than for older GPUs. Without it every captured graph allocates memory.
const WORKSPACE: usize = 32 << 20;
/// About 0.01 as bf16.
const FILL: u16 = 0x3C3C;

pub(super) struct Dense {
    blas: CudaBlas,
    stream: Arc<CudaStream>,
    _workspace: CudaSlice<u8>,
}

impl Dense {
    pub(super) fn open(stream: &Arc<CudaStream>) -> Result<Self> {
        // SAFETY: only tries to open the library.
        if !unsafe { sys::is_culib_present() } {
            return Err("not present".into());
        }
        let blas = CudaBlas::new(stream.clone())?;
        let workspace = stream.alloc_zeros::<u8>(WORKSPACE)?;
        // SAFETY: the handle lives, and the memory, of the size that is named, lives as long as it. After the stream was
        // set: setting that takes the workspace away again.
        unsafe { sys::cublasSetWorkspace_v2(*blas.handle(), pointer(&workspace), WORKSPACE) }.result()?;
        Ok(Self { blas, stream: stream.clone(), _workspace: workspace })
    }
}

/// `Y = A·X`, all of one value. Values do not change the time; the layouts are the best for cuBLAS.
pub(super) struct DenseProduct {
    dense: Rc<Dense>,
    /// rows, batch, cols
    sizes: [i32; 3],
    /// `[rows][cols]`
    matrix: CudaSlice<u16>,
    /// `[batch][cols]`
    x: Rc<CudaSlice<u16>>,
    /// `[batch][rows]`
    y: Rc<CudaSlice<u16>>,
}

impl DenseProduct {
    pub(super) fn several(
        dense: &Rc<Dense>,
        [rows, cols]: [usize; 2],
        batch: usize,
        copies: usize,
    ) -> Result<Vec<Self>> {
        let (stream, values) = (&dense.stream, vec![FILL; rows * cols]);
        let (x, y) = (stream.clone_htod(&vec![FILL; cols * batch])?, stream.alloc_zeros(rows * batch)?);
        let (x, y) = (Rc::new(x), Rc::new(y));
        let sizes = [i32::try_from(rows)?, i32::try_from(batch)?, i32::try_from(cols)?];
        let one = || -> Result<Self> {
            Ok(Self {
                dense: dense.clone(),
                sizes,
                matrix: stream.clone_htod(&values)?,
                x: x.clone(),
                y: y.clone(),
            })
        };
        let products = (0..copies).map(|_| one()).collect::<Result<Vec<_>>>()?;
        if let Some(first) = products.first() {
            first.check()?;
        }
        Ok(products)
    }

    /// Checks the result of cuBLAS: every value is a sum of equal products.
    fn check(&self) -> Result {
        self.launch()?;
        let number = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
        let expected = f64::from(self.sizes[2]) * number(FILL) * number(FILL);
        let found = self.dense.stream.clone_dtoh(&*self.y)?;
        self.dense.stream.synchronize()?;
        match found.iter().map(|&bits| number(bits)).find(|y| (y / expected - 1.0).abs() > 0.02) {
            None => Ok(()),
            Some(y) => Err(format!("it computes {y} where {expected} is right").into()),
        }
    }
}

impl Product for DenseProduct {
    fn launch(&self) -> Result {
        use cudaDataType_t::CUDA_R_16BF as BF16;
        let [rows, batch, cols] = self.sizes;
        // SAFETY: in the column-major order of cuBLAS the matrix is cols × rows with leading dimension cols and used
        // transposed, X is cols × batch with leading dimension cols, Y is rows × batch with leading dimension rows; the
        // three were made with these sizes and live as long as this. Scalars are the host's, its default pointer mode.
        unsafe {
            result::gemm_ex(
                *self.dense.blas.handle(),
                cublasOperation_t::CUBLAS_OP_T,
                cublasOperation_t::CUBLAS_OP_N,
                rows,
                batch,
                cols,
                scalar(&ONE),
                pointer(&self.matrix),
                BF16,
                cols,
                pointer(&self.x),
                BF16,
                cols,
                scalar(&ZERO),
                pointer(&self.y),
                BF16,
                rows,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }?;
        Ok(())
    }
}
