//! One adapter per library: a matrix with its operand and result, laid out beforehand.

use faer::sparse::linalg::matmul::sparse_dense_matmul;
use faer::sparse::{SparseRowMat, SymbolicSparseRowMat, Triplet};
use faer::{Accum, Mat, Par};
use nalgebra::DMatrix;
use nalgebra_sparse::ops::{Op, serial::spmm_csr_dense};
use nalgebra_sparse::{CooMatrix, CsrMatrix};
use ndarray::Array2;
use sprs::{CsMatI, TriMatI};

use crate::files::{Coo, Csr};
use crate::{Result, x};

#[derive(Clone, Copy)]
pub enum Library {
    Sprs,
    Nalgebra,
    Faer,
}

/// A product that can be repeated.
pub trait Product {
    fn run(&mut self);
    /// Sum of |y|.
    fn sum(&self) -> f64;
}

/// Coordinates in the library's own type.
pub trait Entries {
    /// Converts, sums duplicates and says how many entries are left.
    fn to_csr(&self) -> usize;
}

impl Library {
    pub fn named(name: &str) -> Result<Self> {
        match name {
            "sprs" => Ok(Self::Sprs),
            "nalgebra-sparse" => Ok(Self::Nalgebra),
            "faer" => Ok(Self::Faer),
            _ => Err(format!("no library is called {name:?}").into()),
        }
    }

    pub fn version(self) -> &'static str {
        match self {
            Self::Sprs => "sprs 0.11",
            Self::Nalgebra => "nalgebra-sparse 0.12",
            Self::Faer => "faer 0.24",
        }
    }

    pub fn product(self, csr: Csr, batch: usize) -> Result<Box<dyn Product>> {
        Ok(match self {
            Self::Sprs => Box::new(Sprs::new(csr, batch)?),
            Self::Nalgebra => Box::new(Nalgebra::new(csr, batch)?),
            Self::Faer => Box::new(Faer::new(csr, batch)),
        })
    }

    pub fn entries(self, coo: Coo) -> Result<Box<dyn Entries>> {
        let (rows, cols) = coo.shape;
        Ok(match self {
            Self::Sprs => Box::new(TriMatI::<f32, u32>::from_triplets(coo.shape, coo.row, coo.col, coo.data)),
            Self::Nalgebra => {
                let (row, col) = (wide(&coo.row), wide(&coo.col));
                let entries = CooMatrix::try_from_triplets(rows, cols, row, col, coo.data);
                Box::new(entries.map_err(|error| error.to_string())?)
            }
            Self::Faer => {
                let triplets = coo.row.iter().zip(&coo.col).zip(&coo.data);
                let triplets = triplets.map(|((&row, &col), &value)| Triplet::new(row, col, value)).collect();
                Box::new(FaerEntries { shape: coo.shape, triplets })
            }
        })
    }
}

fn wide(indices: &[u32]) -> Vec<usize> {
    indices.iter().map(|&index| index as usize).collect()
}

fn sum<'a>(values: impl Iterator<Item = &'a f32>) -> f64 {
    values.map(|&value| f64::from(value.abs())).sum()
}

struct Sprs {
    matrix: CsMatI<f32, u32>,
    x: Array2<f32>,
    y: Array2<f32>,
}

impl Sprs {
    fn new(csr: Csr, batch: usize) -> Result<Self> {
        let (rows, cols) = csr.shape;
        let matrix = CsMatI::try_new(csr.shape, csr.indptr, csr.indices, csr.data)
            .map_err(|(.., error)| error.to_string())?;
        let x = Array2::from_shape_fn((cols, batch), |(row, col)| x(row, col, batch));
        Ok(Self { matrix, x, y: Array2::zeros((rows, batch)) })
    }
}

impl Product for Sprs {
    fn run(&mut self) {
        self.y.fill(0.0);
        if self.x.ncols() == 1 {
            let (x, y) = (self.x.column(0), self.y.column_mut(0));
            sprs::prod::mul_acc_mat_vec_csr(self.matrix.view(), x, y);
        } else {
            sprs::prod::csr_mulacc_dense_rowmaj(self.matrix.view(), self.x.view(), self.y.view_mut());
        }
    }

    fn sum(&self) -> f64 {
        sum(self.y.iter())
    }
}

impl Entries for TriMatI<f32, u32> {
    fn to_csr(&self) -> usize {
        TriMatI::to_csr::<u32>(self).nnz()
    }
}

struct Nalgebra {
    matrix: CsrMatrix<f32>,
    x: DMatrix<f32>,
    y: DMatrix<f32>,
}

impl Nalgebra {
    fn new(csr: Csr, batch: usize) -> Result<Self> {
        let (rows, cols) = csr.shape;
        let matrix =
            CsrMatrix::try_from_csr_data(rows, cols, wide(&csr.indptr), wide(&csr.indices), csr.data)
                .map_err(|error| error.to_string())?;
        let x = DMatrix::from_fn(cols, batch, |row, col| x(row, col, batch));
        Ok(Self { matrix, x, y: DMatrix::zeros(rows, batch) })
    }
}

impl Product for Nalgebra {
    fn run(&mut self) {
        spmm_csr_dense(0.0, &mut self.y, 1.0, Op::NoOp(&self.matrix), Op::NoOp(&self.x));
    }

    fn sum(&self) -> f64 {
        sum(self.y.iter())
    }
}

impl Entries for CooMatrix<f32> {
    fn to_csr(&self) -> usize {
        CsrMatrix::from(self).nnz()
    }
}

struct Faer {
    matrix: SparseRowMat<u32, f32>,
    x: Mat<f32>,
    y: Mat<f32>,
}

impl Faer {
    fn new(csr: Csr, batch: usize) -> Self {
        let (rows, cols) = csr.shape;
        let pattern = SymbolicSparseRowMat::new_checked(rows, cols, csr.indptr, None, csr.indices);
        let x = Mat::from_fn(cols, batch, |row, col| x(row, col, batch));
        Self { matrix: SparseRowMat::new(pattern, csr.data), x, y: Mat::zeros(rows, batch) }
    }
}

impl Product for Faer {
    fn run(&mut self) {
        let (matrix, x) = (self.matrix.as_ref(), self.x.as_ref());
        sparse_dense_matmul(self.y.as_mut(), Accum::Replace, matrix, x, 1.0, Par::Seq);
    }

    fn sum(&self) -> f64 {
        (0..self.y.ncols()).map(|col| sum(self.y.col(col).iter())).sum()
    }
}

struct FaerEntries {
    shape: (usize, usize),
    triplets: Vec<Triplet<u32, u32, f32>>,
}

impl Entries for FaerEntries {
    fn to_csr(&self) -> usize {
        let (rows, cols) = self.shape;
        SparseRowMat::try_new_from_triplets(rows, cols, &self.triplets)
            .map_or(0, |matrix| matrix.compute_nnz())
    }
}
