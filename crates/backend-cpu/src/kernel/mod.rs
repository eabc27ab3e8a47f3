//! The inner loops, and the choice between their paths.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
mod codes;
mod csr;
mod floats;
mod output;
mod portable;

pub(crate) use csr::csr_product;
pub(crate) use output::{Factor, Output};

use crate::base::{BaseView, CodesView, FloatsView};
use crate::layout::{AnyPlanes, Chunk, Gap, Planes, Stored};
use crate::tile::Tile;

/// Which instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// The instructions of the target.
    Portable,
    /// AVX2, FMA and F16C, found present.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
}

impl Path {
    /// The fastest path of this processor beyond the portable one.
    pub(crate) fn best() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return avx2::Avx2::detect().map(Self::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
        }
    }
}

/// A stored value that every path can load.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Loadable: Stored + avx2::LoadValues {}
#[cfg(target_arch = "x86_64")]
impl<V: Stored + avx2::LoadValues> Loadable for V {}
/// A stored value that every path can load.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) trait Loadable: Stored {}
#[cfg(not(target_arch = "x86_64"))]
impl<V: Stored> Loadable for V {}

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
pub(crate) fn base_product(path: Path, base: BaseView<'_>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    match base {
        BaseView::Codes(base) => codes_product(path, base, first, x, y),
        BaseView::F32(base) => floats_product(path, base, first, x, y),
        BaseView::F16(base) => floats_product(path, base, first, x, y),
        BaseView::Bf16(base) => floats_product(path, base, first, x, y),
    }
}

/// [`base_product`] with codes.
pub(crate) fn codes_product(path: Path, base: CodesView<'_>, first: usize, x: &Tile<'_>, y: &mut Output<'_>) {
    match path {
        Path::Portable => codes::product(base, first, x, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.dense_product(base, first, x, y),
    }
}

fn floats_product<V: Loadable>(
    path: Path,
    base: FloatsView<'_, V>,
    first: usize,
    x: &Tile<'_>,
    y: &mut Output<'_>,
) {
    match path {
        Path::Portable => floats::product(base, first, x, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.dense_product(base, first, x, y),
    }
}

/// Adds `factor · (chunk · x)` to the chunk's rows of `y`.
pub(crate) fn sparse_product<V: Loadable>(
    path: Path,
    chunk: &Chunk<V>,
    factor: Factor<'_>,
    x: &Tile<'_>,
    y: &mut Output<'_>,
) {
    match (path, &chunk.planes) {
        (Path::Portable, AnyPlanes::Narrow(planes)) => portable_product(planes, factor, x, y),
        (Path::Portable, AnyPlanes::Wide(planes)) => portable_product(planes, factor, x, y),
        // Fillers and padding multiply x by 0. That gives 0 for finite values only.
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2(_), AnyPlanes::Narrow(planes)) if !x.finite => portable_product(planes, factor, x, y),
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2(_), AnyPlanes::Wide(planes)) if !x.finite => portable_product(planes, factor, x, y),
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2(avx2), AnyPlanes::Narrow(planes)) => avx2.product(planes, factor, x, y),
        #[cfg(target_arch = "x86_64")]
        (Path::Avx2(avx2), AnyPlanes::Wide(planes)) => avx2.product(planes, factor, x, y),
    }
}

fn portable_product<V: Stored, G: Gap>(
    planes: &Planes<V, G>,
    factor: Factor<'_>,
    x: &Tile<'_>,
    y: &mut Output<'_>,
) {
    match (x.width, x.finite) {
        (1, true) => portable::lanes(planes, factor, &x.x, y),
        (1, false) => portable::rows::<V, G, 1>(planes, factor, &x.x, y),
        (8, _) => portable::rows::<V, G, 8>(planes, factor, &x.x, y),
        (16, _) => portable::rows::<V, G, 16>(planes, factor, &x.x, y),
        (24, _) => portable::rows::<V, G, 24>(planes, factor, &x.x, y),
        _ => portable::rows::<V, G, 32>(planes, factor, &x.x, y),
    }
}
