"""Splits a model folder, generates text at several alphas, and times generation beside torch.

    python generate.py MODEL_FOLDER --prompt "The capital of France is"
    python generate.py MODEL_FOLDER --time --threads 1 2

Contestants take turns, round after round; the figures are medians of tokens per second.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import residua
import residua.torch
import residua.transformers

PROMPT = 512


def show(folder: Path, split: Path, prompt: str, tokens: int) -> None:
    """Greedy text at alpha 1, ½ and 0."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = residua.transformers.from_pretrained(split)
    inputs = tokenizer(prompt, return_tensors="pt")
    for alpha in (1.0, 0.5, 0.0):
        with residua.torch.alpha(model, alpha):
            text: Any = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        print(f"alpha {alpha:g}: {tokenizer.decode(text[0], skip_special_tokens=True)}")


def measure(folder: Path, split: Path, threads: int, rounds: int, tokens: int) -> None:
    """Tokens per second of a prompt and of generation with one sequence."""
    torch.set_num_threads(threads)
    residua.set_num_threads(threads)
    models = {
        "torch float32": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
        "torch bfloat16": AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16),
        "residua float32": residua.transformers.from_pretrained(split, dtype=torch.float32),
        "residua bfloat16": residua.transformers.from_pretrained(split, dtype=torch.bfloat16),
    }
    prompt = torch.randint(10, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    speeds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(rounds + 1):
        for name, model in models.items():
            read = PROMPT / seconds(partial(model, prompt, use_cache=False, logits_to_keep=1))
            # The first token takes the time of the short prompt.
            one, many = (seconds(partial(greedy, model, prompt[:, :16], count)) for count in (1, tokens + 1))
            if number > 0:
                speeds[name]["prompt"].append(read)
                speeds[name]["generation"].append(tokens / (many - one))
    for name, each in speeds.items():
        generated, read = (statistics.median(each[kind]) for kind in ("generation", "prompt"))
        print(f"{threads} threads  {name:17} {generated:7.1f} tokens/s generated {read:8.1f} tokens/s of a prompt", flush=True)


def greedy(model: Any, prompt: torch.Tensor, tokens: int) -> None:
    model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a model folder of transformers")
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--base", default="int4")
    parser.add_argument("--time", action="store_true", help="measure instead of showing text")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        split = Path(work) / "split"
        report = residua.split(args.folder, split, density=args.density, base=args.base)
        print(f"split: {report['parameters']} weights, relative error {report['error']:.3f}")
        if not args.time:
            show(args.folder, split, args.prompt, args.tokens)
            return
        for threads in args.threads:
            measure(args.folder, split, threads, args.rounds, args.tokens)


if __name__ == "__main__":
    main()
