//! A job that is stopped leaves everything as it was, wherever it is stopped.
#![allow(clippy::unwrap_used, reason = "tests")]

mod split_support;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use residua_format::file::Dtype;
use residua_memory::Budget;
use residua_split::{
    BaseSpec, Delta, DiffOptions, ErrorKind, MaterializeOptions, New, Old, Output, Progress, SplitError,
    SplitOptions, VerifyOptions, diff, materialize, patch, split, verify,
};
use split_support::{Bench, Dense, weights};

const BEFORE: &str = "as it was";

/// Lets a job go on for some questions, then stops it.
struct StopAfter(AtomicUsize);

impl Progress for StopAfter {
    fn stop(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

/// Stops a job at every place at which it can be stopped, with and without an old output; how many there are.
fn stop_everywhere(
    bench: &Bench,
    output: &Path,
    job: impl Fn(&dyn Progress) -> Result<(), SplitError>,
) -> usize {
    let mut places = 0;
    for old in [None, Some(BEFORE)] {
        for after in 0.. {
            drop(std::fs::remove_file(output));
            old.inspect(|old| std::fs::write(output, old).unwrap());
            let before = bench.files();
            let Err(error) = job(&StopAfter(after.into())) else {
                places = after;
                break;
            };
            assert!(matches!(error, SplitError::Interrupted), "{after}: {error}");
            assert_eq!(error.kind(), ErrorKind::Interrupted);
            assert_eq!(error.to_string(), "interrupted; nothing was written");
            assert_eq!(std::fs::read_to_string(output).ok().as_deref(), old, "{after}");
            assert_eq!(bench.files(), before, "{after}");
        }
    }
    places
}

#[test]
fn every_job_can_be_stopped_between_blocks() {
    let bench = Bench::new();
    let values = weights(600, 300, 1);
    let mut changed = values.clone();
    changed.iter_mut().step_by(50).for_each(|w| *w += 1.0);
    let tensors = |values: &[f32], passed: u8| {
        let passed = Dense::raw("passed", Dtype::U8, &[600_000], vec![passed; 600_000]);
        [Dense::new("w", Dtype::F32, &[600, 300], values), passed]
    };
    let old = bench.write("old", &tensors(&values, 1));
    let new = bench.write("new", &tensors(&changed, 2));
    let at = |name: &str| bench.path(name);
    let small = |bytes: u64| move || Budget::new(bytes);

    let budget = small(9 << 18);
    for base in [SplitOptions::default().base, BaseSpec::Checkpoint(old.clone())] {
        let options = SplitOptions::default().base(base);
        let places = stop_everywhere(&bench, &at("split"), |progress| {
            split(&new, Output(at("split")), &options, &budget(), progress).map(drop)
        });
        // Three passes of several blocks, three pieces of the tensor that passes, and the end.
        assert!(places > 7, "split: {places}");
        let places = stop_everywhere(&bench, &at("dense"), |progress| {
            let options = MaterializeOptions::default();
            materialize(at("split"), Output(at("dense")), &options, &budget(), progress).map(drop)
        });
        assert!(places > 4, "materialize: {places}");
        let places = stop_everywhere(&bench, &at("nothing"), |progress| {
            let options = VerifyOptions::default().against(&new);
            verify(at("split"), &options, &budget(), progress).map(drop)
        });
        assert!(places > 3, "verify: {places}");
    }
    for budget in [small(2 << 20), small(64 << 20)] {
        let places = stop_everywhere(&bench, &at("delta"), |progress| {
            let options = DiffOptions::default();
            diff(Old(&old), New(&new), Output(at("delta")), &options, &budget(), progress).map(drop)
        });
        assert!(places > 5, "diff: {places}");
        let places = stop_everywhere(&bench, &at("patched"), |progress| {
            patch(Old(&old), Delta(at("delta")), Output(at("patched")), &budget(), progress).map(drop)
        });
        assert!(places > 4, "patch: {places}");
    }
    assert_eq!(std::fs::read(at("patched")).unwrap(), std::fs::read(&new).unwrap());
}
