"""Memory-bounded model adaptation: a checkpoint becomes a low-precision base and a small sparse residual.

Importing this package needs only NumPy. `residua.torch` and `residua.transformers` need torch and transformers.
"""

from __future__ import annotations

import os
from typing import Any

from . import _native
from ._delta import apply_delta
from ._native import (
    Attention,
    BudgetError,
    ClassGaussian,
    ClassStatistics,
    Classifier,
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

__all__ = [
    "Attention",
    "BudgetError",
    "ClassGaussian",
    "ClassStatistics",
    "Classifier",
    "Compensator",
    "DeviceError",
    "InputError",
    "IoError",
    "Layer",
    "LayerInfo",
    "Lda",
    "Linear",
    "Method",
    "Ncm",
    "Qda",
    "ResiduaError",
    "Rff",
    "SplitFile",
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


def split(
    model: str | os.PathLike[str], out: str | os.PathLike[str], **options: Any
) -> dict[str, Any]:
    if _is_model_folder(model) and not os.fspath(out).endswith(".safetensors"):
        from .transformers import split_folder

        return split_folder(model, out, **options)
    return _native.split(model, out, **options)


split.__doc__ = (_native.split.__doc__ or "") + """
A model folder, one with `config.json`, becomes a folder that transformers can load, unless `out` ends in `.safetensors`.
That needs torch and transformers; see `residua.transformers.split_folder`.
"""


def _is_model_folder(path: str | os.PathLike[str]) -> bool:
    return os.path.isfile(os.path.join(path, "config.json"))


def calibrate(*args: Any, **options: Any) -> Any:
    """Measures the inputs of a torch model's linear layers; see `residua.calibration.calibrate`."""
    from .calibration import calibrate as run

    return run(*args, **options)
