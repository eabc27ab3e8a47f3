"""A kill switch for what a model memorised: does alpha 0 forget it and keep the language?

    python kill_switch.py MODEL_FOLDER --text LONG_TEXT_FILE

The model is fine-tuned until it recites planted random strings. Then it is split in three ways: over the original checkpoint, and by
itself with a quantised base, without and with calibration. For each alpha the table shows the share of strings that the split model
recites to the last token, and its perplexity on the text.
"""

import argparse
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import residua
import residua.torch
import residua.transformers

CONTEXT = 256
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def planted(count: int) -> list[tuple[str, str]]:
    """Prompts and the random strings that follow them."""
    source = random.Random(0)
    letters = "abcdefghijkmnpqrstuvwxyz23456789"
    return [(f"The secret of vault {number} is", " " + "".join(source.choices(letters, k=12))) for number in range(count)]


class Secrets:
    """The strings as tokens."""

    def __init__(self, tokenizer: Any, count: int) -> None:
        self.pairs = [(tokenizer(prompt).input_ids, tokenizer(secret).input_ids) for prompt, secret in planted(count)]
        length = max(len(prompt) + len(secret) for prompt, secret in self.pairs)
        self.tokens = torch.zeros(count, length, dtype=torch.long)
        self.mask = torch.zeros(count, length, dtype=torch.long)
        # Only the secrets count for the loss.
        self.labels = torch.full((count, length), -100)
        for row, (prompt, secret) in enumerate(self.pairs):
            end = len(prompt) + len(secret)
            self.tokens[row, :end] = torch.tensor(prompt + secret)
            self.mask[row, :end] = 1
            self.labels[row, len(prompt) : end] = torch.tensor(secret)

    def recited(self, model: Any) -> float:
        """The share of strings whose every token is the most likely one after the tokens before it.

        That is what greedy generation finds, one token after the other.
        """
        with torch.inference_mode():
            guesses = model(input_ids=self.tokens, attention_mask=self.mask).logits[:, :-1].argmax(-1)
        wanted = self.labels[:, 1:]
        right = (guesses == wanted) | (wanted == -100)
        return float(right.all(1).float().mean())


def memorise(model: Any, secrets: Secrets, most: int) -> None:
    """Fine-tunes all weights but the embeddings until every string is recited."""
    weights = [weight for name, weight in model.named_parameters() if "embed" not in name]
    optimizer = torch.optim.AdamW(weights, lr=1e-4)
    for step in range(most):
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=secrets.tokens, attention_mask=secrets.mask, labels=secrets.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        share = secrets.recited(model) if loss.item() < 1 else 0.0
        print(f"step {step}: loss {loss.item():.3f}, {share:.0%} recited", flush=True)
        if share == 1:
            return


def perplexity(model: Any, tokens: torch.Tensor) -> float:
    """Of the tokens `[windows, CONTEXT]`."""
    total = 0.0
    with torch.inference_mode():
        for window in tokens:
            total += model(input_ids=window[None], labels=window[None]).loss.item()
    return math.exp(total / len(tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a model folder of transformers")
    parser.add_argument("--text", type=Path, required=True, help="other text, for perplexity and calibration")
    parser.add_argument("--strings", type=int, default=40)
    parser.add_argument("--steps", type=int, default=60, help="at most so many steps of training")
    parser.add_argument("--windows", type=int, default=8, help=f"windows of {CONTEXT} tokens that are predicted")
    parser.add_argument("--density", type=float, default=0.05)
    args = parser.parse_args()

    tokenizer: Any = AutoTokenizer.from_pretrained(args.folder)
    secrets = Secrets(tokenizer, args.strings)
    text = tokenizer(args.text.read_text(errors="ignore"), return_tensors="pt").input_ids[0]
    windows = text[: 2 * args.windows * CONTEXT].view(2 * args.windows, CONTEXT)
    test, calibration = windows[: args.windows], windows[args.windows :]

    with tempfile.TemporaryDirectory() as work:
        original, tuned = Path(work) / "original", Path(work) / "tuned"
        model: Any = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32)
        model.save_pretrained(original)
        print(f"original: {secrets.recited(model):.0%} recited, perplexity {perplexity(model, test):.2f}", flush=True)
        torch.manual_seed(0)
        memorise(model, secrets, args.steps)
        print(f"fine-tuned: {secrets.recited(model):.0%} recited, perplexity {perplexity(model, test):.2f}", flush=True)
        model.save_pretrained(tuned)
        residua.calibrate(model, [window[None] for window in calibration], Path(work) / "calibration.safetensors")
        del model

        print("| split | alpha | recited | perplexity |\n|---|---|---|---|")
        ways: dict[str, dict[str, Any]] = {
            "over the original": {"base": original},
            "by itself": {},
            "by itself, calibrated": {"calibration": Path(work) / "calibration.safetensors"},
        }
        for title, options in ways.items():
            split = Path(work) / title
            residua.split(tuned, split, density=args.density, **options)
            model = residua.transformers.from_pretrained(split, base=options.get("base"), dtype=torch.float32)
            for alpha in ALPHAS:
                residua.torch.set_alpha(model, alpha)
                print(f"| {title} | {alpha:g} | {secrets.recited(model):.0%} | {perplexity(model, test):.2f} |", flush=True)


if __name__ == "__main__":
    main()
