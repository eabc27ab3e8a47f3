//! A bounded cache of features.

mod rows;
mod spill;

use std::collections::HashMap;

use residua_memory::{Budget, Reservation};

use crate::error::{check, same_dimension};
use crate::setters::setters;
use crate::{CompensateError, Result};
use rows::{BLOCK, Rows, Slot};
use spill::Spill;

pub use rows::CachePrecision;
pub(crate) use spill::OVERHEAD as SPILLED;

/// Bytes of an entry beside its numbers: its place in the list and in the map.
const OVERHEAD: u64 = 96;
/// No slot.
const NONE: u32 = u32::MAX;

/// What a [`FeatureCache`] may hold, and how.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheOptions {
    /// The largest number of entries.
    pub entries: usize,
    /// The largest number of bytes, including the index of entries. The limit of the budget holds too.
    pub bytes: u64,
    /// The precision of stored numbers.
    pub precision: CachePrecision,
    /// The number of steps after which an entry expires; never unless set.
    pub lifetime: Option<u64>,
    /// Whether a temporary file keeps the entries that leave memory.
    pub spill: bool,
}

impl CacheOptions {
    setters! {
        /// With at most this many entries.
        with_entries: entries: usize,
        /// With at most this many bytes.
        with_bytes: bytes: u64,
        /// With numbers stored at this precision.
        with_precision: precision: CachePrecision,
        /// With entries that expire after this many steps.
        with_lifetime: lifetime: Some(u64),
        /// With or without a temporary file for entries that leave memory.
        with_spill: spill: bool,
    }
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

/// Counts of what happened in a cache so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CacheCounters {
    /// Entries found, in memory or in the file.
    pub hits: u64,
    /// Entries not found.
    pub misses: u64,
    /// Hits whose entry was in the file.
    pub from_file: u64,
    /// Entries that left memory to make room for others.
    pub evicted: u64,
    /// Entries dropped because of their age.
    pub expired: u64,
}

/// Rows of numbers by key. The least recently used row leaves first.
///
/// The cache is bounded in entries and bytes. It reserves its bytes from the budget; if the budget has no room for a new
/// entry, an old one leaves. Entries expire a number of steps after they were stored ([`set_step`](Self::set_step)).
/// With [`CacheOptions::spill`], entries that leave memory go to a temporary file, and the cache finds them there.
///
/// ```
/// use residua_compensate::{CacheOptions, FeatureCache};
/// use residua_memory::Budget;
///
/// # fn main() -> residua_compensate::Result<()> {
/// let budget = Budget::new(1 << 20);
/// let mut cache = FeatureCache::new(3, CacheOptions::default().with_entries(2), &budget)?;
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
    /// The largest number of entries now; [`adapt`](Self::adapt) may set it below `options.entries`.
    capacity: usize,
    budget: Budget,
    held: Reservation,
    places: HashMap<u64, u32>,
    rows: Rows,
    /// The most and the least recently used row.
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
    /// When no entry would fit, or the temporary file cannot be created.
    pub fn new(width: usize, options: CacheOptions, budget: &Budget) -> Result<Self> {
        check(width > 0, "width", width as f64, "1 or more")?;
        check(options.entries > 0, "entries", options.entries as f64, "1 or more")?;
        let row = width * options.precision.bytes() as usize;
        let entry = row as u64 + OVERHEAD;
        check(options.bytes >= entry, "bytes", options.bytes as f64, "enough for one entry")?;
        let most = usize::try_from(options.bytes / entry).unwrap_or(usize::MAX).min(NONE as usize - 1);
        let block = BLOCK.min(most).min(options.entries);
        // Memory is allocated in whole blocks.
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

    /// The number of entries that it may hold in memory now.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes reserved from the budget.
    pub fn bytes(&self) -> u64 {
        self.held.bytes()
    }

    /// Counts of what happened so far.
    pub fn counters(&self) -> CacheCounters {
        self.counters
    }

    /// Stores a row `[width]` under `key` and replaces a row that was there.
    ///
    /// # Errors
    /// When the row has another width, a number is not finite, the budget has no room for one entry, or the temporary
    /// file cannot be written.
    pub fn insert(&mut self, key: u64, row: &[f32]) -> Result<()> {
        same_dimension("a row of the cache", row.len(), self.width)?;
        if let Some(column) = row.iter().position(|v| !v.is_finite()) {
            let value = row[column].into();
            return Err(CompensateError::NotFinite {
                what: "a row of the cache".into(),
                row: key,
                column,
                value,
            });
        }
        self.forget(key);
        let step = self.step;
        self.make_room()?;
        let slot = self.rows.push(key, step, |bytes| self.options.precision.encode(row, bytes));
        self.added(key, slot);
        Ok(())
    }

    /// Copies the row of `key` to `out [width]`; `false` if the cache does not have it.
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

    /// Copies the row of `key` to `out [width]`. A row that the cache does not have comes from `fetch` and is stored.
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

    /// Sets the step, and drops entries that are too old at it.
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

    /// Changes the largest number of entries; if there are more, the least recently used ones leave.
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

    /// Follows the budget. If more than 80 % of it is in use, half of the entries leave; if less than 50 % is in use, the
    /// cache may hold twice as many, up to the configured number.
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

    /// Brings a row back from the file to memory.
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

    /// Makes room for one more row within the capacity and the budget.
    fn make_room(&mut self) -> Result<()> {
        while self.len() >= self.capacity {
            self.evict()?;
        }
        loop {
            // An entry that left may have freed a place that is already allocated.
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

    /// Removes the least recently used entry from memory.
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

    /// Drops an entry from memory and from the file.
    fn forget(&mut self, key: u64) {
        if let Some(&slot) = self.places.get(&key) {
            self.remove(slot, 0);
        }
        if let Some(spill) = &mut self.spill {
            spill.remove(key, &mut self.held);
        }
    }

    /// Frees the memory of an entry, except `kept` bytes.
    fn remove(&mut self, slot: u32, kept: u64) {
        self.unlink(slot);
        self.places.remove(&self.rows.slot(slot).key);
        let (freed, moved) = self.rows.swap_remove(slot);
        self.held.shrink(freed + OVERHEAD - kept);
        // The last row has moved to the place of the removed one.
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

    /// Makes the row the most recently used one.
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
