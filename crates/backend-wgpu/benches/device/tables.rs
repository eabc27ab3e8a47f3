//! Times products and layers, in cache and out of it, beside plain CSR and the base alone.

use std::path::Path;

use residua_backend::{Backend, BackendError, VectorShape};
use residua_backend_wgpu::{WgpuBackend, WgpuBase, WgpuCsr, WgpuMatrix};
use residua_format::convert::csr_to_gap;
use residua_format::{Csr, ValueType};

use super::shared::Result;
use super::shared::check::is_product;
use super::shared::data::{Plan, Random, matrix};
use super::shared::operands::{cold, copies, layers};
use super::shared::report::{Report, Row, shape_text};
use super::shared::timing::{Sequence, medians};

/// Dispatches in a sequence on one matrix.
const WARM_DISPATCHES: usize = 64;

/// What is timed, and the report of it.
pub(crate) struct Tables<'a> {
    pub(crate) gpu: &'a WgpuBackend,
    pub(crate) plan: &'a Plan,
    pub(crate) report: &'a mut Report,
}

impl Tables<'_> {
    /// Fills the report and saves it after each matrix.
    pub(crate) fn fill(&mut self, out: &Path) -> Result {
        for &shape in &self.plan.shapes {
            for (i, &density) in self.plan.densities.iter().enumerate() {
                let csr = matrix(shape, density, i as u64 + 1)?;
                eprintln!("{} at {density}: {} entries", shape_text(shape), csr.nnz());
                for value_type in ValueType::ALL {
                    // Batches with bf16 values, single vectors with all types.
                    let batches = if value_type == ValueType::Bf16 { &self.plan.batches[..] } else { &[1] };
                    self.products(&csr, value_type, density, batches)?;
                }
                self.layers(&csr, density)?;
                self.report.targets = super::targets::judge(self.report, self.plan);
                self.report.save(out, super::NAME)?;
            }
        }
        for &shape in &self.plan.small {
            if !self.plan.shapes.contains(&shape) {
                let csr = matrix(shape, 0.05, 1)?;
                eprintln!("{}, bound by dispatches: {} entries", shape_text(shape), csr.nnz());
                self.products(&csr, ValueType::Bf16, 0.05, &[1])?;
            }
        }
        Ok(())
    }

    fn medians(&self, sequences: &mut [Sequence<'_>]) -> Result<Vec<f64>> {
        medians(sequences, self.plan.rounds, self.plan.round)
    }

    fn products(
        &mut self,
        csr: &Csr<f32, u32>,
        value_type: ValueType,
        density: f64,
        batches: &[usize],
    ) -> Result {
        let (gpu, [rows, cols]) = (self.gpu, [csr.rows(), csr.cols()]);
        let gap = csr_to_gap(csr, value_type)?;
        let cold_bytes = self.plan.cold_bytes;
        let matrices = copies(cold(cold_bytes, 256), WgpuMatrix::bytes, || gpu.upload(&gap))?;
        // As many bytes of plain CSR, whose values are f32.
        let plain = match value_type {
            ValueType::F32 => copies(cold(cold_bytes, 128), WgpuCsr::bytes, || gpu.upload_plain_csr(csr))?,
            _ => Vec::new(),
        };
        for &batch in batches {
            let host = Random(2).numbers(cols * batch);
            let x = gpu.upload_vector(&host, VectorShape { len: cols, batch })?;
            let (mut y, mut z) =
                (gpu.zeros(VectorShape { len: rows, batch })?, gpu.zeros(VectorShape { len: rows, batch })?);
            gpu.spmm(1.0, &matrices[0], &x, 0.0, &mut y)?;
            is_product(value_type.name(), &gap, csr.nnz(), &host, &gpu.download(&y)?)?;
            for mode in ["cold", "warm"] {
                let launches = if mode == "cold" { matrices.len() } else { WARM_DISPATCHES };
                let at = |i: usize, len: usize| if mode == "cold" { i % len } else { 0 };
                let mut sequences = vec![sequence(gpu, launches, |i| {
                    gpu.spmm(1.0, &matrices[at(i, matrices.len())], &x, 0.0, &mut y)
                })];
                if batch == 1 && !plain.is_empty() {
                    let launches = if mode == "cold" { plain.len() } else { WARM_DISPATCHES };
                    sequences.push(sequence(gpu, launches, |i| {
                        gpu.spmv_plain_csr(1.0, &plain[at(i, plain.len())], &x, 0.0, &mut z)
                    }));
                }
                let seconds = self.medians(&mut sequences)?;
                drop(sequences);
                let peers = seconds[1..].iter().map(|&seconds| ("CSR f32".into(), seconds)).collect();
                let (what, bytes) = ((value_type, batch, mode), matrices[0].bytes());
                self.report.rows.push(Row::product([rows, cols], density, what, bytes, seconds[0], peers));
            }
        }
        Ok(())
    }

    /// The fused layer beside its base alone.
    fn layers(&mut self, csr: &Csr<f32, u32>, density: f64) -> Result {
        let (gpu, shape @ [rows, cols]) = (self.gpu, [csr.rows(), csr.cols()]);
        let bytes = |(base, residual): &(WgpuBase, WgpuMatrix)| base.bytes() + residual.bytes();
        let pairs = layers(gpu, csr, cold(self.plan.cold_bytes, 64), bytes)?;
        for batch in [1, 8] {
            let x = gpu.upload_vector(&Random(2).numbers(cols * batch), VectorShape { len: cols, batch })?;
            let (mut y, mut z) =
                (gpu.zeros(VectorShape { len: rows, batch })?, gpu.zeros(VectorShape { len: rows, batch })?);
            let mut sequences = vec![
                sequence(gpu, pairs.len(), |i| gpu.forward(&pairs[i].0, &pairs[i].1, 1.0, &x, &mut y)),
                sequence(gpu, pairs.len(), |i| gpu.forward(&pairs[i].0, &pairs[i].1, 0.0, &x, &mut z)),
            ];
            let seconds = self.medians(&mut sequences)?;
            let seconds = [seconds[0], seconds[1]];
            self.report.rows.push(Row::layer(shape, density, batch, bytes(&pairs[0]), seconds));
        }
        Ok(())
    }
}

/// A sequence that calls `call(0)` to `call(launches - 1)`, a number of times, with many dispatches in a submission.
fn sequence<'a>(
    gpu: &'a WgpuBackend,
    launches: usize,
    mut call: impl FnMut(usize) -> Result<(), BackendError> + 'a,
) -> Sequence<'a> {
    let run = Box::new(move |times| {
        let time = gpu.time(|| (0..times).try_for_each(|_| (0..launches).try_for_each(&mut call)))?;
        Ok(time.seconds)
    });
    Sequence { launches, run }
}
