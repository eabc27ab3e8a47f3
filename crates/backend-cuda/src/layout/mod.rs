//! How a gap-encoded residual lies on a device: slices of 32 lanes, each with its own column.
//!
//! SELL-C-σ (M. Kreutzer et al., *A unified sparse matrix data format for efficient general sparse matrix-vector
//! multiplication on modern processors with wide SIMD units*, SIAM J. Sci. Comput. 36, 2014) with C = 32 and σ = 16,
//! columns stored as gaps:
//!
//! - A **row block** is 16 neighbouring rows. One block of threads computes it. Its slices lie together, so the same
//!   block of threads can also compute these rows of a layer's base, without a second kernel.
//! - A row is cut into 2, 4, … or 32 runs of equal length, one per lane. Lanes of one row are neighbours: the kernel
//!   adds their sums with shuffles. A run has about 32 entries. In small matrices runs are shorter, so that the
//!   whole GPU has work. The column before each run is stored, so no scan over lanes is needed.
//! - A **slice** is 32 lanes. All its rows have the same number of lanes, and the longest rows come first. A *step* of a
//!   slice is four gaps and four values per lane, so a warp loads 128 neighbouring gaps at a time. A row of more than
//!   2,048 entries has several slices; the kernel adds them in the order of warps.
//!
//! Gaps are 8 bits, or 16 bits if the matrix becomes smaller. A gap of 0 is a filler: the column grows by the largest
//! gap and there is no entry. A lane shorter than its slice is padded with fillers.

mod build;
mod plan;

use std::sync::Arc;

use residua_backend::BackendError;
use residua_memory::Budget;

use crate::abi;
use crate::driver::{Buffer, Driver};

pub(crate) use build::build;

/// Entries of a lane in a step.
pub(crate) const STEP: usize = 4;

/// The planes on the host, in the form that the device gets.
#[derive(Debug, Default)]
pub(crate) struct Planes<V, G> {
    /// First slice of each row block; at the end, the number of slices.
    pub(crate) blocks: Vec<u32>,
    /// Per slice: first step; steps and lanes ([`head`]); 16 row numbers of 4 bits.
    pub(crate) slices: Vec<[u32; 4]>,
    /// Per slice and lane: the column before its first entry.
    pub(crate) starts: Vec<u32>,
    /// Per step and lane: four gaps.
    pub(crate) gaps: Vec<G>,
    /// Per step and lane: four values.
    pub(crate) values: Vec<V>,
}

/// Second word of a slice: steps, rows and the logarithm of lanes per row.
pub(crate) fn head(steps: usize, rows: usize, log2_lanes: u32) -> u32 {
    debug_assert!(steps < 1 << 16 && rows <= 16 && log2_lanes <= 5);
    (steps as u32) << 16 | (rows as u32) << 8 | log2_lanes
}

/// The planes on the device.
#[derive(Debug)]
pub(crate) struct Sliced {
    /// Whether gaps have 16 bits.
    pub(crate) wide: bool,
    planes: [Arc<Buffer>; 6],
}

impl Sliced {
    /// Uploads the planes and a scale per row, or no scales.
    pub(crate) fn upload<V: bytemuck::NoUninit, G: bytemuck::NoUninit>(
        driver: &Arc<dyn Driver>,
        budget: &Budget,
        planes: &Planes<V, G>,
        scales: &[f32],
    ) -> Result<Self, BackendError> {
        const WHAT: &str = "a sparse matrix";
        let planes = [
            Buffer::from_slice(driver, budget, &planes.blocks, WHAT)?,
            Buffer::from_slice(driver, budget, &planes.slices, WHAT)?,
            Buffer::from_slice(driver, budget, &planes.starts, WHAT)?,
            Buffer::from_slice(driver, budget, &planes.gaps, WHAT)?,
            Buffer::from_slice(driver, budget, &planes.values, WHAT)?,
            Buffer::from_slice(driver, budget, scales, WHAT)?,
        ];
        Ok(Self { wide: size_of::<G>() == 2, planes: planes.map(Arc::new) })
    }

    /// The addresses of the planes.
    pub(crate) fn argument(&self) -> abi::Gap {
        let [blocks, slices, starts, gaps, values, scales] =
            [0, 1, 2, 3, 4, 5].map(|i| self.planes[i].address());
        abi::Gap { blocks, slices, starts, gaps, values, scales }
    }

    /// The identity of their device.
    pub(crate) fn device(&self) -> usize {
        self.planes[0].device()
    }

    /// The planes.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = Arc<Buffer>> {
        self.planes.iter().cloned()
    }

    /// Bytes on the device.
    pub(crate) fn bytes(&self) -> usize {
        self.planes.iter().map(|plane| plane.bytes()).sum()
    }
}
