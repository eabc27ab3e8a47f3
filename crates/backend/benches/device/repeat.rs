//! The same operands give the same bits, every time.

use residua_backend::{Backend, VectorShape};
use residua_format::ValueType;
use residua_format::convert::{csr_to_coo, csr_to_gap};

use super::Result;
use super::data::{Plan, Random, base, matrix};

/// Repetitions that are compared with the first.
const TIMES: usize = 50;

/// Whether products and layers of the first shape repeat bit for bit.
pub(crate) fn same_bits<B: Backend>(backend: &B, plan: &Plan) -> Result<bool> {
    let shape @ [rows, cols] = plan.shapes[0];
    let csr = matrix(shape, 0.05, 1)?;
    let sparse = backend.upload(&csr_to_gap(&csr, ValueType::Bf16)?)?;
    let from_triplets = backend.upload_coo(&csr_to_coo(&csr)?)?;
    let base = backend.upload_base(&base(shape)?)?;
    let mut alike = true;
    for batch in [1, 33] {
        let x = backend.upload_vector(&Random(2).numbers(cols * batch), VectorShape { len: cols, batch })?;
        let mut first: Option<Vec<u32>> = None;
        for _ in 0..TIMES {
            let mut bits = Vec::new();
            let mut y = backend.zeros(VectorShape { len: rows, batch })?;
            backend.spmm(0.7, &sparse, &x, 0.0, &mut y)?;
            bits.extend(backend.download(&y)?);
            backend.spmm(0.7, &from_triplets, &x, 0.0, &mut y)?;
            bits.extend(backend.download(&y)?);
            backend.forward(&base, &sparse, 0.7, &x, &mut y)?;
            bits.extend(backend.download(&y)?);
            let bits: Vec<u32> = bits.into_iter().map(f32::to_bits).collect();
            alike &= *first.get_or_insert_with(|| bits.clone()) == bits;
        }
    }
    println!("bits repeat: {}", if alike { "yes" } else { "NO" });
    Ok(alike)
}
