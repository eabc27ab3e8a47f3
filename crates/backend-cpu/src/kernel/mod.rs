//! The inner loops, and the choice between their paths.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod codes;
mod csr;
mod floats;
mod integer;
mod output;
mod portable;

pub(crate) use csr::csr_product;
pub(crate) use output::{Factor, Output, Rows};

use crate::base::{BaseView, CodesView, FloatsView, PackedView};
use crate::input::Input;
use crate::layout::{AnyPlanes, Chunk, Gap, Planes, Stored};
use crate::quantized::{Part, Quantized, round};
use crate::tile::Tile;

/// Which instructions the kernels use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// The instructions of the target.
    Portable,
    /// AVX2, FMA and F16C, found present.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// Also AVX-512 F, BW and VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
}

impl Path {
    /// The fastest path of this processor.
    pub(crate) fn best() -> Self {
        Self::avx512().or(Self::avx2()).unwrap_or(Self::Portable)
    }

    pub(crate) fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return avx2::Avx2::detect().map(Self::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    pub(crate) fn avx512() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return avx512::Avx512::detect().map(Self::Avx512);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
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

/// A gap that every path can load.
#[cfg(target_arch = "x86_64")]
trait LoadableGap: Gap + avx2::LoadGaps {}
#[cfg(target_arch = "x86_64")]
impl<G: Gap + avx2::LoadGaps> LoadableGap for G {}
/// A gap that every path can load.
#[cfg(not(target_arch = "x86_64"))]
trait LoadableGap: Gap {}
#[cfg(not(target_arch = "x86_64"))]
impl<G: Gap> LoadableGap for G {}

impl Path {
    /// Rounds inputs to integers.
    pub(crate) fn round(self, part: Part<'_>) {
        match self {
            Self::Portable => round(part),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.round(part),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.round(part),
        }
    }
}

/// Writes `base · x` for the rows from `first` on, as many as `y` has.
pub(crate) fn base_product(path: Path, base: BaseView<'_>, first: usize, x: &Input<'_>, y: &mut Rows<'_>) {
    match base {
        BaseView::Codes(base) => codes_product(path, base, first, &x.tiles, y),
        BaseView::Packed(base) => {
            // A packed base has its input in integers.
            if let Some((at, x)) = &x.quantized {
                integer_product(path, base, first, x, *at, y);
            }
        }
        BaseView::F32(base) => floats_product(path, base, first, &x.tiles, y),
        BaseView::F16(base) => floats_product(path, base, first, &x.tiles, y),
        BaseView::Bf16(base) => floats_product(path, base, first, &x.tiles, y),
    }
}

/// [`base_product`] with codes.
pub(crate) fn codes_product(
    path: Path,
    base: CodesView<'_>,
    first: usize,
    tiles: &[Tile<'_>],
    y: &mut Rows<'_>,
) {
    match path {
        Path::Portable => tiles.iter().for_each(|x| codes::product(base, first, x, &mut y.of(x))),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.dense_product(base, first, tiles, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512(avx512) => avx512.dense_product(base, first, tiles, y),
    }
}

fn integer_product(
    path: Path,
    base: PackedView<'_>,
    first: usize,
    x: &Quantized,
    at: usize,
    y: &mut Rows<'_>,
) {
    match path {
        Path::Portable => integer::product(base, first, x, at, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.integer_product(base, first, x, at, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512(avx512) => avx512.integer_product(base, first, x, at, y),
    }
}

fn floats_product<V: Loadable>(
    path: Path,
    base: FloatsView<'_, V>,
    first: usize,
    tiles: &[Tile<'_>],
    y: &mut Rows<'_>,
) {
    match path {
        Path::Portable => tiles.iter().for_each(|x| floats::product(base, first, x, &mut y.of(x))),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.dense_product(base, first, tiles, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512(avx512) => avx512.dense_product(base, first, tiles, y),
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
    match &chunk.planes {
        AnyPlanes::Narrow(planes) => planes_product(path, planes, factor, x, y),
        AnyPlanes::Wide(planes) => planes_product(path, planes, factor, x, y),
    }
}

fn planes_product<V: Loadable, G: LoadableGap>(
    path: Path,
    planes: &Planes<V, G>,
    factor: Factor<'_>,
    x: &Tile<'_>,
    y: &mut Output<'_>,
) {
    match path {
        Path::Portable => portable_product(planes, factor, x, y),
        // Fillers and padding multiply x by 0. That gives 0 for finite values only.
        #[cfg(target_arch = "x86_64")]
        _ if !x.finite => portable_product(planes, factor, x, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx2(avx2) => avx2.product(planes, factor, x, y),
        #[cfg(target_arch = "x86_64")]
        Path::Avx512(avx512) => avx512.product(planes, factor, x, y),
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
