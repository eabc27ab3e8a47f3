"""Memory-bounded model adaptation: a checkpoint becomes a low-precision base and a small sparse residual.

Importing this package needs only NumPy. `residua.torch` and `residua.transformers` need torch and transformers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from . import _native
from ._delta import apply_delta
from ._native import (
    Attention,
    BudgetError,
    ClassGaussian,
    ClassStatistics,
    Classifier,
    CompensationWarning,
    Compensator,
    DeviceError,
    InputError,
    IoError,
    Layer,
    LayerInfo,
    Lda,
    Linear,
    Method,
    Ncm,
    PooledQda,
    Qda,
    ResiduaError,
    Rff,
    SplitFile,
    StatisticsBuilder,
    TensorInfo,
    UsageError,
    WeakNonlinear,
    __version__,
    diff,
    get_num_threads,
    inspect,
    load_layer,
    materialize,
    parse_bytes,
    patch,
    set_num_threads,
    verify,
)
from .continual import MovingStatistics

__all__ = [
    "Attention",
    "BudgetError",
    "ClassGaussian",
    "ClassStatistics",
    "Classifier",
    "CompensationWarning",
    "Compensator",
    "DeviceError",
    "InputError",
    "IoError",
    "Layer",
    "LayerInfo",
    "Lda",
    "Linear",
    "Method",
    "MovingStatistics",
    "Ncm",
    "PooledQda",
    "Qda",
    "ResiduaError",
    "Rff",
    "SplitFile",
    "SplitOptions",
    "StatisticsBuilder",
    "TensorInfo",
    "UsageError",
    "WeakNonlinear",
    "__version__",
    "apply_delta",
    "calibrate",
    "diff",
    "get_num_threads",
    "inspect",
    "load_layer",
    "materialize",
    "parse_bytes",
    "patch",
    "set_num_threads",
    "split",
    "verify",
]


class SplitOptions(TypedDict, total=False):
    """The keywords of `split`."""

    density: float
    threshold: float
    bits: float
    size: int | str
    base: str | os.PathLike[str]
    bases: Mapping[str, str]
    values: str
    importance: str
    calibration: str | os.PathLike[str]
    include: Sequence[str]
    exclude: Sequence[str]
    hashes: bool
    memory_budget: int | str | None
    progress: bool | Callable[[str, str, int, int], None] | None


def split(
    model: str | os.PathLike[str], out: str | os.PathLike[str], **options: Unpack[SplitOptions]
) -> dict[str, Any]:
    if _is_model_folder(model) and not os.fspath(out).endswith(".safetensors"):
        from .transformers import split_folder

        made: dict[str, Any] = split_folder(model, out, **options)
        return made
    return _native.split(model, out, **options)


split.__doc__ = (_native.split.__doc__ or "") + """
A model folder, one with `config.json`, becomes a folder that transformers can load, unless `out` ends in `.safetensors`.
That needs torch and transformers; see `residua.transformers.split_folder`.
"""


def _is_model_folder(path: str | os.PathLike[str]) -> bool:
    return os.path.isfile(os.path.join(path, "config.json"))


if TYPE_CHECKING:
    from .calibration import calibrate
else:

    def calibrate(*args: Any, **options: Any) -> Any:
        """Measures the inputs of a torch model's linear layers; see `residua.calibration.calibrate`."""
        from .calibration import calibrate as run

        return run(*args, **options)
