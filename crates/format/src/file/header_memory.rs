//! The memory of headers and indices, as a budget sees it.

use std::path::Path;

use residua_memory::{Budget, Reservation};

use super::{FileError, Result};

/// The memory of all headers of a checkpoint. It takes nothing of the budget up to [`Budget::SMALL_TABLE`].
#[derive(Debug)]
pub(super) struct HeaderMemory {
    budget: Budget,
    bytes: u64,
    held: Option<Reservation>,
}

impl HeaderMemory {
    pub(super) fn new(budget: &Budget) -> Self {
        Self { budget: budget.clone(), bytes: 0, held: None }
    }

    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Takes more, for the file at `path`.
    ///
    /// # Errors
    /// When the budget does not allow it.
    pub(super) fn grow(&mut self, more: u64, path: &Path) -> Result<()> {
        const WHAT: &str = "the names and shapes of its tensors, and its metadata";
        self.bytes += more;
        let wanted = self.bytes.saturating_sub(Budget::SMALL_TABLE);
        match &mut self.held {
            Some(held) => held.grow(wanted.saturating_sub(held.bytes()), WHAT),
            None if wanted == 0 => Ok(()),
            None => self.budget.reserve(wanted, WHAT).map(|held| self.held = Some(held)),
        }
        .map_err(FileError::budget(path))
    }

    /// Gives bytes back.
    pub(super) fn shrink(&mut self, fewer: u64) {
        self.bytes -= fewer.min(self.bytes);
        if let Some(held) = &mut self.held {
            held.shrink(held.bytes().saturating_sub(self.bytes.saturating_sub(Budget::SMALL_TABLE)));
        }
    }
}
