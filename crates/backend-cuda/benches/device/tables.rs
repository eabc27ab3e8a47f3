//! Times of products and layers: out of cache and in cache, in a graph and one by one, beside the peers.

use std::path::Path;
use std::time::Instant;

use residua_backend::{Backend, BackendError, VectorShape, reference};
use residua_backend_cuda::{CudaBackend, CudaBase, CudaGraph, CudaMatrix, PeerCoo, PeerKernel};
use residua_format::convert::{csr_to_coo, csr_to_gap};
use residua_format::{Csr, ValueType};

use super::peers::{Contestants, Peers};
use super::shared::Result;
use super::shared::check::{agrees, is_product};
use super::shared::data::{Plan, Random, matrix};
use super::shared::operands::{cold, copies, layers};
use super::shared::report::{Report, Row, shape_text};
use super::shared::timing::{Run, Sequence, medians};
use super::targets::{COO_TOTAL, PER_ENTRY, judge};

/// Number of launches in a sequence on one matrix.
const WARM_LAUNCHES: usize = 64;
/// Number of products that share one conversion from COO.
const COO_PRODUCTS: f64 = 100.0;

/// The plan, the contestants, and the report of their times.
pub(crate) struct Tables<'a> {
    pub(crate) cuda: &'a CudaBackend,
    pub(crate) peers: Option<&'a Peers>,
    pub(crate) plan: &'a Plan,
    pub(crate) report: &'a mut Report,
}

impl Tables<'_> {
    /// Fills the report, and saves it after each matrix.
    pub(crate) fn fill(&mut self, out: &Path) -> Result {
        for &shape in &self.plan.shapes {
            for (i, &density) in self.plan.densities.iter().enumerate() {
                let csr = matrix(shape, density, i as u64 + 1)?;
                eprintln!("{} at {density}: {} entries", shape_text(shape), csr.nnz());
                // All value types for one matrix in the middle of the table; only bf16 for the others.
                let all = shape == self.plan.shapes[self.plan.shapes.len() / 2] && density == 0.05;
                let types = if all { &ValueType::ALL[..] } else { &[ValueType::Bf16] };
                for &value_type in types {
                    self.products(&csr, value_type, density, &self.plan.batches)?;
                }
                self.layers(&csr, density)?;
                self.triplets(&csr, density)?;
                self.report.targets = judge(self.report, self.plan);
                self.report.save(out, super::NAME)?;
            }
        }
        for &shape in &self.plan.small {
            let csr = matrix(shape, 0.05, 1)?;
            eprintln!("{}, bound by launches: {} entries", shape_text(shape), csr.nnz());
            if !self.plan.shapes.contains(&shape) {
                self.products(&csr, ValueType::Bf16, 0.05, &[1])?;
            }
            self.layer_sequence(shape, &csr)?;
            self.report.save(out, super::NAME)?;
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
        let (cuda, plan, [rows, cols]) = (self.cuda, self.plan, [csr.rows(), csr.cols()]);
        let gap = csr_to_gap(csr, value_type)?;
        let matrices = copies(cold(plan.cold_bytes, 512), CudaMatrix::bytes, || cuda.upload(&gap))?;
        for &batch in batches {
            let x = Random(2).numbers(cols * batch);
            let x_here = cuda.upload_vector(&x, VectorShape { len: cols, batch })?;
            let mut y = cuda.zeros(VectorShape { len: rows, batch })?;
            cuda.spmm(1.0, &matrices[0], &x_here, 0.0, &mut y)?;
            is_product(value_type.name(), &gap, csr.nnz(), &x, &cuda.download(&y)?)?;
            let cold = cuda
                .record(|cuda| matrices.iter().try_for_each(|a| cuda.spmm(1.0, a, &x_here, 0.0, &mut y)))?;
            let warm = cuda.record(|cuda| {
                (0..WARM_LAUNCHES).try_for_each(|_| cuda.spmm(1.0, &matrices[0], &x_here, 0.0, &mut y))
            })?;
            let names = ["cold", "warm", "warm, no graph"];
            let one_by_one =
                || (0..WARM_LAUNCHES).try_for_each(|_| cuda.spmm(1.0, &matrices[0], &x_here, 0.0, &mut y));
            let mut sequences = vec![
                Sequence { launches: matrices.len(), run: replay(cuda, cold) },
                Sequence { launches: WARM_LAUNCHES, run: replay(cuda, warm) },
                Sequence { launches: WARM_LAUNCHES, run: timed(cuda, one_by_one) },
            ];
            let theirs =
                self.peers.map(|peers| peers.products(csr, batch, &x, plan.cold_bytes, WARM_LAUNCHES));
            let Contestants { sequences: theirs, notes } = theirs.unwrap_or_default();
            let (peer_names, theirs): (Vec<_>, Vec<_>) = theirs.into_iter().unzip();
            sequences.extend(theirs);
            let seconds = self.medians(&mut sequences)?;
            drop(sequences);
            self.report.notes.extend(notes);
            let (own, others) = seconds.split_at(names.len());
            for (mode, &seconds) in names.into_iter().zip(own) {
                let of_mode = mode.trim_end_matches(", no graph");
                let peers = peer_names.iter().zip(others).filter(|((_, of), _)| *of == of_mode);
                let peers = peers.map(|((name, _), &seconds)| (name.clone(), seconds)).collect();
                let what = (value_type, batch, mode);
                let bytes = matrices[0].bytes();
                self.report.rows.push(Row::product([rows, cols], density, what, bytes, seconds, peers));
            }
        }
        Ok(())
    }

    /// The fused layer beside its base alone.
    fn layers(&mut self, csr: &Csr<f32, u32>, density: f64) -> Result {
        let (cuda, shape @ [rows, cols]) = (self.cuda, [csr.rows(), csr.cols()]);
        let pairs = layers(cuda, csr, cold(self.plan.cold_bytes, 64), bytes)?;
        for batch in [1, 8] {
            let x = cuda.upload_vector(&Random(2).numbers(cols * batch), VectorShape { len: cols, batch })?;
            let mut y = cuda.zeros(VectorShape { len: rows, batch })?;
            let mut sequences = Vec::new();
            for alpha in [1.0, 0.0] {
                let graph = cuda.record(|cuda| {
                    pairs
                        .iter()
                        .try_for_each(|(base, residual)| cuda.forward(base, residual, alpha, &x, &mut y))
                })?;
                sequences.push(Sequence { launches: pairs.len(), run: replay(cuda, graph) });
            }
            let seconds = self.medians(&mut sequences)?;
            let seconds = [seconds[0], seconds[1]];
            self.report.rows.push(Row::layer(shape, density, batch, bytes(&pairs[0]), seconds));
        }
        Ok(())
    }

    /// A sequence of small layers, as in a model: in one graph, and one by one.
    fn layer_sequence(&mut self, shape: [usize; 2], csr: &Csr<f32, u32>) -> Result {
        let (cuda, [rows, cols]) = (self.cuda, shape);
        let pairs = layers(cuda, csr, |_| WARM_LAUNCHES, bytes)?;
        let x = cuda.upload_vector(&Random(2).numbers(cols), VectorShape { len: cols, batch: 1 })?;
        let (mut y, mut z) = (
            cuda.zeros(VectorShape { len: rows, batch: 1 })?,
            cuda.zeros(VectorShape { len: rows, batch: 1 })?,
        );
        let graph = cuda.record(|cuda| {
            pairs.iter().try_for_each(|(base, residual)| cuda.forward(base, residual, 1.0, &x, &mut y))
        })?;
        let one_by_one =
            || pairs.iter().try_for_each(|(base, residual)| cuda.forward(base, residual, 1.0, &x, &mut z));
        let mut sequences = vec![
            Sequence { launches: pairs.len(), run: replay(cuda, graph) },
            Sequence { launches: pairs.len(), run: timed(cuda, one_by_one) },
        ];
        let seconds = self.medians(&mut sequences)?;
        self.report.rows.push(Row {
            shape,
            density: 0.05,
            operation: format!("{} layers in a row", pairs.len()),
            values: "bf16".into(),
            mode: "one graph, mean of a layer".into(),
            seconds: seconds[0],
            bytes: bytes(&pairs[0]) + 4 * (rows + cols),
            peers: vec![("launched one by one".into(), seconds[1])],
        });
        Ok(())
    }

    /// Triplets: converted and multiplied, beside kernels that multiply with plain triplets.
    fn triplets(&mut self, csr: &Csr<f32, u32>, density: f64) -> Result {
        let (cuda, shape @ [rows, cols]) = (self.cuda, [csr.rows(), csr.cols()]);
        let host = csr_to_coo(csr)?;
        let coo = PeerCoo::new(cuda, &host)?;
        let x = Random(2).numbers(cols);
        let expected = reference::product(csr, &x, 1);
        let x = cuda.upload_vector(&x, VectorShape { len: cols, batch: 1 })?;
        let mut y = cuda.zeros(VectorShape { len: rows, batch: 1 })?;
        let (plain, gap) = (coo.to_csr(cuda)?, cuda.upload(&csr_to_gap(csr, ValueType::F32)?)?);
        // The scan takes rows times entries, so it runs once, on the smallest matrix.
        let scans = shape == self.plan.shapes[0] && density <= 0.05;
        let kernels = [PeerKernel::PerEntry, PeerKernel::Scan];
        let kernels = &kernels[..if scans { 2 } else { 1 }];
        for &kernel in kernels {
            coo.spmm(cuda, kernel, &x, &mut y)?;
            agrees(&format!("{kernel:?}"), &cuda.download(&y)?, &expected)?;
        }
        for (name, a) in [("CSR from COO", &plain), ("gap CSR", &gap)] {
            cuda.spmm(1.0, a, &x, 0.0, &mut y)?;
            agrees(name, &cuda.download(&y)?, &expected)?;
        }

        // A conversion waits for the device, so each is timed alone.
        let alone = |run| medians(&mut [Sequence { launches: 1, run }], 3, 0.0).map(|seconds| seconds[0]);
        let convert = alone(timed(cuda, || coo.to_csr(cuda).map(drop)))?;
        let convert_uploaded = alone(timed(cuda, || cuda.upload_coo(&host).map(drop)))?;
        let graph = |work: &mut dyn FnMut(&CudaBackend) -> Result<(), BackendError>| -> Result<Sequence<'_>> {
            let graph = cuda.record(|cuda| (0..WARM_LAUNCHES).try_for_each(|_| work(cuda)))?;
            Ok(Sequence { launches: WARM_LAUNCHES, run: replay(cuda, graph) })
        };
        let mut sequences = vec![
            graph(&mut |cuda| cuda.spmm(1.0, &plain, &x, 0.0, &mut y))?,
            graph(&mut |cuda| cuda.spmm(1.0, &gap, &x, 0.0, &mut y))?,
            graph(&mut |cuda| coo.spmm(cuda, PeerKernel::PerEntry, &x, &mut y))?,
        ];
        let mut products = self.medians(&mut sequences)?;
        drop(sequences);
        if scans {
            let run = timed(cuda, || coo.spmm(cuda, PeerKernel::Scan, &x, &mut y));
            products.extend(medians(&mut [Sequence { launches: 1, run }], 1, 0.0)?);
        }
        let peers: Vec<_> = [PER_ENTRY, "COO, a thread per row that scans all"]
            .into_iter()
            .map(String::from)
            .zip(products[2..].iter().copied())
            .collect();
        let per_entry = vec![(PER_ENTRY.to_owned(), products[2])];
        let vectors = 4 * (rows + cols);
        let own = |operation: &str, mode: &str, seconds, bytes, peers| Row {
            shape,
            density,
            operation: operation.into(),
            values: "f32".into(),
            mode: mode.into(),
            seconds,
            bytes,
            peers,
        };
        let [total, _, total_mode] = COO_TOTAL;
        let mean = convert / COO_PRODUCTS + products[0];
        self.report.rows.extend([
            own("spmv, csr from coo", "warm", products[0], plain.bytes() + vectors, peers.clone()),
            own("spmv, gap csr", "warm", products[1], gap.bytes() + vectors, peers),
            own("coo to csr", "on the device", convert, host.nnz() * 12, Vec::new()),
            own("coo to csr", "with upload", convert_uploaded, host.nnz() * 12, Vec::new()),
            own(total, total_mode, mean, plain.bytes() + vectors, per_entry.clone()),
            own("coo to csr + 1 spmv", "warm", convert + products[0], plain.bytes() + vectors, per_entry),
        ]);
        Ok(())
    }
}

/// Bytes of a layer.
fn bytes((base, residual): &(CudaBase, CudaMatrix)) -> usize {
    base.bytes() + residual.bytes()
}

/// Seconds of replays and one wait.
fn replay(cuda: &CudaBackend, graph: CudaGraph) -> Run<'_> {
    timed(cuda, move || graph.replay())
}

/// Seconds of calls and one wait.
fn timed<'a>(cuda: &'a CudaBackend, mut call: impl FnMut() -> Result<(), BackendError> + 'a) -> Run<'a> {
    Box::new(move |times| {
        let start = Instant::now();
        (0..times).try_for_each(|_| call())?;
        cuda.synchronize()?;
        Ok(start.elapsed().as_secs_f64())
    })
}
