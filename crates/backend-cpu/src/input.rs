//! Vectors of a batch that go through a matrix together.

use residua_backend::BackendError;
use residua_memory::{Budget, Reservation};

use crate::CpuBackend;
use crate::base::packed::Order;
use crate::quantized::Quantized;
use crate::tile::{Tile, cut, scratch};

/// Tiles that go through a matrix together. Each piece of a base is decoded once for all of them; a panel of their `x` fits the
/// second-level cache.
pub(crate) const TOGETHER: usize = 4;

/// Some vectors of `x`, in the forms that a product needs.
pub(crate) struct Input<'a> {
    /// Number of vectors.
    pub(crate) width: usize,
    /// As f32, for the residual and for bases that are not packed.
    pub(crate) tiles: Vec<Tile<'a>>,
    /// The first vector's place in the batch, and the vectors as integers, for a packed base.
    pub(crate) quantized: Option<(usize, Quantized)>,
}

impl<'a> Input<'a> {
    /// The vectors of `pass`: tiles as `cut` gives them. `x` is `[cols, batch]` and padding. `packed` is the order of a packed
    /// base. `dense`: there is a base; `needs_tiles`: something takes the vectors as f32.
    pub(crate) fn new(
        cpu: &CpuBackend,
        x: &'a [f32],
        [cols, batch]: [usize; 2],
        pass: &[(usize, usize, usize)],
        packed: Option<Order>,
        (dense, needs_tiles): (bool, bool),
    ) -> Self {
        let at = pass.first().map_or(0, |(at, ..)| *at);
        let width = pass.iter().map(|(_, used, _)| used).sum();
        let tile = |&place| Tile::new(cpu.pool(), x, [cols, batch], place, dense && packed.is_none());
        Self {
            width,
            tiles: if needs_tiles { pass.iter().map(tile).collect() } else { Vec::new() },
            quantized: packed.map(|order| {
                (at, Quantized::new(cpu.path(), cpu.pool(), x, [cols, batch], (at, width), order))
            }),
        }
    }

    /// Reserves the scratch of the largest pass of a batch.
    pub(crate) fn reserve(
        budget: &Budget,
        [cols, batch]: [usize; 2],
        dense: bool,
        packed: Option<Order>,
    ) -> Result<Reservation, BackendError> {
        let tiles = cut(batch).take(TOGETHER);
        let values: usize = tiles.map(|tile| scratch([cols, batch], tile, dense && packed.is_none())).sum();
        let width = cut(batch).take(TOGETHER).map(|(_, used, _)| used).sum();
        let integers = if packed.is_some() { Quantized::bytes(cols, width) } else { 0 };
        Ok(budget.reserve((values * size_of::<f32>() + integers) as u64, "some tiles of a batch")?)
    }
}
