"""What auxiliary inputs bring: old classes moved with pairs of one new task alone, and with unlabelled inputs beside them.

    python auxiliary.py residua-demo/drift.safetensors

`residua demo` leaves the file behind: features of MiniLM before and after it was fine-tuned, 15 old and 15 new classes of
WordNet glosses. Five of the new classes are the task here. Samples of the ten others, without their labels, are the
auxiliary inputs. Accuracy is that of `residua.Lda` on test samples of the 15 old and the five new classes.
"""

import argparse

import numpy as np
from safetensors.numpy import load_file

import residua


def statistics(features: np.ndarray, labels: np.ndarray) -> residua.ClassStatistics:
    builder = residua.ClassStatistics.builder(features.shape[1])
    builder.add(features, labels)
    return builder.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    args = parser.parse_args()
    data = {name: array.astype(np.int64 if name.startswith("y_") else np.float32) for name, array in load_file(args.file).items()}
    new = np.unique(data["y_cur"])
    of_task, of_test = np.isin(data["y_cur"], new[:5]), ~np.isin(data["y_test"], new[5:])
    old_classes = data["y_test"][of_test] < new[0]
    others = np.random.default_rng(0).permutation(np.flatnonzero(~of_task))

    print("| fine-tuned | old classes | auxiliary | all | old | new |\n|---|---|---|---|---|---|")
    for variant in ("full", "lora"):
        before, after = data["cur_before"], data[f"cur_after_{variant}"]
        test, labels = data[f"test_after_{variant}"][of_test], data["y_test"][of_test]
        task = statistics(after[of_task], data["y_cur"][of_task])
        stale = statistics(data["old_before"], data["y_old"])

        def show(what: str, count: str, old: residua.ClassStatistics) -> None:
            right = residua.Lda(old | task).predict(test) == labels
            shares = (right.mean(), right[old_classes].mean(), right[~old_classes].mean())
            print(f"| {variant} | {what} | {count} |", " | ".join(f"{100 * share:.1f}" for share in shares), "|")

        show("stale", "", stale)
        for method in (residua.Linear(), residua.Rff()):
            for count in (0, 250, 1000, 2500, len(others)):
                rows = np.concatenate([np.flatnonzero(of_task), others[:count]])
                show(method.name, str(count), method.fit(before[rows], after[rows]).apply(stale))
        show("true", "", statistics(data[f"old_after_{variant}"], data["y_old"]))


if __name__ == "__main__":
    main()
