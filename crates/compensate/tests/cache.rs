//! The feature cache against a model of it, its bounds, and its file.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;

use proptest::prelude::*;
use residua_compensate::*;
use residua_memory::Budget;

fn row(key: u64, version: u32) -> [f32; 4] {
    [key as f32, version as f32, 0.5, -1.0]
}

/// What a cache has to do, as simply as it can be said: a list, the least recently used first.
struct Model {
    entries: Vec<(u64, u32, u64)>,
    file: HashMap<u64, (u32, u64)>,
    capacity: usize,
    lifetime: u64,
    step: u64,
    spill: bool,
}

impl Model {
    fn push(&mut self, key: u64, version: u32, step: u64) {
        while self.entries.len() >= self.capacity {
            let (key, version, step) = self.entries.remove(0);
            if self.spill {
                self.file.insert(key, (version, step));
            }
        }
        self.entries.push((key, version, step));
    }

    fn insert(&mut self, key: u64, version: u32) {
        self.entries.retain(|entry| entry.0 != key);
        self.file.remove(&key);
        self.push(key, version, self.step);
    }

    fn get(&mut self, key: u64) -> Option<u32> {
        if let Some(at) = self.entries.iter().position(|entry| entry.0 == key) {
            let entry = self.entries.remove(at);
            self.entries.push(entry);
            return Some(entry.1);
        }
        let (version, step) = *self.file.get(&key)?;
        self.push(key, version, step);
        Some(version)
    }

    fn set_step(&mut self, step: u64) {
        self.step = step;
        let (now, lifetime) = (step, self.lifetime);
        self.entries.retain(|entry| now.saturating_sub(entry.2) <= lifetime);
        self.file.retain(|_, entry| now.saturating_sub(entry.1) <= lifetime);
    }
}

proptest! {
    /// Any sequence of operations gives what the model gives, and what is reserved is given back.
    #[test]
    fn is_its_model(
        steps in prop::collection::vec((0u8..8, 0u64..12), 0..200), capacity in 1usize..9, spill in any::<bool>(),
        precision in prop_oneof![Just(CachePrecision::F32), Just(CachePrecision::F16), Just(CachePrecision::Bf16)],
    ) {
        let budget = Budget::new(1 << 20);
        let options = CacheOptions::default().with_entries(capacity).with_precision(precision).with_lifetime(3).with_spill(spill);
        let mut cache = FeatureCache::new(4, options, &budget).unwrap();
        let (entries, file) = Default::default();
        let mut model = Model { entries, file, capacity, lifetime: 3, step: 0, spill };
        for (version, (action, key)) in steps.into_iter().enumerate() {
            // Small whole numbers are exact in every precision.
            let version = version as u32;
            match action {
                0..=2 => {
                    cache.insert(key, &row(key, version)).unwrap();
                    model.insert(key, version);
                }
                3 => {
                    cache.set_step(model.step + 1);
                    model.set_step(model.step + 1);
                }
                4 => {
                    let entries = 1 + key as usize % capacity;
                    cache.resize(entries).unwrap();
                    model.capacity = entries;
                    while model.entries.len() > entries {
                        let (key, version, step) = model.entries.remove(0);
                        if spill {
                            model.file.insert(key, (version, step));
                        }
                    }
                }
                _ => {
                    let mut found = [0.0; 4];
                    let is_there = cache.get(key, &mut found).unwrap();
                    let expected = model.get(key);
                    prop_assert_eq!(is_there, expected.is_some());
                    if let Some(version) = expected {
                        prop_assert_eq!(found, row(key, version));
                    }
                }
            }
            prop_assert_eq!(cache.len(), model.entries.len());
            prop_assert!(cache.len() <= cache.capacity() && cache.capacity() <= capacity);
            prop_assert_eq!(cache.bytes(), budget.used());
        }
        drop(cache);
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn the_budget_bounds_it() {
    let budget = Budget::new(200_000);
    let mut cache = FeatureCache::new(100, CacheOptions::default(), &budget).unwrap();
    let values = [0.25; 100];
    for key in 0..5000 {
        cache.insert(key, &values).unwrap();
        assert!(budget.used() <= 200_000);
    }
    assert!(cache.len() > 400 && cache.counters().evicted > 4000, "{}", cache.len());
    // Full: half goes. Idle: twice as many may come.
    let before = cache.len();
    cache.adapt().unwrap();
    assert_eq!((cache.len(), cache.capacity()), (before / 2, before / 2));
    cache.resize(10).unwrap();
    assert!(cache.bytes() < 64 * 200 + 10 * 200);
    cache.adapt().unwrap();
    assert_eq!(cache.capacity(), 20);
}

proptest! {
    /// Blocks of rows are counted as well, and room for one block is all that it takes to go on.
    #[test]
    fn its_own_bytes_bound_it(width in 1usize..40, bytes in 200u64..40_000, entries in 1usize..300, spill in any::<bool>()) {
        let budget = Budget::unlimited();
        let options = CacheOptions::default().with_entries(entries).with_bytes(bytes).with_spill(spill);
        let mut cache = FeatureCache::new(width, options.clone(), &budget).unwrap();
        let values = vec![0.5; width];
        (0..600).for_each(|key| cache.insert(key, &values).unwrap());
        // What is known of rows in the file is beside the bound: it is no entry's place in memory.
        let in_file = if spill { 48 * (600 - cache.len() as u64) } else { 0 };
        prop_assert!(cache.bytes() - in_file <= bytes, "{} of {bytes}", cache.bytes());
        prop_assert!(cache.len() <= entries && 4 * cache.len() >= entries.min(bytes as usize / (2 * width + 96)));
    }
}

/// An entry that leaves makes the room that knowing its place takes.
#[test]
fn eviction_to_the_file_needs_no_more_room() {
    let budget = Budget::new(64 * 8 + 20 * 96);
    let options = CacheOptions::default().with_precision(CachePrecision::F16).with_spill(true);
    let mut cache = FeatureCache::new(4, options, &budget).unwrap();
    (0..20).for_each(|key| cache.insert(key, &row(key, 1)).unwrap());
    assert_eq!(budget.available(), 0);
    cache.insert(20, &row(20, 1)).unwrap();
    let mut found = [0.0; 4];
    assert!(cache.get(0, &mut found).unwrap());
    assert_eq!(found, row(0, 1));
}

#[test]
fn what_leaves_memory_is_found_in_the_file() {
    let budget = Budget::new(100_000);
    let options =
        CacheOptions::default().with_entries(8).with_precision(CachePrecision::F32).with_spill(true);
    let mut cache = FeatureCache::new(4, options, &budget).unwrap();
    for key in 0..300 {
        cache.insert(key, &row(key, 7)).unwrap();
    }
    let mut found = [0.0; 4];
    for key in 0..300 {
        assert!(cache.get(key, &mut found).unwrap());
        assert_eq!(found, row(key, 7));
    }
    assert_eq!(cache.counters().misses, 0);
    assert!(cache.counters().from_file >= 292);
    // A new value is never masked by the old one in the file.
    cache.insert(5, &row(5, 8)).unwrap();
    (100..200).for_each(|key| assert!(cache.get(key, &mut found).unwrap()));
    assert!(cache.get(5, &mut found).unwrap());
    assert_eq!(found, row(5, 8));
}

#[test]
fn rows_are_fetched_once() {
    let budget = Budget::new(100_000);
    let mut cache = FeatureCache::new(4, CacheOptions::default(), &budget).unwrap();
    let (mut fetched, mut found) = (0, [0.0; 4]);
    for _ in 0..3 {
        cache
            .get_or_insert_with(1, &mut found, |out| {
                fetched += 1;
                out.copy_from_slice(&row(1, 2));
                Ok(())
            })
            .unwrap();
        assert_eq!(found, row(1, 2));
    }
    assert_eq!((fetched, cache.counters().hits, cache.counters().misses), (1, 2, 1));
}

#[test]
fn wrong_settings_and_rows_are_refused() {
    let budget = Budget::new(10_000);
    let new = |width, options| FeatureCache::new(width, options, &budget).map(drop).unwrap_err().to_string();
    assert!(new(0, CacheOptions::default()).contains("width"));
    assert!(new(4, CacheOptions::default().with_entries(0)).contains("entries"));
    assert!(new(4, CacheOptions::default().with_bytes(10)).contains("one entry"));
    assert!(new(100_000, CacheOptions::default()).contains("budget too small"));
    let mut cache = FeatureCache::new(4, CacheOptions::default(), &budget).unwrap();
    assert!(cache.insert(0, &[1.0; 3]).unwrap_err().to_string().contains("dimension 3, expected 4"));
    assert!(cache.insert(9, &[1.0, f32::NAN, 1.0, 1.0]).unwrap_err().to_string().contains("row 9, column 1"));
    assert!(cache.get(0, &mut [0.0; 5]).is_err());
    // Numbers beyond f16 become its largest, not infinity.
    cache.insert(1, &[1e6, -1e6, 0.0, 0.0]).unwrap();
    let mut found = [0.0; 4];
    cache.get(1, &mut found).unwrap();
    assert_eq!(found, [65_504.0, -65_504.0, 0.0, 0.0]);
}
