"""Class statistics over a real sequence of tasks: how far stale, moved and true statistics are apart, and what auxiliary inputs bring.

    python sequence.py make MINILM_FOLDER WORDNET_FOLDER -o sequence.safetensors [--lora] [--seed N]
    python sequence.py table sequence.safetensors...

`make` fine-tunes a sentence encoder, such as all-MiniLM-L6-v2, on one task after the other. A task's classes are lexicographer files of
WordNet, its samples their glosses. The file holds features before and after every task: of the task's samples, of every class so
far, of test samples, and of glosses without labels, from any class (`aux`) or from classes that no task has (`far`). It is also
what `residua evaluate --sequence` takes.

`table` moves statistics of old classes from task to task, and shows the share of test samples of all classes that classifiers get
right: after the last task, after each task, and for different numbers of auxiliary inputs; averages over the files.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

import residua

METHODS: dict[str, Callable[[], residua.Method]] = {"linear": residua.Linear, "rff": residua.Rff}
CLASSIFIERS: dict[str, Callable[[residua.ClassStatistics], residua.Classifier]] = {
    "ncm": residua.Ncm,
    "lda": lambda statistics: residua.Lda(statistics, shrink=0.0),
    "lda-shrink": residua.Lda,
    "qda-shrink": residua.Qda,
    "qda-pooled": residua.PooledQda,
}


def glosses(folder: Path) -> dict[int, list[str]]:
    """Definitions by lexicographer file, without their examples."""
    found = defaultdict(list)
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text().splitlines():
            fields, _, gloss = line.partition(" | ")
            if gloss and not line.startswith(" "):
                found[int(fields.split()[1])].append(gloss.split(';  "')[0].split('; "')[0].strip())
    return found


class Texts:
    """Who sees which glosses. No gloss has two roles."""

    def __init__(self, folder: Path, args: argparse.Namespace) -> None:
        source, found = random.Random(args.seed), glosses(folder)
        for texts in found.values():
            source.shuffle(texts)
        each = args.samples + args.test
        classes = [number for number, texts in sorted(found.items()) if len(texts) >= each]
        source.shuffle(classes)
        used = classes[: args.tasks * args.classes]
        if len(used) < args.tasks * args.classes:
            raise SystemExit(f"{len(classes)} classes have {each} glosses, {args.tasks * args.classes} are needed")
        self.tasks = [used[first : first + args.classes] for first in range(0, len(used), args.classes)]
        self.samples = {number: found[number][: args.samples] for number in used}
        self.test = {number: found[number][args.samples : each] for number in used}
        far = [text for number, texts in sorted(found.items()) if number not in used for text in texts]
        near = far + [text for number in used for text in found[number][each:]]
        self.far, self.near = source.sample(far, args.auxiliary), source.sample(near, args.auxiliary)


class Encoder:
    """A sentence encoder: means of the last hidden states."""

    def __init__(self, folder: Path, lora: bool, seed: int) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.manual_seed(seed)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32)
        self.lora = lora

    def mean(self, texts: list[str]) -> Any:
        inputs = self.tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
        mask = inputs["attention_mask"][..., None]
        return (self.model(**inputs).last_hidden_state * mask).sum(1) / mask.sum(1)

    def features(self, texts: list[str]) -> np.ndarray:
        import torch

        # Texts of similar lengths share a batch, so little is padded.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        out = np.empty((len(texts), self.model.config.hidden_size), np.float32)
        self.model.eval()
        with torch.inference_mode():
            for first in range(0, len(order), 64):
                rows = order[first : first + 64]
                out[rows] = self.mean([texts[row] for row in rows]).numpy()
        return out

    def learn(self, samples: dict[int, list[str]], epochs: int, source: random.Random) -> None:
        """Fine-tunes on one task, with a linear classifier that is thrown away afterwards."""
        import torch

        pairs = [(text, label) for label, texts in enumerate(samples.values()) for text in texts]
        head = torch.nn.Linear(self.model.config.hidden_size, len(samples))
        if self.lora:
            from peft import LoraConfig, get_peft_model

            settings: Any = LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
            self.model = get_peft_model(self.model, settings)
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        rate = 1e-3 if self.lora else 5e-5
        optimizer = torch.optim.AdamW([{"params": weights, "lr": rate}, {"params": head.parameters(), "lr": 1e-2}])
        self.model.train()
        for _ in range(epochs):
            source.shuffle(pairs)
            for first in range(0, len(pairs), 32):
                texts, labels = zip(*pairs[first : first + 32], strict=True)
                with torch.autocast("cpu", torch.bfloat16):
                    scores = head(self.mean(list(texts)))
                loss: Any = torch.nn.functional.cross_entropy(scores.float(), torch.tensor(labels))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        if self.lora:
            self.model = self.model.merge_and_unload()


def make(args: argparse.Namespace) -> None:
    texts = Texts(args.wordnet, args)
    encoder, source = Encoder(args.model, args.lora, args.seed), random.Random(args.seed)
    tensors: dict[str, np.ndarray] = {}

    def keep(name: str, features: np.ndarray) -> None:
        tensors[name] = features.astype(np.float16)

    def labelled(name: str, of_class: dict[int, list[str]], classes: list[int]) -> None:
        keep(name, encoder.features([text for number in classes for text in of_class[number]]))
        tensors[f"{name}_y"] = np.repeat(np.asarray(classes, np.int32), [len(of_class[number]) for number in classes])

    for task, classes in enumerate(texts.tasks, 1):
        samples = {number: texts.samples[number] for number in classes}
        unlabelled = {"aux": texts.near, "far": texts.far}
        own = [text for chosen in samples.values() for text in chosen]
        if task > 1:
            keep(f"task_{task}_before", encoder.features(own))
            for name, chosen in unlabelled.items():
                tensors[f"{name}_{task}_before"] = tensors[f"{name}_{task - 1}_after"]
        encoder.learn(samples, args.epochs, source)
        for name, chosen in unlabelled.items():
            keep(f"{name}_{task}_after", encoder.features(chosen))
        so_far = [number for classes in texts.tasks[:task] for number in classes]
        labelled(f"all_{task}", texts.samples, so_far)
        labelled(f"test_{task}", texts.test, so_far)
        newest = np.isin(tensors[f"all_{task}_y"], classes)
        tensors[f"task_{task}_after"] = tensors[f"all_{task}"][newest]
        tensors[f"task_{task}_y"] = tensors[f"all_{task}_y"][newest]
        print(f"task {task} of {len(texts.tasks)}: classes {classes}", flush=True)
    # What came before the first task moves nothing.
    save_file({name: tensor for name, tensor in tensors.items() if name not in ("aux_1_after", "far_1_after")}, args.out)


class Sequence:
    """The features of one file."""

    def __init__(self, path: Path) -> None:
        self.tensors = load_file(path)
        self.tasks = sum(name.startswith("all_") and not name.endswith("_y") for name in self.tensors)

    def __call__(self, name: str) -> np.ndarray:
        return self.tensors[name].astype(np.float32)

    def statistics(self, name: str) -> residua.ClassStatistics:
        builder = residua.ClassStatistics.builder(self(name).shape[1])
        builder.add(self(name), self.labels(name))
        return builder.finish()

    def labels(self, name: str) -> np.ndarray:
        return self.tensors[f"{name}_y" if f"{name}_y" in self.tensors else name.replace("_after", "_y")]

    def accuracies(self, task: int, statistics: residua.ClassStatistics) -> np.ndarray:
        """Percent right of each classifier after a task."""
        features, labels = self(f"test_{task}"), self.labels(f"test_{task}")
        right = [classifier(statistics).predict(features) == labels for classifier in CLASSIFIERS.values()]
        return np.asarray(100 * np.mean(right, axis=1))

    def true(self) -> Iterator[np.ndarray]:
        for task in range(1, self.tasks + 1):
            yield self.accuracies(task, self.statistics(f"all_{task}"))

    def moved(self, method: Callable[[], residua.Method] | None, auxiliary: str = "aux", count: int = 0) -> Iterator[np.ndarray]:
        """Accuracies after each task with statistics that `method` moves; without one they stay as they were."""
        statistics = self.statistics("task_1_after")
        yield self.accuracies(1, statistics)
        for task in range(2, self.tasks + 1):
            if method is not None:
                pairs = [
                    np.concatenate([self(f"task_{task}_{when}"), self(f"{auxiliary}_{task}_{when}")[:count]])
                    for when in ("before", "after")
                ]
                statistics = method().fit(*pairs).apply(statistics)
            statistics = statistics | self.statistics(f"task_{task}_after")
            yield self.accuracies(task, statistics)


def table(args: argparse.Namespace) -> None:
    sequences = [Sequence(path) for path in args.files]
    most = len(sequences[0]("aux_2_after"))
    counts = [count for count in (0, 250, 1000, 2500, 5000) if count <= most]
    many = min(most, 2500)

    def average(run: Callable[[Sequence], Iterator[np.ndarray]]) -> np.ndarray:
        """[tasks, classifiers]"""
        return np.asarray(np.mean([list(run(sequence)) for sequence in sequences], axis=0))

    found = {"stale": average(lambda sequence: sequence.moved(None))}
    for name, method in METHODS.items():
        for auxiliary in ("aux", "far"):
            for count in counts:
                if count or auxiliary == "aux":
                    found[f"{name}, {count:,} {auxiliary}"] = average(lambda s: s.moved(method, auxiliary, count))
    found["true"] = average(Sequence.true)

    print("| after the last task |", " | ".join(CLASSIFIERS), "|\n|---|" + "---|" * len(CLASSIFIERS))
    for name, accuracies in found.items():
        print(f"| {name} |", " | ".join(f"{value:.1f}" for value in accuracies[-1]), "|")
    tasks = range(1, sequences[0].tasks + 1)
    print("\n| qda-pooled after task |", " | ".join(map(str, tasks)), "|\n|---|" + "---|" * len(tasks))
    for name in ["stale", *(f"{method}, {count:,} aux" for method in METHODS for count in (0, many)), "true"]:
        print(f"| {name} |", " | ".join(f"{value:.1f}" for value in found[name][:, -1]), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    making = commands.add_parser("make", help="make a file of features; an hour on one core")
    making.add_argument("model", type=Path, help="folder of the sentence encoder")
    making.add_argument("wordnet", type=Path, help="folder of WordNet's data.noun and so on; Debian: /usr/share/wordnet")
    making.add_argument("-o", "--out", type=Path, required=True)
    making.add_argument("--lora", action="store_true", help="tune by LoRA of rank 8 on queries and values, not all weights")
    making.add_argument("--seed", type=int, default=0, help="chooses classes, tasks and texts")
    making.add_argument("--tasks", type=int, default=5)
    making.add_argument("--classes", type=int, default=5, help="new classes of each task")
    making.add_argument("--samples", type=int, default=200, help="of each class")
    making.add_argument("--test", type=int, default=60, help="test samples of each class")
    making.add_argument("--auxiliary", type=int, default=2500, help="texts without labels, of each kind")
    making.add_argument("--epochs", type=int, default=3)
    making.set_defaults(run=make)
    showing = commands.add_parser("table", help="show accuracies")
    showing.add_argument("files", type=Path, nargs="+")
    showing.set_defaults(run=table)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
