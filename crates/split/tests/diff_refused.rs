//! What a patch refuses: wrong bases and damaged deltas. Nothing is written then.

// Helpers outside of test functions too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod diff_support;

use std::path::{Path, PathBuf};

use diff_support::{Tensor, listing, write};
use residua_format::file::Dtype;
use residua_memory::Budget;
use residua_split::{
    Delta, DeltaOp, DiffOptions, ErrorKind, New, NoProgress, Old, Output, SplitError, Stored, diff, patch,
    read_delta,
};

/// A directory with `old`, `new`, their `delta`, and a `target` that must outlive every refused patch.
struct Case {
    dir: tempfile::TempDir,
    old: Vec<Tensor>,
    new: Vec<Tensor>,
}

const BEFORE: &[u8] = b"what was there before";

impl Case {
    /// Two checkpoints that differ in every way that a delta can express.
    fn new(op: DeltaOp) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let old = vec![
            Tensor::random("same", Dtype::F32, &[3, 5], 1),
            Tensor::random("sparse", Dtype::BF16, &[90, 80], 2),
            Tensor::random("replaced", Dtype::I16, &[20], 3),
            Tensor::random("reshaped", Dtype::U8, &[6, 4], 4),
            Tensor::random("removed", Dtype::F64, &[7], 5),
        ];
        let mut new = old[..4].to_vec();
        new[1] = old[1].changed(0.02, 6).0;
        // A gap above 255 and one change at either end: fillers, and the row's limits.
        for element in [0, 1000, 7199] {
            new[1].bytes[2 * element] = !old[1].bytes[2 * element];
        }
        new[2] = old[2].changed(1.0, 7).0;
        new[3].shape = vec![24];
        new.push(Tensor::random("added", Dtype::F16, &[9], 8));
        let case = Self { dir, old, new };
        write(&case.at("old"), &case.old, "");
        write(&case.at("new"), &case.new, r#"{"format":"pt"}"#);
        std::fs::write(case.at("target"), BEFORE).unwrap();
        let budget = Budget::unlimited();
        let (old, new, delta) = (Old(case.at("old")), New(case.at("new")), Output(case.at("delta")));
        let report = diff(old, new, delta, &DiffOptions::default().op(op), &budget, &NoProgress).unwrap();
        let stored: Vec<_> = report.tensors.iter().map(|tensor| tensor.stored).collect();
        use Stored::{Added, Replaced, Reshaped, Same, Sparse};
        assert_eq!(stored, [Same, Sparse, Replaced, Reshaped, Added]);
        case
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn patch(&self, old: &Path) -> Result<(), SplitError> {
        let budget = Budget::new(64 << 20);
        let result =
            patch(Old(old), Delta(self.at("delta")), Output(self.at("target")), &budget, &NoProgress);
        assert_eq!(budget.used(), 0);
        result.map(drop)
    }

    /// The error of a patch that must fail and leave everything as it was.
    fn refused(&self, old: &Path) -> SplitError {
        let files = listing(self.dir.path());
        let error = self.patch(old).expect_err("a patch that had to be refused");
        assert_eq!(std::fs::read(self.at("target")).unwrap(), BEFORE, "{error}");
        assert_eq!(listing(self.dir.path()), files, "{error}");
        error
    }
}

#[test]
fn a_wrong_base_is_refused_and_the_tensor_named() {
    let case = Case::new(DeltaOp::Overwrite);
    let name = |i: usize| ["same", "sparse", "replaced", "reshaped", "removed"][i];
    for i in 0..5 {
        // One bit; what the delta overwrites, or does not need at all, counts too.
        let mut content = case.old.clone();
        *content[i].bytes.last_mut().unwrap() ^= 0x80;
        let mut retyped = case.old.clone();
        retyped[i].dtype = if retyped[i].dtype == Dtype::BF16 { Dtype::F16 } else { Dtype::I8 };
        retyped[i].shape = vec![retyped[i].bytes.len() * 8 / retyped[i].dtype.bitsize()];
        let mut missing = case.old.clone();
        missing.remove(i);
        let bases = [(content, "content differs"), (retyped, "not "), (missing, "missing")];
        for (tensors, problem) in bases {
            let error = case.refused(&write(&case.at("base"), &tensors, ""));
            let text = error.to_string();
            assert!(text.contains(&format!("tensor {}: not the base", name(i))), "{text}");
            assert!(text.contains(problem), "{text}");
            assert_eq!(error.kind(), ErrorKind::Input);
        }
    }
    for extra in ["added", "unheard of"] {
        let mut more = case.old.clone();
        more.push(Tensor::random(extra, Dtype::U8, &[2], 1));
        let text = case.refused(&write(&case.at("base"), &more, "")).to_string();
        assert!(text.contains(&format!("tensor {extra}: not the base")), "{text}");
    }
    // The first of several is named.
    let others: Vec<Tensor> = case.old.iter().map(|tensor| tensor.changed(0.5, 1).0).collect();
    assert!(case.refused(&write(&case.at("base"), &others[..4], "")).to_string().contains("tensor removed"));
    let text = case.refused(&case.at("new")).to_string();
    assert!(text.contains("not the base"), "{text}");
    case.patch(&case.at("old")).unwrap();
}

/// Whatever happens to a delta, a patch gives the new checkpoint or nothing.
#[test]
fn a_damaged_delta_never_gives_a_wrong_checkpoint() {
    for op in DeltaOp::ALL {
        let case = Case::new(op);
        let (old, delta) = (case.at("old"), std::fs::read(case.at("delta")).unwrap());
        let new = std::fs::read(case.at("new")).unwrap();
        let mut refused = 0;
        for at in 0..delta.len() {
            let mut damaged = delta.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(case.at("delta"), &damaged).unwrap();
            let before = listing(case.dir.path());
            match case.patch(&old) {
                // Spaces, zeros that pad, counts that nothing follows from.
                Ok(()) => {
                    assert!(std::fs::read(case.at("target")).unwrap() == new, "byte {at}");
                    std::fs::write(case.at("target"), BEFORE).unwrap();
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(std::fs::read(case.at("target")).unwrap(), BEFORE, "byte {at}: {error}");
                }
            }
            assert_eq!(listing(case.dir.path()), before, "byte {at}");
        }
        assert!(refused > delta.len() / 2, "{refused} of {} refused", delta.len());
        for length in (0..delta.len()).step_by(7) {
            std::fs::write(case.at("delta"), &delta[..length]).unwrap();
            case.refused(&old);
        }
    }
}

#[test]
fn other_files_are_no_deltas() {
    let case = Case::new(DeltaOp::Xor);
    std::fs::copy(case.at("new"), case.at("delta")).unwrap();
    assert!(case.refused(&case.at("old")).to_string().contains("ordinary safetensors file"));
    assert!(read_delta(case.at("old")).is_err());
    std::fs::remove_file(case.at("delta")).unwrap();
    assert_eq!(case.refused(&case.at("old")).kind(), ErrorKind::Io);
}

#[test]
fn a_budget_below_one_row_says_what_would_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name| dir.path().join(name);
    let tensor = Tensor::random("w", Dtype::F64, &[70_000], 1);
    let (old, new) = (write(&at("old"), std::slice::from_ref(&tensor), ""), write(&at("new"), &[tensor], ""));
    let run = |bytes| {
        let (old, new, delta) = (Old(&old), New(&new), Output(at("delta")));
        diff(old, new, delta, &DiffOptions::default(), &Budget::new(bytes), &NoProgress)
    };
    let error = run(1 << 20).unwrap_err();
    let SplitError::Budget(budget) = &error else { panic!("{error}") };
    assert_eq!((error.kind(), listing(dir.path())), (ErrorKind::Budget, vec!["new".into(), "old".into()]));
    let least = budget.minimum;
    assert!(least < 3 << 20, "{error}");
    assert!(run(least - 1).is_err());
    run(least).unwrap();
    let error = patch(Old(&old), Delta(at("delta")), Output(at("p")), &Budget::new(1 << 20), &NoProgress)
        .unwrap_err();
    assert_eq!((error.kind(), listing(dir.path()).len()), (ErrorKind::Budget, 3));
}

/// Writes to the header of a file when the job has begun to write.
#[cfg(unix)]
struct Rewrites(PathBuf);

#[cfg(unix)]
impl residua_split::Progress for Rewrites {
    fn begin(&self, stage: &str, _: u64) {
        if stage == "writing" {
            let file = std::fs::OpenOptions::new().write(true).open(&self.0).unwrap();
            // The first letter of a name.
            std::os::unix::fs::FileExt::write_all_at(&file, b"S", 8 + 2).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_header_that_changes_meanwhile_is_refused() {
    let case = Case::new(DeltaOp::Overwrite);
    std::fs::write(case.at("delta"), BEFORE).unwrap();
    let (old, new, delta) = (Old(case.at("old")), New(case.at("old")), Output(case.at("delta")));
    let budget = Budget::unlimited();
    let error = diff(old, new, delta, &DiffOptions::default(), &budget, &Rewrites(case.at("old")));
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("old: its header has changed"), "{error}");
    assert_eq!(std::fs::read(case.at("delta")).unwrap(), BEFORE);
}
