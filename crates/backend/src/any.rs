//! A backend that is chosen at run time.

use std::any::Any;
use std::fmt;

use residua_format::{Coo, Csr, GapCsr, QuantizedBase};

use crate::{Backend, BackendError, Shaped};

/// A backend of any kind: what a program holds that lets its user choose. [`Untyped`] makes one.
pub type AnyBackend =
    Box<dyn Backend<Matrix = AnyMatrix, Base = AnyBase, Vector = AnyVector> + Send + Sync>;

/// What an operand must be so that its type can be forgotten.
pub trait Operand: Shaped + Any + Send + Sync {}
impl<T: Shaped + Any + Send + Sync> Operand for T {}

/// A backend whose operands have forgotten their types.
///
/// An operand of another kind of backend is refused with [`BackendError::Foreign`].
#[derive(Debug, Clone)]
pub struct Untyped<B>(pub B);

macro_rules! operand {
    ($name:ident, $what:literal) => {
        #[doc = concat!("A ", $what, " of an [`AnyBackend`].")]
        pub struct $name(Box<dyn Operand>);

        impl Shaped for $name {
            fn shape(&self) -> [usize; 2] {
                (*self.0).shape()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.shape()).finish()
            }
        }
    };
}

operand!(AnyMatrix, "matrix");
operand!(AnyBase, "base");
operand!(AnyVector, "vector");

impl<B: Backend> Untyped<B> {
    /// The operand as the backend inside holds it.
    fn own<'a, T: Operand>(
        &self,
        operand: &'a dyn Operand,
        what: &'static str,
    ) -> Result<&'a T, BackendError> {
        (operand as &dyn Any).downcast_ref().ok_or_else(|| self.foreign(what))
    }

    fn own_mut<'a, T: Operand>(
        &self,
        operand: &'a mut dyn Operand,
        what: &'static str,
    ) -> Result<&'a mut T, BackendError> {
        (operand as &mut dyn Any).downcast_mut().ok_or_else(|| self.foreign(what))
    }

    fn foreign(&self, what: &'static str) -> BackendError {
        BackendError::Foreign { backend: self.0.device(), what }
    }
}

impl<B: Backend<Matrix: Operand, Base: Operand, Vector: Operand>> Backend for Untyped<B> {
    type Matrix = AnyMatrix;
    type Base = AnyBase;
    type Vector = AnyVector;

    fn device(&self) -> String {
        self.0.device()
    }

    fn upload(&self, matrix: &GapCsr) -> Result<AnyMatrix, BackendError> {
        Ok(AnyMatrix(Box::new(self.0.upload(matrix)?)))
    }

    fn upload_csr(&self, matrix: &Csr<f32, u32>) -> Result<AnyMatrix, BackendError> {
        Ok(AnyMatrix(Box::new(self.0.upload_csr(matrix)?)))
    }

    fn upload_coo(&self, matrix: &Coo<f32, u32>) -> Result<AnyMatrix, BackendError> {
        Ok(AnyMatrix(Box::new(self.0.upload_coo(matrix)?)))
    }

    fn upload_base(&self, base: &QuantizedBase) -> Result<AnyBase, BackendError> {
        Ok(AnyBase(Box::new(self.0.upload_base(base)?)))
    }

    fn upload_vector(&self, values: &[f32], shape: [usize; 2]) -> Result<AnyVector, BackendError> {
        Ok(AnyVector(Box::new(self.0.upload_vector(values, shape)?)))
    }

    fn zeros(&self, shape: [usize; 2]) -> Result<AnyVector, BackendError> {
        Ok(AnyVector(Box::new(self.0.zeros(shape)?)))
    }

    fn download(&self, vector: &AnyVector) -> Result<Vec<f32>, BackendError> {
        self.0.download(self.own(&*vector.0, "the vector")?)
    }

    fn synchronize(&self) -> Result<(), BackendError> {
        self.0.synchronize()
    }

    fn spmv(
        &self,
        alpha: f32,
        a: &AnyMatrix,
        x: &AnyVector,
        beta: f32,
        y: &mut AnyVector,
    ) -> Result<(), BackendError> {
        let (a, x) = (self.own(&*a.0, "the matrix")?, self.own(&*x.0, "x")?);
        self.0.spmv(alpha, a, x, beta, self.own_mut(&mut *y.0, "y")?)
    }

    fn spmm(
        &self,
        alpha: f32,
        a: &AnyMatrix,
        x: &AnyVector,
        beta: f32,
        y: &mut AnyVector,
    ) -> Result<(), BackendError> {
        let (a, x) = (self.own(&*a.0, "the matrix")?, self.own(&*x.0, "x")?);
        self.0.spmm(alpha, a, x, beta, self.own_mut(&mut *y.0, "y")?)
    }

    fn forward(
        &self,
        base: &AnyBase,
        residual: &AnyMatrix,
        alpha: f32,
        x: &AnyVector,
        y: &mut AnyVector,
    ) -> Result<(), BackendError> {
        let (base, residual) = (self.own(&*base.0, "the base")?, self.own(&*residual.0, "the residual")?);
        let x = self.own(&*x.0, "x")?;
        self.0.forward(base, residual, alpha, x, self.own_mut(&mut *y.0, "y")?)
    }
}
