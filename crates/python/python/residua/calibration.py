"""What the inputs of a model's linear layers look like, measured for ``residua.split``."""

from __future__ import annotations

import itertools
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

from residua import BudgetError, InputError, UsageError, parse_bytes

__all__ = ["calibrate"]


def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    path: str | os.PathLike[str],
    *,
    memory_budget: str | int = "1GiB",
    second_moments: bool = True,
    block: int | None = None,
) -> None:
    """Runs batches through a model and writes the calibration file that :func:`residua.split` reads.

    The file has one float32 tensor per ``nn.Linear``, named as its weight in the model: second moments ``[blocks, n, n]`` or mean squares
    ``[in_features]`` of the layer's inputs. Layers that read the same tensor one after the other, such as query, key and value, are
    measured once. Positions that a two-dimensional ``attention_mask`` of the batch hides are left out. The model runs in
    evaluation mode, without gradients, once more on the first batch.

    Args:
        model: a model whose linear layers are not split yet.
        batches: what the model is called with: a mapping (``model(**batch)``), a tuple or list (``model(*batch)``) or a tensor.
        path: the file. It appears complete or not at all.
        memory_budget: bytes, or a text such as "1GiB", for what is accumulated. When it does not hold all layers at a time, the batches
            are read several times, so they must be a list or another iterable that starts from the beginning each time.
        second_moments: False for mean squares, which take ``in_features`` numbers per layer.
        block: size *n* of the diagonal blocks, a multiple of 128; None for whole matrices, which split best, or the largest
            blocks that a split within the same budget can use.

    Raises:
        UsageError: the model has no ``nn.Linear``, the block size is not a multiple of 128, or there are no batches.
        BudgetError: one layer alone takes more than the budget. The text states the minimum.
        InputError: no batch reaches a layer, or its inputs are not finite.
        OSError: the file cannot be written.
    """
    if block is not None and (block <= 0 or block % 128):
        raise UsageError(f"block is {block}; it must be a multiple of 128")
    layers = {name: module for name, module in model.named_modules() if type(module) is nn.Linear}
    if not layers:
        raise UsageError(f"{type(model).__name__} has no nn.Linear")
    budget = parse_bytes(memory_budget)
    first = list(itertools.islice(batches, 1))
    if iter(batches) is batches:
        batches = itertools.chain(first, batches)
    if not first:
        raise UsageError("there are no batches")
    with _still(model):
        groups = _shared_inputs(model, layers, first[0])
        sums = [
            _Sums(names, features, second_moments, block or _largest_block(features, budget))
            for names, features in ((names, layers[names[0]].in_features) for names in groups)
        ]
        passes = _passes(sums, budget)
        if len(passes) > 1 and iter(batches) is batches:
            need = sum(each.bytes for each in sums)
            raise UsageError(
                f"within {budget} bytes the batches are read {len(passes)} times, and this iterator can be read once: "
                f"pass a list, or a memory_budget of {need} bytes"
            )
        with _appears_whole(Path(path)) as file:
            _write_header(file, sums)
            for each_pass in passes:
                _accumulate(model, layers, each_pass, batches)
                for each in each_pass:
                    each.write(file)


def _largest_block(features: int, budget: int) -> int:
    """The largest diagonal block whose factors a split has room for."""

    def fits(n: int) -> bool:
        return n * n * (4 * -(-features // n) + 28) <= budget - budget // 4

    if fits(features):
        return features
    return max((n for n in range(128, features, 128) if fits(n)), default=128)


class _Sums:
    """Sums over the inputs of layers that read the same tensor."""

    def __init__(self, names: list[str], features: int, second_moments: bool, block: int) -> None:
        self.names, self.features = names, features
        self.count = 0
        if second_moments:
            self.n = min(block, features)
            self.shape = [-(-features // self.n), self.n, self.n]
        else:
            self.n, self.shape = features, [features]
        self.bytes = 4 * math.prod(self.shape)
        self.total: Tensor | None = None

    def start(self) -> None:
        self.total = torch.zeros(self.shape)

    def add(self, x: Tensor) -> None:
        """Adds inputs ``[rows, features]``."""
        assert self.total is not None
        x = x.float().cpu()
        self.count += x.shape[0]
        if len(self.shape) == 1:
            self.total += x.square().sum(0)
        elif self.shape[0] == 1:
            self.total[0].addmm_(x.T, x)
        else:
            for number, part in enumerate(torch.split(x, self.n, dim=1)):
                size = part.shape[1]
                self.total[number, :size, :size].addmm_(part.T, part)

    def write(self, file: IO[bytes]) -> None:
        """Appends the means, once per layer, and lets go of them."""
        assert self.total is not None
        if self.count == 0:
            raise InputError(f"no batch reaches the layer {self.names[0]}")
        mean = self.total.div_(self.count)
        if not bool(mean.isfinite().all()):
            raise InputError(f"the inputs of the layer {self.names[0]} are not finite, or too large to square")
        for _ in self.names:
            mean.numpy().tofile(file)
        self.total = None


def _passes(sums: list[_Sums], budget: int) -> list[list[_Sums]]:
    """The layers of each pass over the batches."""
    passes: list[list[_Sums]] = [[]]
    room = budget
    for each in sums:
        if each.bytes > budget:
            raise BudgetError(
                f"the second moments of {each.names[0]} take {each.bytes} bytes, more than the budget of {budget}: "
                f"raise memory_budget, or pass a smaller block"
            )
        if each.bytes > room:
            passes.append([])
            room = budget
        passes[-1].append(each)
        room -= each.bytes
    return passes


def _shared_inputs(model: nn.Module, layers: dict[str, nn.Linear], batch: Any) -> list[list[str]]:
    """Names of layers in groups that read the same tensor, as a batch shows."""
    leader: dict[str, str] = {}
    calls = dict.fromkeys(layers, 0)
    last: tuple[str, Tensor, int] | None = None

    def look(name: str, x: Tensor) -> None:
        nonlocal last
        calls[name] += 1
        if last is not None and last[1] is x and last[2] == x._version:
            leader[name] = last[0]
        else:
            leader[name] = name
            last = (name, x, x._version)

    with _hooks(layers, look):
        _call(model, batch)
    groups: dict[str, list[str]] = {}
    for name in layers:
        first_of = leader.get(name, name)
        # A layer that runs several times may read something else the next time.
        alone = calls[name] != 1 or calls[first_of] != 1
        groups.setdefault(name if alone else first_of, []).append(name)
    return list(groups.values())


def _accumulate(model: nn.Module, layers: dict[str, nn.Linear], sums: list[_Sums], batches: Iterable[Any]) -> None:
    """One pass over the batches."""
    of_layer = {name: each for each in sums for name in each.names}
    shown: Tensor | None = None
    last: dict[str, Tensor] = {}
    for each in sums:
        each.start()

    def add(name: str, x: Tensor) -> None:
        each = of_layer[name]
        if name != each.names[0]:
            if last.get(each.names[0]) is not x:
                raise UsageError(f"{name} and {each.names[0]} read the same tensor in the first batch, but not in a later one")
            return
        if len(each.names) > 1:
            last.clear()
            last[name] = x
        each.add(x[shown] if shown is not None and shown.shape == x.shape[:-1] else x.reshape(-1, each.features))

    with _hooks({name: layers[name] for name in of_layer}, add):
        for batch in batches:
            shown = _shown(batch)
            _call(model, batch)
            last.clear()


def _shown(batch: Any) -> Tensor | None:
    """The positions that count, if the batch says so."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    return mask.bool() if isinstance(mask, Tensor) and mask.dim() == 2 else None


def _call(model: nn.Module, batch: Any) -> None:
    if isinstance(batch, Mapping):
        model(**batch)
    elif isinstance(batch, (tuple, list)):
        model(*batch)
    else:
        model(batch)


@contextmanager
def _hooks(layers: Mapping[str, nn.Module], see: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Shows the input of each layer before it runs."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Any]], None]:
        return lambda _, inputs, named: see(name, inputs[0] if inputs else named["input"])

    handles = [
        layer.register_forward_pre_hook(hook(name), with_kwargs=True) for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _still(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _appears_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file that replaces ``path`` when all went well."""
    unfinished = path.with_name(f".residua-{secrets.token_hex(8)}.tmp")
    try:
        with open(unfinished, "xb") as file:
            yield file
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _write_header(file: IO[bytes], sums: list[_Sums]) -> None:
    header: dict[str, Any] = {}
    end = 0
    for each in sums:
        for name in each.names:
            header[f"{name}.weight" if name else "weight"] = {"dtype": "F32", "shape": each.shape, "data_offsets": [end, end + each.bytes]}
            end += each.bytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
