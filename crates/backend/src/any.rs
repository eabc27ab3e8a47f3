//! A backend that is chosen at run time.

use std::any::Any;
use std::fmt;

use residua_format::{Coo, Csr, DenseMatrix, GapCsr, QuantizedBase};

use crate::{Backend, BackendError, Shaped, VectorShape};

/// A backend of any kind, for a program whose user chooses. [`Untyped`] makes one.
pub type AnyBackend = Box<dyn Backend<Matrix = AnyMatrix, Base = AnyBase, Vector = AnyVector> + Send + Sync>;

/// An operand whose type can be forgotten.
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

    fn upload_dense(&self, base: &DenseMatrix) -> Result<AnyBase, BackendError> {
        Ok(AnyBase(Box::new(self.0.upload_dense(base)?)))
    }

    fn upload_vector(&self, values: &[f32], shape: VectorShape) -> Result<AnyVector, BackendError> {
        Ok(AnyVector(Box::new(self.0.upload_vector(values, shape)?)))
    }

    fn zeros(&self, shape: VectorShape) -> Result<AnyVector, BackendError> {
        Ok(AnyVector(Box::new(self.0.zeros(shape)?)))
    }

    fn upload_rows(&self, rows: &[f32], shape: VectorShape) -> Result<AnyVector, BackendError> {
        Ok(AnyVector(Box::new(self.0.upload_rows(rows, shape)?)))
    }

    fn write(&self, values: &[f32], vector: &mut AnyVector) -> Result<(), BackendError> {
        self.0.write(values, self.own_mut(&mut *vector.0, "the vector")?)
    }

    fn write_rows(&self, rows: &[f32], vector: &mut AnyVector) -> Result<(), BackendError> {
        self.0.write_rows(rows, self.own_mut(&mut *vector.0, "the vector")?)
    }

    fn download(&self, vector: &AnyVector) -> Result<Vec<f32>, BackendError> {
        self.0.download(self.own(&*vector.0, "the vector")?)
    }

    fn download_rows(&self, vector: &AnyVector) -> Result<Vec<f32>, BackendError> {
        self.0.download_rows(self.own(&*vector.0, "the vector")?)
    }

    fn read_rows(&self, vector: &AnyVector, out: &mut [f32]) -> Result<(), BackendError> {
        self.0.read_rows(self.own(&*vector.0, "the vector")?, out)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A backend of kind `N` that computes nothing.
    #[derive(Debug)]
    struct Idle<const N: usize>;

    #[derive(Debug)]
    struct Held<const N: usize>;

    impl<const N: usize> Shaped for Held<N> {
        fn shape(&self) -> [usize; 2] {
            [N, N]
        }
    }

    impl<const N: usize> Backend for Idle<N> {
        type Matrix = Held<N>;
        type Base = Held<N>;
        type Vector = Held<N>;

        fn device(&self) -> String {
            format!("idle {N}")
        }

        fn upload(&self, _: &GapCsr) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn upload_csr(&self, _: &Csr<f32, u32>) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn upload_coo(&self, _: &Coo<f32, u32>) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn upload_base(&self, _: &QuantizedBase) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn upload_dense(&self, _: &DenseMatrix) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn upload_vector(&self, _: &[f32], _: VectorShape) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn zeros(&self, _: VectorShape) -> Result<Held<N>, BackendError> {
            Ok(Held)
        }

        fn download(&self, _: &Held<N>) -> Result<Vec<f32>, BackendError> {
            Ok(vec![])
        }

        fn spmm(
            &self,
            _: f32,
            _: &Held<N>,
            _: &Held<N>,
            _: f32,
            _: &mut Held<N>,
        ) -> Result<(), BackendError> {
            Ok(())
        }

        fn forward(
            &self,
            _: &Held<N>,
            _: &Held<N>,
            _: f32,
            _: &Held<N>,
            _: &mut Held<N>,
        ) -> Result<(), BackendError> {
            Ok(())
        }
    }

    #[test]
    fn operands_of_another_backend_are_refused_by_name() {
        let (one, two): (AnyBackend, AnyBackend) =
            (Box::new(Untyped(Idle::<1>)), Box::new(Untyped(Idle::<2>)));
        let matrix = |backend: &AnyBackend| backend.upload_csr(&Csr::empty(1, 1)).unwrap();
        let vector = |backend: &AnyBackend| backend.zeros(VectorShape { len: 1, batch: 1 }).unwrap();
        let refused = |result: Result<(), BackendError>, operand: &str| match result {
            Err(BackendError::Foreign { backend, what }) => {
                assert_eq!((&*backend, what), ("idle 1", operand))
            }
            other => panic!("{operand}: {other:?}"),
        };
        let (a, x) = (matrix(&one), vector(&one));
        assert_eq!((a.shape(), x.shape()), ([1, 1], [1, 1]));
        assert_eq!(one.spmm(1.0, &a, &x, 0.0, &mut vector(&one)), Ok(()));
        refused(one.spmm(1.0, &matrix(&two), &x, 0.0, &mut vector(&one)), "the matrix");
        refused(one.spmm(1.0, &a, &vector(&two), 0.0, &mut vector(&one)), "x");
        refused(one.spmm(1.0, &a, &x, 0.0, &mut vector(&two)), "y");
        refused(one.download(&vector(&two)).map(drop), "the vector");
        refused(one.download_rows(&vector(&two)).map(drop), "the vector");
        refused(one.read_rows(&vector(&two), &mut [0.0]), "the vector");
        refused(one.write(&[0.0], &mut vector(&two)), "the vector");
        refused(one.write_rows(&[0.0], &mut vector(&two)), "the vector");
    }
}
