//! sprs and nalgebra-sparse as oracles: the same matrices, the same products, and no copy where none is needed.

#![allow(clippy::unwrap_used)]

use nalgebra_sparse::na::DVector;
use nalgebra_sparse::{CooMatrix, CsrMatrix};
use proptest::prelude::*;
use residua_format::convert::*;
use residua_format::{Coo, Csr, FormatError, Index, ValueType, strategies};
use sprs::{CsMatI, SpIndex, TriMatI};

/// Small integers, so that products are exact in any order.
fn vector(len: usize) -> Vec<f64> {
    (0..len).map(|i| (i * 7 % 11) as f64 - 5.0).collect()
}

fn product<I: Index>(csr: &Csr<f64, I>, x: &[f64]) -> Vec<f64> {
    let gap = csr_to_gap(csr, ValueType::Bf16).unwrap();
    (0..csr.rows()).map(|row| gap.row(row).map(|(c, v)| f64::from(v) * x[c as usize]).sum()).collect()
}

fn through_sprs<I: Index + SpIndex>(csr: Csr<f64, I>, coo: Coo<f64, I>) -> Result<(), TestCaseError> {
    let (columns, values) = (csr.col_indices().as_ptr(), csr.values().as_ptr());
    let theirs: CsMatI<f64, I> = csr.clone().try_into().unwrap();
    let transposed: CsMatI<f64, I> = theirs.to_other_storage();
    prop_assert!(transposed.is_csc());
    prop_assert_eq!(&Csr::try_from(transposed).unwrap(), &csr);
    let x = vector(csr.cols());
    let mut y = vec![0.0; csr.rows()];
    sprs::prod::mul_acc_mat_vec_csr(theirs.view(), &x[..], &mut y[..]);
    prop_assert_eq!(&y, &product(&csr, &x));
    prop_assert_eq!(&Csr::try_from(theirs).unwrap(), &csr);
    let moved: CsMatI<f64, I> = csr.try_into().unwrap();
    prop_assert_eq!((moved.indices().as_ptr(), moved.data().as_ptr()), (columns, values));

    let theirs: TriMatI<f64, I> = coo.clone().into();
    prop_assert_eq!(&Coo::try_from(&theirs).unwrap(), &coo);
    let sums: CsMatI<f64, I> = theirs.to_csr();
    prop_assert_eq!(Csr::try_from(sums).unwrap(), coo_to_csr(&coo, Duplicates::Sum).unwrap());
    Ok(())
}

proptest! {
    #[test]
    fn sprs_u32(csr in strategies::csr::<f64, u32>(), coo in strategies::coo::<f64, u32>()) {
        through_sprs(csr, coo)?;
    }

    #[test]
    fn sprs_i32(csr in strategies::csr::<f64, i32>(), coo in strategies::coo::<f64, i32>()) {
        through_sprs(csr, coo)?;
    }

    #[test]
    fn sprs_usize(csr in strategies::csr::<f64, usize>(), coo in strategies::coo::<f64, usize>()) {
        through_sprs(csr, coo)?;
    }

    #[test]
    fn nalgebra(csr in strategies::csr::<f64, usize>(), coo in strategies::coo::<f64, usize>()) {
        let (columns, values) = (csr.col_indices().as_ptr(), csr.values().as_ptr());
        let theirs: CsrMatrix<f64> = csr.clone().try_into().unwrap();
        let x = vector(csr.cols());
        let y = &theirs * &DVector::from_column_slice(&x);
        prop_assert_eq!(y.as_slice(), &product(&csr, &x)[..]);
        prop_assert_eq!(&Csr::try_from(theirs).unwrap(), &csr);
        let moved: CsrMatrix<f64> = csr.try_into().unwrap();
        prop_assert_eq!((moved.col_indices().as_ptr(), moved.values().as_ptr()), (columns, values));

        let theirs: CooMatrix<f64> = coo.clone().try_into().unwrap();
        let sums = CsrMatrix::from(&theirs);
        prop_assert_eq!(Csr::try_from(sums).unwrap(), coo_to_csr(&coo, Duplicates::Sum).unwrap());
        prop_assert_eq!(Coo::try_from(theirs).unwrap(), coo);
    }
}

/// sprs wants the index type to hold the number of columns itself, one more than the largest column.
#[test]
fn a_shape_that_sprs_refuses_is_an_error() {
    let csr = Csr::<f32, i32>::new(1, 1 << 31, vec![0, 1], vec![i32::MAX], vec![1.0]).unwrap();
    let error = CsMatI::<f32, i32>::try_from(csr).unwrap_err();
    assert!(matches!(error, FormatError::Foreign { library: "sprs", .. }), "{error}");
}
