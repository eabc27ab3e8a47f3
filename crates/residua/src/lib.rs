//! Memory-bounded model adaptation in one dependency.
//!
//! An adapted model is its old self plus a small residual. Residua finds that residual, stores it in 2–3 bytes per
//! non-zero, applies it fast, and keeps class statistics valid while the model moves. Every job takes a [`Budget`] and
//! keeps it.
//!
//! # Four tasks
//!
//! Split a checkpoint into a low-precision base and a sparse residual:
//!
//! ```standalone_crate
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/setup.rs"));
//! # fn main() -> residua::Result<()> {
//! # let _folder = setup::checkpoints();
//! use residua::{Budget, Job, Output, SplitOptions};
//!
//! let job = Job::new(&Budget::new(64 << 20));
//! let options = SplitOptions::default().density(0.05);
//! let report = job.split("model.safetensors", Output("split.safetensors"), &options)?;
//! println!("{} non-zeros, {} bytes", report.nnz(), report.output_bytes);
//! # Ok(())
//! # }
//! ```
//!
//! Run one of its layers:
//!
#![cfg_attr(feature = "cpu", doc = "```standalone_crate")]
#![cfg_attr(not(feature = "cpu"), doc = "```ignore")]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/setup.rs"));
//! # fn main() -> residua::Result<()> {
//! # let _folder = setup::split();
//! use residua::{Budget, Device, SplitFile};
//!
//! let device = Device::best(&Budget::new(64 << 20))?;
//! let layer = SplitFile::open("split.safetensors")?.layer("layer.weight", &device)?;
//!
//! // Two inputs of 256 features, one after the other. Alpha 1 is the whole model, 0 the base alone.
//! let y = layer.forward(1.0, &[0.5; 2 * 256], 2)?;
//! assert_eq!(y.len(), 2 * 64);
//! # Ok(())
//! # }
//! ```
//!
//! Ship a fine-tune as what changed:
//!
//! ```standalone_crate
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/setup.rs"));
//! # fn main() -> residua::Result<()> {
//! # let _folder = setup::checkpoints();
//! use residua::{Budget, Delta, Job, New, Old, Output};
//!
//! let job = Job::new(&Budget::new(64 << 20));
//! job.diff(Old("model.safetensors"), New("tuned.safetensors"), Output("delta.safetensors"))?;
//! job.patch(Old("model.safetensors"), Delta("delta.safetensors"), Output("patched.safetensors"))?;
//! # assert_eq!(std::fs::read("tuned.safetensors").ok(), std::fs::read("patched.safetensors").ok());
//! # Ok(())
//! # }
//! ```
//!
//! Move the statistics of old classes along with a model that was fine-tuned, and classify with them:
//!
#![cfg_attr(feature = "compensate", doc = "```standalone_crate")]
#![cfg_attr(not(feature = "compensate"), doc = "```ignore")]
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/setup.rs"));
//! # fn main() -> residua::Result<()> {
//! # let _folder = setup::features();
//! use residua::Budget;
//! use residua::compensate::{ClassStatistics, Classifier, Lda, Linear, Method, NpySource};
//!
//! let budget = Budget::new(64 << 20);
//! let mut old = NpySource::labelled("features.npy", "labels.npy")?;
//! let old = ClassStatistics::collect(&mut old, &Default::default(), &budget)?;
//!
//! // The same inputs, before and after the fine-tune.
//! let mut pairs = NpySource::pairs("before.npy", "after.npy")?;
//! let moved = Linear::default().fit(&mut pairs, &budget)?.apply(&old, &budget)?;
//!
//! // Two inputs of 8 features.
//! let classes = Lda::new(&moved, Default::default(), &budget)?.predict(&[0.5; 2 * 8], &budget)?;
//! assert_eq!(classes.len(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it adds | default |
//! |---|---|---|
//! | `cpu` | the backend of this machine's processor | yes |
//! | `cuda` | the backend of NVIDIA GPUs; needs no CUDA toolkit | no |
//! | `wgpu` | the backend of Vulkan, Metal and Direct3D 12 devices | no |
//! | `compensate` | class statistics, compensators and classifiers | yes |
//! | `sprs`, `nalgebra-sparse` | conversions to and from the matrices of these libraries | no |
//!
//! # Which crate to take
//!
//! Take this one, unless you need only a part of it:
//!
//! | you want to | crate | here |
//! |---|---|---|
//! | read and write the files, convert sparse matrices | `residua-format` | [`format`](mod@format) |
//! | split, diff and patch checkpoints without running them | `residua-split` | [`split`](mod@split) |
//! | multiply on one known backend | `residua-backend-cpu`, `-cuda`, `-wgpu` | [`cpu`], `cuda`, `wgpu` |
//! | write a backend | `residua-backend` | [`backend`] |
//! | keep class statistics | `residua-compensate` | [`compensate`] |
//! | budget the memory of another program | `residua-memory` | [`memory`] |
//!
//! # Errors
//!
//! Everything here returns [`Error`]; [`Error::kind`] says whether the request, an input, the budget, the operating
//! system or a device is at fault. The errors of the crates below turn into it with `?`.

mod device;
mod error;
mod file;
mod job;
mod layer;

pub use device::{Device, DeviceOptions};
pub use error::{Error, Result};
pub use file::{LayerInfo, SplitFile};
pub use job::Job;
pub use layer::{Base, Layer};

pub use residua_backend::{Activations, DeviceInfo};
pub use residua_memory::{Budget, ByteSize, ErrorKind};
pub use residua_split::{
    ActivationsAt, BaseSpec, CalibrateOptions, Delta, DiffOptions, Importance, LayerInputs,
    MaterializeOptions, New, NoProgress, Old, Output, Progress, Selection, SplitOptions, Statistic,
    TensorMut, VerifyOptions,
};

pub use residua_backend as backend;
#[cfg(feature = "cpu")]
pub use residua_backend_cpu as cpu;
#[cfg(feature = "cuda")]
pub use residua_backend_cuda as cuda;
#[cfg(feature = "wgpu")]
pub use residua_backend_wgpu as wgpu;
#[cfg(feature = "compensate")]
pub use residua_compensate as compensate;
pub use residua_format as format;
pub use residua_memory as memory;
pub use residua_split as split;
