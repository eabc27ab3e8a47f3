//! Products and layers timed: out of cache and in it, in a graph and one by one, beside the peers.

use residua_backend::Backend;
use residua_backend_cuda::{CudaBackend, CudaMatrix};
use residua_format::convert::{csr_to_coo, csr_to_gap};
use residua_format::{Csr, ValueType};

use super::data::{Plan, Random, base, matrix};
use super::peers::Peers;
use super::report::{Report, Row};
use super::timing::{Sequence, medians};

/// Launches of a sequence on one matrix.
const WARM_LAUNCHES: usize = 64;

pub(crate) fn fill(
    cuda: &CudaBackend,
    peers: Option<&Peers>,
    plan: &Plan,
    report: &mut Report,
) -> super::Result {
    for &shape in &plan.shapes {
        for (i, &density) in plan.densities.iter().enumerate() {
            let csr = matrix(shape, density, i as u64 + 1)?;
            eprintln!("{shape:?} at {density}: {} entries", csr.nnz());
            // All value types once, in the middle of the table; bf16 everywhere.
            let types =
                if shape[1] == 11008 && density == 0.05 { &ValueType::ALL[..] } else { &[ValueType::Bf16] };
            for &value_type in types {
                products(cuda, peers, plan, report, &csr, value_type, density)?;
            }
            layers(cuda, plan, report, &csr, density)?;
            conversion(cuda, report, &csr, density)?;
        }
    }
    Ok(())
}

/// As many copies as push each other out of the cache.
fn copies(
    cuda: &CudaBackend,
    csr: &Csr<f32, u32>,
    value_type: ValueType,
    cold_bytes: usize,
) -> super::Result<Vec<CudaMatrix>> {
    let gap = csr_to_gap(csr, value_type)?;
    let first = cuda.upload(&gap)?;
    let count = cold_bytes.div_ceil(first.bytes()).clamp(1, 512);
    let mut matrices = vec![first];
    for _ in 1..count {
        matrices.push(cuda.upload(&gap)?);
    }
    Ok(matrices)
}

fn products(
    cuda: &CudaBackend,
    peers: Option<&Peers>,
    plan: &Plan,
    report: &mut Report,
    csr: &Csr<f32, u32>,
    value_type: ValueType,
    density: f64,
) -> super::Result {
    let [rows, cols] = [csr.rows(), csr.cols()];
    let matrices = copies(cuda, csr, value_type, plan.cold_bytes)?;
    for &batch in &plan.batches {
        let x = Random(2).numbers(cols * batch);
        let x_here = cuda.upload_vector(&x, [cols, batch])?;
        let mut y = cuda.zeros([rows, batch])?;
        let cold =
            cuda.record(|cuda| matrices.iter().try_for_each(|a| cuda.spmm(1.0, a, &x_here, 0.0, &mut y)))?;
        let warm = cuda.record(|cuda| {
            (0..WARM_LAUNCHES).try_for_each(|_| cuda.spmm(1.0, &matrices[0], &x_here, 0.0, &mut y))
        })?;
        let replay = |graph: residua_backend_cuda::CudaGraph, launches| Sequence {
            launches,
            run: Box::new(move || {
                graph.replay()?;
                Ok(cuda.synchronize()?)
            }),
        };
        let mut sequences = vec![replay(cold, matrices.len()), replay(warm, WARM_LAUNCHES)];
        let mut names = vec!["cold", "warm"];
        sequences.push(Sequence {
            launches: WARM_LAUNCHES,
            run: Box::new(|| {
                for _ in 0..WARM_LAUNCHES {
                    cuda.spmm(1.0, &matrices[0], &x_here, 0.0, &mut y)?;
                }
                Ok(cuda.synchronize()?)
            }),
        });
        names.push("warm, no graph");
        let mut peer_names = Vec::new();
        if let Some(peers) = peers {
            // A peer that fails is a line of the report, not the end of it.
            match peers.products(csr, batch, &x, plan.cold_bytes, WARM_LAUNCHES) {
                Ok(theirs) => theirs.into_iter().for_each(|(name, sequence)| {
                    sequences.push(sequence);
                    peer_names.push(name);
                }),
                Err(error) => report.absent.push(format!("peers at {rows}×{cols}, batch {batch} ({error})")),
            }
        }
        let seconds = medians(&mut sequences, plan.rounds)?;
        drop(sequences);
        let (own, others) = seconds.split_at(names.len());
        for (mode, &seconds) in names.into_iter().zip(own) {
            let peers = peer_names
                .iter()
                .zip(others)
                .filter(|((_, of), _)| *of == mode.trim_end_matches(", no graph"));
            report.rows.push(Row {
                shape: [rows, cols],
                density,
                operation: if batch == 1 { "spmv".into() } else { format!("spmm {batch}") },
                values: value_type.name().into(),
                mode: mode.into(),
                seconds,
                bytes: matrices[0].bytes() + 4 * batch * (rows + cols),
                peers: peers.map(|((name, _), &seconds)| (name.clone(), seconds)).collect(),
            });
        }
    }
    Ok(())
}

/// The fused layer beside its base alone.
fn layers(
    cuda: &CudaBackend,
    plan: &Plan,
    report: &mut Report,
    csr: &Csr<f32, u32>,
    density: f64,
) -> super::Result {
    let shape @ [rows, cols] = [csr.rows(), csr.cols()];
    let host = base(shape)?;
    let gap = csr_to_gap(csr, ValueType::Bf16)?;
    let mut pairs = vec![(cuda.upload_base(&host)?, cuda.upload(&gap)?)];
    let bytes = pairs[0].0.bytes() + pairs[0].1.bytes();
    for _ in 1..plan.cold_bytes.div_ceil(bytes).min(64) {
        pairs.push((cuda.upload_base(&host)?, cuda.upload(&gap)?));
    }
    for batch in [1, 8] {
        let x = cuda.upload_vector(&Random(2).numbers(cols * batch), [cols, batch])?;
        let mut y = cuda.zeros([rows, batch])?;
        let mut sequences = Vec::new();
        for alpha in [1.0, 0.0] {
            let graph = cuda.record(|cuda| {
                pairs.iter().try_for_each(|(base, residual)| cuda.forward(base, residual, alpha, &x, &mut y))
            })?;
            let run = Box::new(move || {
                graph.replay()?;
                Ok(cuda.synchronize()?)
            });
            sequences.push(Sequence { launches: pairs.len(), run });
        }
        let seconds = medians(&mut sequences, plan.rounds)?;
        report.rows.push(Row {
            shape,
            density,
            operation: format!("layer {batch}"),
            values: "bf16".into(),
            mode: "cold".into(),
            seconds: seconds[0],
            bytes: bytes + 4 * batch * (rows + cols),
            peers: vec![("base alone".into(), seconds[1])],
        });
    }
    Ok(())
}

/// COO to CSR on the device, upload included.
fn conversion(cuda: &CudaBackend, report: &mut Report, csr: &Csr<f32, u32>, density: f64) -> super::Result {
    let coo = csr_to_coo(csr)?;
    let run = || {
        cuda.upload_coo(&coo)?;
        Ok(cuda.synchronize()?)
    };
    let seconds = medians(&mut [Sequence { launches: 1, run: Box::new(run) }], 3)?;
    report.rows.push(Row {
        shape: [csr.rows(), csr.cols()],
        density,
        operation: "coo to csr".into(),
        values: "f32".into(),
        mode: "with upload".into(),
        seconds: seconds[0],
        bytes: coo.nnz() * 12,
        peers: Vec::new(),
    });
    Ok(())
}
