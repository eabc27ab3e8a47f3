//! Memory-bounded model adaptation in one dependency.
//!
//! An adapted model is its old self plus a small residual. [`split`] finds that residual in a checkpoint and
//! streams it to a file, [`format`](mod@format) stores it in 2–3 bytes per non-zero, [`cpu`] applies it, and
//! every job takes a [`Budget`](memory::Budget) and keeps it.
//!
//! | module | what |
//! |---|---|
//! | [`memory`] | budgets, reservations, aligned buffers, what the process really holds |
//! | [`format`](mod@format) | `Coo`, `Csr`, gap-encoded `GapCsr`, quantised bases, conversions, files |
//! | [`split`] | checkpoint → base + residual and back; diff and patch |
//! | [`backend`] | what a backend computes: the trait, and the reference in f64 |
//! | [`any`] | a backend chosen at run time |
//! | [`cpu`] | the backend of this machine's processor (feature `cpu`, on by default) |
//! | `cuda` | the backend of NVIDIA GPUs (feature `cuda`) |
//! | `wgpu` | the backend of Vulkan, Metal and Direct3D 12 devices (feature `wgpu`) |
//! | [`compensate`] | class statistics that follow a fine-tuned model (feature `compensate`, on by default) |
//!
//! # Example
//!
//! Splits a checkpoint within 64 MiB, loads one layer and runs it.
//!
#![cfg_attr(feature = "cpu", doc = "```")]
#![cfg_attr(not(feature = "cpu"), doc = "```ignore")]
//! # use residua::format::file::{Dtype, SafetensorsWriter};
//! # let folder = tempfile::tempdir()?;
//! # std::env::set_current_dir(&folder)?;
//! # let weights: Vec<u8> = (0..64 * 256).flat_map(|i| ((i * 7919 % 513) as f32 / 256.0 - 1.0).to_le_bytes()).collect();
//! # let mut model = SafetensorsWriter::create("model.safetensors".as_ref(), 256)?;
//! # model.tensor("layer.weight", Dtype::F32, &[64, 256], &weights)?;
//! # model.finish()?;
//! use residua::backend::{Backend, VectorShape};
//! use residua::cpu::{CpuBackend, CpuOptions};
//! use residua::format::file::Container;
//! use residua::memory::Budget;
//! use residua::split::{NoProgress, Selection, SplitOptions, split};
//!
//! let budget = Budget::new(64 << 20);
//! let options = SplitOptions { selection: Selection::Density(0.05), ..Default::default() };
//! split("model.safetensors".as_ref(), "split.safetensors".as_ref(), &options, &budget, &NoProgress)?;
//!
//! let file = Container::open("split.safetensors".as_ref())?;
//! let cpu = CpuBackend::open(&CpuOptions::default(), &budget)?;
//! let base = cpu.upload_base(&*file.read_base("layer.weight", &budget)?)?;
//! let residual = cpu.upload(&*file.read_gap("layer.weight", &budget)?)?;
//!
//! // One input of 256 features; alpha 1 is the whole model, 0 the base alone.
//! let x = cpu.upload_vector(&[1.0; 256], VectorShape { len: 256, batch: 1 })?;
//! let mut y = cpu.zeros(VectorShape { len: 64, batch: 1 })?;
//! cpu.forward(&base, &residual, 1.0, &x, &mut y)?;
//! assert_eq!(cpu.download(&y)?.len(), 64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod any;

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
