//! Devices are chosen by name.
#![allow(clippy::unwrap_used)]

use residua::backend::{BackendError, VectorShape};
use residua::{Budget, Device, Error, ErrorKind};

const BACKENDS: [(&str, bool); 3] =
    [("cpu", cfg!(feature = "cpu")), ("cuda", cfg!(feature = "cuda")), ("wgpu", cfg!(feature = "wgpu"))];

fn refused(name: &str) -> Error {
    Device::open(name, &Budget::unlimited()).unwrap_err()
}

#[test]
fn every_listed_device_opens_under_its_name() {
    for device in Device::list() {
        let opened = Device::open(&device.id, &Budget::unlimited()).unwrap();
        assert!(!opened.description().is_empty(), "{device:?}");
    }
    let names: Vec<String> = Device::list().into_iter().map(|device| device.id).collect();
    assert_eq!(names.iter().any(|name| name == "cpu"), cfg!(feature = "cpu"), "{names:?}");
}

#[test]
fn names_that_no_device_has_are_a_matter_of_usage() {
    for name in ["", "gpu", "gpu:0", "CPU", "cpu:", ":0"] {
        let error = refused(name);
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        assert!(error.to_string().contains(&format!("{name:?}")) && error.to_string().contains("cuda:1"));
    }
}

#[test]
fn a_backend_that_is_not_built_in_says_how_to_get_it() {
    for (name, _) in BACKENDS.into_iter().filter(|(_, built_in)| !built_in) {
        let error = refused(name);
        assert_eq!(error.kind(), ErrorKind::Device);
        assert!(error.to_string().contains(&format!("--features {name}")), "{error}");
    }
}

#[cfg(feature = "cpu")]
#[test]
fn a_device_that_is_not_there_is_named() {
    let error = refused("cpu:gtx");
    assert!(matches!(error, Error::Backend(BackendError::NoSuchDevice { .. })), "{error}");
    assert!(error.to_string().contains("\"gtx\"") && error.kind() == ErrorKind::Device, "{error}");
    Device::open("cpu:0", &Budget::unlimited()).unwrap();
}

#[cfg(feature = "cpu")]
#[test]
fn the_budget_is_the_callers() {
    let budget = Budget::new(1 << 10);
    let device = Device::open("cpu", &budget).unwrap();
    let Err(error) = device.backend().zeros(VectorShape { len: 1 << 20, batch: 1 }) else { panic!() };
    assert_eq!(error.kind(), ErrorKind::Budget);
    let held = device.backend().zeros(VectorShape { len: 64, batch: 1 }).unwrap();
    assert!(budget.used() >= 256 && device.budget().used() == budget.used());
    drop(held);
    assert_eq!(budget.used(), 0);
}
