//! Parts of statistics: whoever collects them, and in however many files, they merge to the bytes of a single pass.
#![allow(clippy::unwrap_used)]

mod common;

use std::ops::Range;
use std::path::{Path, PathBuf};

use common::{difference, normal};
use proptest::prelude::*;
use residua_compensate::source::FileSource;
use residua_compensate::statistics::{Leaves, merge_partials};
use residua_compensate::*;
use residua_memory::Budget;

/// Rows and labels of a few classes, so that small dimensions fold some classes in leaves, some in merges and some never.
#[derive(Debug, Clone)]
struct Samples {
    dim: usize,
    rows: Vec<f32>,
    labels: Vec<u32>,
}

impl Samples {
    fn new(dim: usize, labels: Vec<u32>) -> Self {
        Self { dim, rows: normal(dim * labels.len(), 3), labels }
    }

    fn count(&self) -> u64 {
        self.labels.len() as u64
    }

    /// A builder of some leaves.
    fn part(&self, leaves: Leaves, part: Range<u64>, budget: &Budget) -> StatisticsBuilder {
        let rows = leaves.rows_of(part.clone());
        let rows = rows.start as usize..(rows.end as usize).min(self.labels.len());
        let mut builder = StatisticsBuilder::part(self.dim, leaves, part.start, budget);
        builder.add(&self.rows[rows.start * self.dim..rows.end * self.dim], &self.labels[rows]).unwrap();
        builder
    }
}

fn samples() -> impl Strategy<Value = Samples> {
    (1usize..6, prop::collection::vec(0u32..4, 1..150)).prop_map(|(dim, labels)| Samples::new(dim, labels))
}

fn bytes(builder: &StatisticsBuilder, folder: &Path) -> Vec<u8> {
    let path = folder.join("bytes");
    builder.save(&path).unwrap();
    std::fs::read(path).unwrap()
}

fn finished(builder: StatisticsBuilder, folder: &Path) -> Vec<u8> {
    let path = folder.join("finished");
    let statistics = builder.finish(Storage::Smallest, Precision::F64).unwrap();
    statistics.save(&path, &Budget::unlimited()).unwrap();
    std::fs::read(path).unwrap()
}

fn reload(builder: &StatisticsBuilder, folder: &Path, name: &str) -> StatisticsBuilder {
    builder.save(folder.join(name)).unwrap();
    StatisticsBuilder::load(folder.join(name), &Budget::unlimited()).unwrap()
}

proptest! {
    /// Any cut between leaves, merged in any grouping, in memory or through files, is the single pass, bit for bit.
    #[test]
    fn parts_merge_to_the_single_pass(
        samples in samples(),
        leaf_rows in 1u64..40,
        cuts in prop::collection::vec(0u64..150, 0..6),
        groups in prop::collection::vec(any::<prop::sample::Index>(), 6),
        through_files in any::<bool>(),
        known in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let budget = Budget::unlimited();
        let all = samples.count().div_ceil(leaf_rows);
        let leaves = Leaves::new(leaf_rows);
        let leaves = if known { leaves.of_total(samples.count()) } else { leaves };
        let whole = samples.part(leaves, 0..all, &budget);
        let mut cuts: Vec<u64> = cuts.into_iter().map(|cut| cut % (all + 1)).chain([0, all]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut parts: Vec<_> = cuts.windows(2).map(|cut| samples.part(leaves, cut[0]..cut[1], &budget)).collect();
        for group in groups {
            if parts.len() < 2 {
                break;
            }
            let at = group.index(parts.len() - 1);
            let (mut left, mut right) = (parts.remove(at), parts.remove(at));
            if through_files {
                left = reload(&left, folder.path(), &format!("left{}", parts.len()));
                right = reload(&right, folder.path(), &format!("right{}", parts.len()));
            }
            left.merge(right).unwrap();
            parts.insert(at, left);
        }
        let merged = parts.remove(0);
        prop_assert_eq!(bytes(&merged, folder.path()), bytes(&whole, folder.path()));
        prop_assert_eq!(finished(merged, folder.path()), finished(whole, folder.path()));
    }

    /// A budget without room for the subtrees that wait gives the same bytes, and the result is that of one leaf.
    #[test]
    fn waiting_in_files_changes_nothing(samples in samples(), leaf_rows in 1u64..30) {
        let folder = tempfile::tempdir().unwrap();
        let leaves = Leaves::new(leaf_rows);
        let collect = |leaves, budget: &Budget| {
            let mut source = MemorySource::labelled(samples.dim, &samples.rows, &samples.labels).unwrap();
            let options = StatisticsOptions::default().with_precision(Precision::F64).with_leaves(leaves);
            ClassStatistics::collect(&mut source, &options, budget)
        };
        let CompensateError::Budget(error) = collect(leaves, &Budget::new(300)).unwrap_err() else { panic!() };
        let tight = Budget::new(error.minimum);
        let spilled = collect(leaves, &tight).unwrap();
        prop_assert!(tight.peak() <= error.minimum);
        // A builder does not know the arrays that its samples came from.
        let untagged = spilled.clone().with_tag(Tag::default());
        untagged.save(folder.path().join("spilled"), &Budget::unlimited()).unwrap();
        let roomy = finished(samples.part(leaves, 0..samples.count(), &Budget::unlimited()), folder.path());
        prop_assert_eq!(std::fs::read(folder.path().join("spilled")).unwrap(), roomy);
        let once = collect(Leaves::default(), &Budget::unlimited()).unwrap();
        for ((label, a), (_, b)) in spilled.iter().zip(once.iter()) {
            prop_assert_eq!(a.count(), b.count());
            prop_assert!((a.mean() - b.mean()).amax() < 1e-13, "{label}");
            let off = difference(&a.covariance().to_dense(), &b.covariance().to_dense());
            prop_assert!(off < 1e-12, "class {label}: {off:e}");
        }
    }

    /// A loaded builder goes on as the saved one would.
    #[test]
    fn a_loaded_builder_goes_on(samples in samples(), leaf_rows in 1u64..40, cut in 0usize..150, double in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let cut = cut % (samples.labels.len() + 1);
        let doubles: Vec<f64> = samples.rows.iter().map(|&v| f64::from(v) + 1e-9).collect();
        let add = |builder: &mut StatisticsBuilder, from: usize, to: usize| {
            let range = from * samples.dim..to * samples.dim;
            let floats = if double { Floats::F64(&doubles[range]) } else { Floats::F32(&samples.rows[range]) };
            builder.add_floats(floats, &samples.labels[from..to]).unwrap();
        };
        let mut whole = StatisticsBuilder::part(samples.dim, Leaves::new(leaf_rows), 0, &Budget::unlimited());
        add(&mut whole, 0, cut);
        let mut loaded = reload(&whole, folder.path(), "saved");
        add(&mut whole, cut, samples.labels.len());
        add(&mut loaded, cut, samples.labels.len());
        prop_assert_eq!(bytes(&loaded, folder.path()), bytes(&whole, folder.path()));
        prop_assert_eq!(loaded.samples(), samples.count());
    }

    /// A changed byte is found, whatever it is: in the metadata, in the data, in their hash.
    #[test]
    fn damage_is_found(at in any::<prop::sample::Index>(), flip in 1u8..=255) {
        let folder = tempfile::tempdir().unwrap();
        let samples = Samples::new(3, (0..60).map(|i| i % 3).collect());
        let path = folder.path().join("partial");
        samples.part(Leaves::new(16), 0..4, &Budget::unlimited()).save(&path).unwrap();
        let sound = std::fs::read(&path).unwrap();
        let mut damaged = sound.clone();
        let at = at.index(damaged.len());
        damaged[at] ^= flip;
        std::fs::write(&path, &damaged).unwrap();
        if let Ok(builder) = StatisticsBuilder::load(&path, &Budget::new(1 << 20)) {
            // Spaces behind the header, and tensors that swap their names' spelling of nothing, carry no meaning.
            prop_assert_eq!(bytes(&builder, folder.path()), sound, "byte {}", at);
        }
    }
}

fn parts_of(samples: &Samples, leaves: Leaves, parts: u64, folder: &Path) -> Vec<PathBuf> {
    let leaves = leaves.of_total(samples.count());
    let part = |part: u64| {
        let path = folder.join(format!("part{part}"));
        samples.part(leaves, leaves.part(part, parts).unwrap(), &Budget::unlimited()).save(&path).unwrap();
        path
    };
    (0..parts).map(part).collect()
}

/// In memory for one class more than the result, and in any order of files.
#[test]
fn files_merge_in_any_order_and_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Samples::new(24, (0..2400).map(|i| i * 7 % 11).collect());
    let leaves = Leaves::new(200);
    let counted = Budget::unlimited();
    let whole = samples.part(leaves.of_total(2400), 0..12, &counted);
    let result = counted.used();
    let mut parts = parts_of(&samples, leaves, 5, folder.path());
    parts.swap(0, 3);
    parts.swap(1, 4);
    // The result, one class, the scratch of a fold, and the tables of a file.
    let tight = Budget::new(result + 60_000);
    let merged = merge_partials(&parts, &tight, |_| Ok(())).unwrap();
    assert_eq!(bytes(&merged, folder.path()), bytes(&whole, folder.path()));
    // Another order of unequal leaves is another sum.
    let mut swapped = samples.clone();
    swapped.rows.rotate_left(200 * 24);
    swapped.labels.rotate_left(200);
    let swapped = swapped.part(leaves.of_total(2400), 0..12, &counted);
    assert_ne!(finished(swapped, folder.path()), finished(whole, folder.path()));
}

#[test]
fn what_does_not_belong_together_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Samples::new(4, (0..100).map(|i| i % 3).collect());
    let leaves = Leaves::new(10);
    let budget = Budget::unlimited();
    let parts = parts_of(&samples, leaves, 5, folder.path());
    let fails = |inputs: &[&PathBuf]| {
        let merged = merge_partials(inputs, &budget, |_| Ok(()));
        merged.and_then(|merged| merged.finish(Storage::Smallest, Precision::F64)).unwrap_err().to_string()
    };
    let [a, b, c, d, e] = &parts[..] else { panic!() };
    let missing = fails(&[a, b, d, e]);
    assert!(missing.contains("part3") && missing.contains("start at leaf 6; leaf 4 comes next"), "{missing}");
    assert!(fails(&[a, b, c, d]).contains("rows 0 to 80 of 100; merge them"));
    assert!(fails(&[b, c, d, e]).contains("rows 20 to 100 of 100"));
    assert!(fails(&[a, a]).contains("twice"));
    assert!(fails(&[]).contains("empty"));
    let other = folder.path().join("other");
    samples.part(Leaves::new(20).of_total(100), 1..3, &budget).save(&other).unwrap();
    assert!(fails(&[a, &other]).contains("leaves of 20 of 100 rows do not merge with 10 of 100 rows"));
    let wide = Samples::new(5, samples.labels.clone());
    wide.part(leaves.of_total(100), 2..3, &budget).save(&other).unwrap();
    assert!(fails(&[a, &other]).contains("dimension 5, expected 4"));
    let swapped = |first: &Path, second: &Path| {
        let mut first = StatisticsBuilder::load(first, &budget).unwrap();
        first.merge(StatisticsBuilder::load(second, &budget).unwrap()).unwrap_err().to_string()
    };
    assert!(swapped(b, a).contains("start at leaf 0; leaf 4 comes next"));
    // Statistics are not partial statistics, and the other way round.
    let statistics = folder.path().join("statistics");
    samples
        .part(leaves, 0..10, &budget)
        .finish(Storage::Smallest, Precision::F64)
        .unwrap()
        .save(&statistics, &budget)
        .unwrap();
    let error = StatisticsBuilder::load(&statistics, &budget).unwrap_err().to_string();
    assert!(error.ends_with("statistics: holds class statistics, not partial class statistics"), "{error}");
    let error = ClassStatistics::load(a, &budget).unwrap_err().to_string();
    assert!(error.ends_with("part0: holds partial class statistics, not class statistics"), "{error}");
}

/// Processes that draw their own samples have no common leaves: they merge in the order in which they are given.
#[test]
fn parts_of_an_unknown_whole_merge_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Samples::new(4, (0..100).map(|i| i % 3).collect());
    let budget = Budget::unlimited();
    let part = |rows: Range<usize>| {
        let mut builder = StatisticsBuilder::new(4, &budget);
        builder.add(&samples.rows[rows.start * 4..rows.end * 4], &samples.labels[rows]).unwrap();
        builder
    };
    let merged = |first: Range<usize>, second: Range<usize>| {
        let mut builder = part(first);
        builder.merge(part(second)).unwrap();
        assert_eq!((builder.samples(), builder.classes()), (100, 3));
        let reloaded = reload(&builder, folder.path(), "merged");
        assert_eq!(finished(reloaded, folder.path()), finished(builder, folder.path()));
        std::fs::read(folder.path().join("merged")).unwrap()
    };
    assert_eq!(merged(0..37, 37..100), merged(0..37, 37..100));
    // Three of them, each from a file: no sample is lost, and the bits are those of a merge in memory.
    let three = |through_files: bool| {
        let [mut first, second, third] = [0..20, 20..61, 61..100].map(|rows| {
            let name = format!("rows{}", rows.start);
            if through_files { reload(&part(rows), folder.path(), &name) } else { part(rows) }
        });
        for (next, samples) in [(second, 61), (third, 100)] {
            first.merge(next).unwrap();
            assert_eq!(first.samples(), samples);
        }
        finished(first, folder.path())
    };
    assert_eq!(three(true), three(false));
    assert_ne!(merged(0..37, 37..100), merged(37..100, 0..37));
}

/// After an error in a merge nothing may be counted that is not complete.
#[test]
fn a_failed_merge_is_not_forgotten() {
    let samples = Samples::new(24, vec![0; 400]);
    let counted = Budget::unlimited();
    let leaves = Leaves::new(100);
    let fits = samples.part(leaves, 0..1, &counted);
    let budget = Budget::new(counted.used() + 24 * 24 * 4);
    drop(fits);
    let mut builder = StatisticsBuilder::part(24, leaves, 0, &budget);
    let error = (0..4).find_map(|_| builder.add(&samples.rows[..24 * 100], &samples.labels[..100]).err());
    assert!(matches!(error, Some(CompensateError::Budget(_))), "{error:?}");
    if let Err(error) = builder.add(&samples.rows[..24], &[0]) {
        assert!(
            error.to_string().contains("incomplete") || matches!(error, CompensateError::Budget(_)),
            "{error}"
        );
    }
}

#[test]
fn rows_of_several_files_are_read_in_any_cut() {
    let folder = tempfile::tempdir().unwrap();
    let samples = Samples::new(3, (0..50).collect());
    let mut places = Vec::new();
    for (file, range) in [0..20, 20..20, 20..33, 33..50].into_iter().enumerate() {
        let path = folder.path().join(format!("{file}.safetensors"));
        let mut writer = residua_format::file::SafetensorsWriter::create(&path, 500).unwrap();
        let (x, y) = (&samples.rows[range.start * 3..range.end * 3], &samples.labels[range.clone()]);
        let dtype = residua_format::file::Dtype::F32;
        writer.tensor("x", dtype, &[range.len(), 3], bytemuck::cast_slice(x)).unwrap();
        writer
            .tensor("y", residua_format::file::Dtype::U32, &[range.len()], bytemuck::cast_slice(y))
            .unwrap();
        writer.finish().unwrap();
        places.push(std::sync::Arc::new(residua_format::file::Checkpoint::open(path).unwrap()));
    }
    let open = || {
        let array = |file: &std::sync::Arc<_>, name: &str| {
            residua_compensate::source::ArrayAt::Tensor(std::sync::Arc::clone(file), name.into())
        };
        places
            .iter()
            .map(|file| FileSource::open(&array(file, "x"), None, Some(&array(file, "y"))).unwrap())
            .collect()
    };
    for (start, end) in [(0, 50), (0, 20), (19, 21), (20, 33), (5, 6), (33, 900), (50, 60), (7, 7)] {
        let (mut labels, mut known, mut read) = (Vec::new(), Vec::new(), Vec::new());
        for mut source in FileSource::rows_of(open(), start..end) {
            assert!(source.for_each_label(&mut |labels| known.extend_from_slice(labels)).unwrap());
            source.rewind().unwrap();
            let mut block = FeatureBlock::new(3);
            while source.read(4, &mut block).unwrap() > 0 {}
            assert_eq!(source.rows(), Some(block.rows() as u64));
            labels.extend_from_slice(block.labels().unwrap());
            read.extend_from_slice(block.before());
        }
        let expected = start.min(50) as usize..end.min(50) as usize;
        assert_eq!(labels, samples.labels[expected.clone()]);
        assert_eq!(known, labels);
        assert_eq!(read, samples.rows[expected.start * 3..expected.end * 3]);
    }
}
