//! A bounded cache of features.

mod rows;
mod spill;

use std::collections::HashMap;

use residua_memory::{Budget, Reservation};

use crate::error::{check, same_dimension};
use crate::{CompensateError, Result};
use rows::{BLOCK, Rows, Slot};
use spill::Spill;

pub use rows::CachePrecision;

/// Bytes an entry takes beside its numbers: its place in the list and in the map.
const OVERHEAD: u64 = 96;
/// No slot.
const NONE: u32 = u32::MAX;

/// What a [`FeatureCache`] may hold, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheOptions {
    /// Entries at most.
    pub entries: usize,
    /// Bytes at most, what the entries' places take counted; the budget's limit counts in any case.
    pub bytes: u64,
    /// What numbers are stored as.
    pub precision: CachePrecision,
    /// Steps after which an entry expires; never, if not given.
    pub lifetime: Option<u64>,
    /// Whether entries that have to go are kept in a temporary file.
    pub spill: bool,
}

impl Default for CacheOptions {
    /// 10,000 entries in f16, no expiry, no file.
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: u64::MAX,
            precision: CachePrecision::F16,
            lifetime: None,
            spill: false,
        }
    }
}

/// What happened in a cache so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CacheCounters {
    /// Entries found, in memory or in the file.
    pub hits: u64,
    /// Entries not found.
    pub misses: u64,
    /// Of the hits, those found in the file.
    pub from_file: u64,
    /// Entries that left memory because others needed the room.
    pub evicted: u64,
    /// Entries dropped because they were too old.
    pub expired: u64,
}

/// Rows of numbers by key, the least recently used of which go first.
///
/// Bounded in entries and bytes; what it holds is reserved from the budget, and where the budget has no room
/// for another entry an old one goes. Entries expire a number of steps after they were stored
/// ([`set_step`](Self::set_step)). With [`CacheOptions::spill`], entries that have to go are written to a
/// temporary file and found again there.
///
/// ```
/// use residua_compensate::{CacheOptions, FeatureCache};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let budget = Budget::new(1 << 20);
/// let mut cache = FeatureCache::new(3, CacheOptions { entries: 2, ..Default::default() }, &budget)?;
/// for key in 0..3 {
///     cache.insert(key, &[key as f32, 0.5, 0.25])?;
/// }
/// let mut row = [0.0; 3];
/// assert!(!cache.get(0, &mut row)?);
/// assert!(cache.get(2, &mut row)?);
/// assert_eq!(row, [2.0, 0.5, 0.25]);
/// assert_eq!((cache.counters().hits, cache.counters().misses), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FeatureCache {
    width: usize,
    options: CacheOptions,
    /// Entries at most now; [`adapt`](Self::adapt) moves it below `options.entries`.
    capacity: usize,
    budget: Budget,
    held: Reservation,
    places: HashMap<u64, u32>,
    rows: Rows,
    /// Most and least recently used.
    newest: u32,
    oldest: u32,
    step: u64,
    counters: CacheCounters,
    spill: Option<Spill>,
}

impl FeatureCache {
    /// An empty cache of rows of `width` numbers.
    ///
    /// # Errors
    /// When no entry would fit, or the temporary file cannot be made.
    pub fn new(width: usize, options: CacheOptions, budget: &Budget) -> Result<Self> {
        check(width > 0, "width", width as f64, "1 or more")?;
        check(options.entries > 0, "entries", options.entries as f64, "1 or more")?;
        let row = width * options.precision.bytes() as usize;
        let entry = row as u64 + OVERHEAD;
        check(options.bytes >= entry, "bytes", options.bytes as f64, "enough for one entry")?;
        let most = usize::try_from(options.bytes / entry).unwrap_or(usize::MAX).min(NONE as usize - 1);
        let block = BLOCK.min(most).min(options.entries);
        // Blocks are taken whole.
        let options = CacheOptions { entries: options.entries.min(most / block * block), ..options };
        budget.require((block * row) as u64 + OVERHEAD, "a cache entry")?;
        let spill = options.spill.then(|| Spill::new(row)).transpose()?;
        Ok(Self {
            width,
            capacity: options.entries,
            budget: budget.clone(),
            held: budget.reserve(0, "a feature cache")?,
            places: HashMap::new(),
            rows: Rows::new(row, block),
            newest: NONE,
            oldest: NONE,
            step: 0,
            counters: CacheCounters::default(),
            spill,
            options,
        })
    }

    /// Entries in memory.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no entry is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries it may hold in memory now.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes held of the budget.
    pub fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// What happened so far.
    pub fn counters(&self) -> CacheCounters {
        self.counters
    }

    /// Stores a row `[width]` under `key`, in place of what was there.
    ///
    /// # Errors
    /// When the row has another width, a number is not finite, not even one entry fits the budget, or the temporary
    /// file cannot be written.
    pub fn insert(&mut self, key: u64, row: &[f32]) -> Result<()> {
        same_dimension("a row of the cache", row.len(), self.width)?;
        if let Some(column) = row.iter().position(|v| !v.is_finite()) {
            let value = row[column].into();
            return Err(CompensateError::NotFinite { what: "a row of the cache", row: key, column, value });
        }
        self.forget(key);
        let step = self.step;
        self.make_room()?;
        let slot = self.rows.push(key, step, |bytes| self.options.precision.encode(row, bytes));
        self.added(key, slot);
        Ok(())
    }

    /// Copies the row of `key` to `out [width]`; `false` if it is not there any more.
    ///
    /// # Errors
    /// When `out` has another width, the temporary file cannot be read or written, or the budget has no room for the entry.
    pub fn get(&mut self, key: u64, out: &mut [f32]) -> Result<bool> {
        same_dimension("a row of the cache", out.len(), self.width)?;
        if let Some(&slot) = self.places.get(&key) {
            if self.is_old(self.rows.slot(slot).step) {
                self.forget(key);
                self.counters.expired += 1;
            } else {
                self.unlink(slot);
                self.link(slot);
                self.options.precision.decode(self.rows.bytes(slot), out);
                self.counters.hits += 1;
                return Ok(true);
            }
        } else if let Some(step) = self.spill.as_ref().and_then(|spill| spill.step(key)) {
            if self.is_old(step) {
                self.forget(key);
                self.counters.expired += 1;
            } else {
                self.recall(key, step, out)?;
                self.counters.hits += 1;
                self.counters.from_file += 1;
                return Ok(true);
            }
        }
        self.counters.misses += 1;
        Ok(false)
    }

    /// The row of `key`, from the cache or else from `fetch`, which is then stored.
    ///
    /// # Errors
    /// As [`get`](Self::get), [`insert`](Self::insert) and `fetch`.
    pub fn get_or_insert_with(
        &mut self,
        key: u64,
        out: &mut [f32],
        fetch: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<()> {
        if self.get(key, out)? {
            return Ok(());
        }
        fetch(out)?;
        self.insert(key, out)
    }

    /// Says which step it is; entries that are too old by now are dropped.
    pub fn set_step(&mut self, step: u64) {
        self.step = step;
        if self.options.lifetime.is_none() {
            return;
        }
        let mut old: Vec<u64> =
            self.rows.slots().iter().filter(|slot| self.is_old(slot.step)).map(|slot| slot.key).collect();
        if let Some(spill) = &self.spill {
            old.extend(spill.entries().filter(|&(_, step)| self.is_old(step)).map(|(key, _)| key));
            old.sort_unstable();
            old.dedup();
        }
        self.counters.expired += old.len() as u64;
        old.into_iter().for_each(|key| self.forget(key));
    }

    /// Changes how many entries it may hold; the least recently used go, if there are more.
    ///
    /// # Errors
    /// When `entries` is 0 or the temporary file cannot be written.
    pub fn resize(&mut self, entries: usize) -> Result<()> {
        check(entries > 0, "entries", entries as f64, "1 or more")?;
        self.capacity = entries.min(self.options.entries);
        while self.len() > self.capacity {
            self.evict()?;
        }
        Ok(())
    }

    /// Follows the budget: half of the entries go when more than 80 % of it is in use, and twice as many are
    /// allowed, up to the configured number, when less than 50 % is.
    ///
    /// # Errors
    /// When the temporary file cannot be written.
    pub fn adapt(&mut self) -> Result<()> {
        match self.budget.usage() {
            usage if usage > 0.8 => self.resize((self.len() / 2).max(1)),
            usage if usage < 0.5 => self.resize(self.capacity.saturating_mul(2)),
            _ => Ok(()),
        }
    }

    fn is_old(&self, step: u64) -> bool {
        self.options.lifetime.is_some_and(|lifetime| self.step.saturating_sub(step) > lifetime)
    }

    /// Back from the file into memory.
    fn recall(&mut self, key: u64, step: u64, out: &mut [f32]) -> Result<()> {
        let mut bytes = vec![0; self.width * self.options.precision.bytes() as usize];
        if let Some(spill) = &mut self.spill {
            spill.read(key, &mut bytes)?;
        }
        self.options.precision.decode(&bytes, out);
        self.make_room()?;
        let slot = self.rows.push(key, step, |place| place.copy_from_slice(&bytes));
        self.added(key, slot);
        Ok(())
    }

    /// Room for one more row: within the capacity and the budget.
    fn make_room(&mut self) -> Result<()> {
        while self.len() >= self.capacity {
            self.evict()?;
        }
        loop {
            // An entry that goes may leave a place in memory that is there already.
            let needed = self.rows.bytes_for_one_more() + OVERHEAD;
            match self.held.grow(needed, "a feature cache") {
                Ok(()) => return Ok(()),
                Err(error) if self.is_empty() => return Err(error.into()),
                Err(_) => self.evict()?,
            }
        }
    }

    fn added(&mut self, key: u64, slot: u32) {
        self.places.insert(key, slot);
        self.link(slot);
    }

    /// The least recently used entry leaves memory.
    fn evict(&mut self) -> Result<()> {
        let slot = self.oldest;
        let &Slot { key, step, .. } = self.rows.slot(slot);
        let kept = match &mut self.spill {
            Some(spill) => spill.write(key, step, self.rows.bytes(slot))?,
            None => 0,
        };
        self.remove(slot, kept);
        self.counters.evicted += 1;
        Ok(())
    }

    /// Drops an entry wherever it is.
    fn forget(&mut self, key: u64) {
        if let Some(&slot) = self.places.get(&key) {
            self.remove(slot, 0);
        }
        if let Some(spill) = &mut self.spill {
            spill.remove(key, &mut self.held);
        }
    }

    /// Frees what an entry takes in memory, but for `kept` bytes.
    fn remove(&mut self, slot: u32, kept: u64) {
        self.unlink(slot);
        self.places.remove(&self.rows.slot(slot).key);
        let (freed, moved) = self.rows.swap_remove(slot);
        self.held.shrink(freed + OVERHEAD - kept);
        // The last row has taken the place of the removed one.
        if let Some(Slot { key, newer, older, .. }) = moved {
            self.places.insert(key, slot);
            match newer {
                NONE => self.newest = slot,
                newer => self.rows.slot_mut(newer).older = slot,
            }
            match older {
                NONE => self.oldest = slot,
                older => self.rows.slot_mut(older).newer = slot,
            }
        }
    }

    fn unlink(&mut self, slot: u32) {
        let &Slot { newer, older, .. } = self.rows.slot(slot);
        match newer {
            NONE => self.newest = older,
            newer => self.rows.slot_mut(newer).older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.rows.slot_mut(older).newer = newer,
        }
    }

    /// Makes it the most recently used.
    fn link(&mut self, slot: u32) {
        let before = self.newest;
        let entry = self.rows.slot_mut(slot);
        (entry.newer, entry.older) = (NONE, before);
        match before {
            NONE => self.oldest = slot,
            before => self.rows.slot_mut(before).newer = slot,
        }
        self.newest = slot;
    }
}
