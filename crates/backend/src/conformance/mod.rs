//! The suite that every backend passes.
//!
//! A backend has this `tests/conformance.rs`, with `harness = false`:
//!
//! ```no_run
//! # #[cfg(any())] {
//! use residua_backend::conformance::{Device, main};
//!
//! fn main() -> std::process::ExitCode {
//!     main(vec![
//!         Device::new("cpu-1-thread", |budget| CpuBackend::open(&CpuOptions::default().threads(1), &budget))
//!             .same_bits("2-threads", |budget| CpuBackend::open(&CpuOptions::default().threads(2), &budget)),
//!     ])
//! }
//! # }
//! ```
//!
//! Every test's name starts with the device. The tests of an [`Unavailable`](BackendError::Unavailable) device are
//! listed one by one as ignored, with the reason before the name.
//!
//! Each product is tried with two kinds of data. *Exact* data are small integers: f32 sums in any order are exact, and a
//! single missing or doubled entry shows. *Rough* data are fractions: the result must lie within the bound of
//! [`reference`](mod@crate::reference).

mod base;
mod bits;
mod compare;
mod data;
mod dense;
mod forward;
mod operand;
mod product;
mod refusal;
mod rows;
mod shapes;
mod special;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use residua_memory::Budget;

use crate::{Backend, BackendError};

/// The result of a test; the error says what is wrong.
type Outcome = Result<(), String>;

/// Makes a backend that takes its memory from a budget.
type Make<B> = Arc<dyn Fn(Budget) -> Result<B, BackendError> + Send + Sync>;

/// A device to run the suite on.
pub struct Device<B> {
    name: String,
    make: Make<B>,
    /// Other ways to open it that must give the same bits.
    twins: Vec<(String, Make<B>)>,
}

impl<B: Backend + Send + Sync + 'static> Device<B> {
    /// A device: the name in front of its tests, and how to open it.
    pub fn new(name: &str, make: impl Fn(Budget) -> Result<B, BackendError> + Send + Sync + 'static) -> Self {
        Self { name: name.into(), make: Arc::new(make), twins: Vec::new() }
    }

    /// Also demands the same bits from another way to open it, with another number of threads for example.
    #[must_use]
    pub fn same_bits(
        mut self,
        name: &str,
        make: impl Fn(Budget) -> Result<B, BackendError> + Send + Sync + 'static,
    ) -> Self {
        self.twins.push((name.into(), Arc::new(make)));
        self
    }

    fn trials(self) -> Vec<Trial> {
        let backend = match (self.make)(Budget::unlimited()) {
            Ok(backend) => Ok(Arc::new(backend)),
            Err(error) => Err(error),
        };
        let (name, make) = (&self.name, &self.make);
        let mut trials = Vec::new();
        for case in cases::<B>() {
            trials.push(trial(name, &case.name, &backend, move |backend| (case.run)(backend)));
        }
        for (twin, make_twin) in &self.twins {
            let make_twin = make_twin.clone();
            trials.push(trial(name, &format!("same-bits::{twin}"), &backend, move |backend| {
                let twin = make_twin(Budget::unlimited()).map_err(|error| error.to_string())?;
                bits::agree(backend, &twin)
            }));
        }
        let make = make.clone();
        trials.push(trial(name, "refusal::budget", &backend, move |_| refusal::budget(&*make)));
        trials
    }
}

/// A test of any backend.
struct Case<B> {
    name: String,
    run: Box<dyn Fn(&B) -> Outcome + Send + Sync>,
}

impl<B> Case<B> {
    fn new(name: impl Into<String>, run: impl Fn(&B) -> Outcome + Send + Sync + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

fn cases<B: Backend + 'static>() -> Vec<Case<B>> {
    let mut cases = product::cases();
    cases.extend(forward::cases());
    cases.extend(dense::cases());
    cases.extend(rows::cases());
    cases.extend(special::cases());
    cases.extend(bits::cases());
    cases.extend(refusal::cases());
    cases
}

fn trial<B: Send + Sync + 'static>(
    device: &str,
    case: &str,
    backend: &Result<Arc<B>, BackendError>,
    run: impl Fn(&B) -> Outcome + Send + 'static,
) -> Trial {
    let name = format!("{device}::{case}");
    match backend {
        Ok(backend) => {
            let backend = backend.clone();
            Trial::test(name, move || run(&backend).map_err(Failed::from))
        }
        Err(BackendError::Unavailable { missing, .. }) => {
            let kind = format!("skipped, {missing} is missing");
            Trial::test(name, || Ok(())).with_kind(kind).with_ignored_flag(true)
        }
        Err(error) => {
            let message = error.to_string();
            Trial::test(name, move || Err(message.into()))
        }
    }
}

/// Runs the suite on every device as a test program with the usual arguments of `cargo test`.
pub fn main<B: Backend + Send + Sync + 'static>(devices: Vec<Device<B>>) -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = devices.into_iter().flat_map(Device::trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
