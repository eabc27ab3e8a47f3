//! Backends chosen at run time compute what they compute when named in the program.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used)]

use residua::any::{Kind, Options, open};
use residua::backend::{Backend, BackendError, VectorShape};
use residua::cpu::{CpuBackend, CpuOptions};
use residua::format::{BaseKind, Csr, QuantizedBase};
use residua::memory::Budget;

/// Every kind of operand on a backend: the fused layer, and a product added to what is there.
fn layer<B: Backend + ?Sized>(backend: &B) -> Result<Vec<f32>, BackendError> {
    let a = backend.upload_csr(&Csr::new(2, 3, vec![0, 2, 3], vec![0, 2, 1], vec![2.0, 3.0, -1.5])?)?;
    let weights = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let base = backend.upload_base(&QuantizedBase::quantize(2, 3, &weights, BaseKind::Int4)?)?;
    let x = backend.upload_vector(&[1.0, 10.0, 100.0], VectorShape { len: 3, batch: 1 })?;
    let (mut y, mut z) = (
        backend.zeros(VectorShape { len: 2, batch: 1 })?,
        backend.upload_vector(&[7.0, 7.0], VectorShape { len: 2, batch: 1 })?,
    );
    backend.forward(&base, &a, 0.5, &x, &mut y)?;
    backend.spmv(1.0, &a, &x, 1.0, &mut z)?;
    backend.synchronize()?;
    Ok([backend.download(&y)?, backend.download(&z)?].concat())
}

#[test]
fn the_chosen_backend_gives_the_bits_of_the_named_one() {
    let options = Options { threads: 1, device: None };
    let chosen = open(Kind::Cpu, &options, &Budget::new(1 << 20)).unwrap();
    let named = CpuBackend::open(&CpuOptions::default().threads(1), &Budget::unlimited()).unwrap();
    assert_eq!(chosen.device(), named.device());
    let bits = layer(&*chosen).unwrap();
    assert_eq!(bits, layer(&named).unwrap());
    assert_eq!(bits[2..], [7.0 + 302.0, 7.0 - 15.0]);
}

#[test]
fn the_budget_is_the_callers() {
    let budget = Budget::new(1 << 10);
    let chosen = open(Kind::Cpu, &Options::default(), &budget).unwrap();
    assert!(matches!(chosen.zeros(VectorShape { len: 1 << 20, batch: 1 }), Err(BackendError::Budget(_))));
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let options = Options { threads: 1, device: Some("gtx".into()) };
    let error = open(Kind::Cpu, &options, &Budget::unlimited()).err().unwrap();
    assert!(matches!(error, BackendError::NoSuchDevice { .. }), "{error}");
    assert!(error.to_string().contains("\"gtx\""), "{error}");
}

#[test]
fn names_are_read_back() {
    for kind in Kind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("gpu".parse::<Kind>().unwrap_err().to_string().contains("cuda"));
}

#[test]
fn what_is_not_built_in_says_how_to_get_it() {
    for kind in Kind::ALL.into_iter().filter(|kind| !kind.is_built_in()) {
        let error = open(kind, &Options::default(), &Budget::unlimited()).err().unwrap();
        assert!(error.to_string().contains(&format!("--features {kind}")), "{error}");
    }
}
