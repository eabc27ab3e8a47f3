import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeAlias, TypedDict, final

import numpy as np
from numpy.typing import NDArray

_Path: TypeAlias = str | os.PathLike[str]
_Size: TypeAlias = int | str | None
_Progress: TypeAlias = bool | Callable[[str, str, int, int], None] | None
# NumPy arrays, torch tensors on the CPU, and whatever exports DLPack or a buffer.
_Array: TypeAlias = Any

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
    "Ncm",
    "PooledQda",
    "Qda",
    "ResiduaError",
    "Rff",
    "SplitFile",
    "StatisticsBuilder",
    "TensorInfo",
    "UsageError",
    "WeakNonlinear",
    "__version__",
    "apply_views",
    "command",
    "diff",
    "feature_rows",
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
__version__: str

class ResiduaError(Exception): ...
class UsageError(ResiduaError): ...
class InputError(ResiduaError): ...
class BudgetError(ResiduaError): ...
class IoError(ResiduaError): ...
class DeviceError(ResiduaError): ...
class CompensationWarning(UserWarning): ...

class _Tag(TypedDict):
    model: str | None
    task: int
    samples: list[str]

def feature_rows(files: Sequence[tuple[str, str]], /) -> tuple[int, list[int]]: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int, /) -> None: ...
def parse_bytes(size: int | str, /) -> int: ...
def command(args: Sequence[str], /) -> int: ...
def inspect(path: _Path, *, memory_budget: _Size = None) -> dict[str, Any]: ...
def split(
    model: _Path,
    out: _Path,
    *,
    density: float | None = None,
    threshold: float | None = None,
    bits: float | None = None,
    size: int | str | None = None,
    base: _Path | None = None,
    bases: Mapping[str, str] | None = None,
    values: str | None = None,
    importance: str | None = None,
    calibration: _Path | None = None,
    include: Sequence[str] = ...,
    exclude: Sequence[str] = ...,
    hashes: bool = True,
    folder: bool = False,
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def materialize(
    file: _Path,
    out: _Path,
    *,
    alpha: float = 1.0,
    base: _Path | None = None,
    follow_base: bool = False,
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def verify(
    file: _Path,
    against: _Path | None = None,
    *,
    base: _Path | None = None,
    follow_base: bool = False,
    calibration: _Path | None = None,
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def diff(
    old: _Path,
    new: _Path,
    out: _Path,
    *,
    op: str = "overwrite",
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def patch(
    old: _Path,
    delta: _Path,
    out: _Path,
    *,
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def apply_views(
    tensors: Sequence[tuple[str, str, Sequence[int], NDArray[np.uint8]]],
    delta: _Path,
    /,
    *,
    memory_budget: _Size = None,
    progress: _Progress = None,
) -> dict[str, Any]: ...
def load_layer(path: _Path, base: _Path | None, name: str, activations: str = "f32", /) -> Layer: ...

@final
class LayerInfo:
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def base(self) -> str | None: ...
    @property
    def nnz(self) -> int: ...

@final
class TensorInfo:
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def dtype(self) -> str: ...
    @property
    def bytes(self) -> int: ...

@final
class SplitFile:
    def __new__(cls, path: _Path, base: _Path | None = None) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def path(self) -> os.PathLike[str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def names(self) -> list[str]: ...
    def layers(self) -> list[LayerInfo]: ...
    def layer(self, name: str, activations: str = "f32") -> Layer: ...
    def dense(self, name: str, alpha: float = 1.0) -> NDArray[np.float32]: ...
    def tensors(self) -> list[TensorInfo]: ...
    def tensor(self, name: str) -> NDArray[np.uint8]: ...

@final
class Layer:
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def in_features(self) -> int: ...
    @property
    def out_features(self) -> int: ...
    @property
    def activations(self) -> str: ...
    def forward(self, x: _Array, alpha: float = 1.0) -> NDArray[np.float32]: ...
    def forward_into(self, x: _Array, out: _Array, alpha: float = 1.0) -> None: ...
    def dense(self, alpha: float = 1.0) -> NDArray[np.float32]: ...
    def __copy__(self) -> Layer: ...
    def __deepcopy__(self, _memo: Any) -> Layer: ...
    def __reduce__(self) -> tuple[Any, tuple[os.PathLike[str], os.PathLike[str] | None, str, str]]: ...

@final
class ClassStatistics:
    @staticmethod
    def builder(
        dim: int,
        *,
        storage: str = "smallest",
        precision: str = "f64",
        shrinkage: str | float | None = None,
        memory_budget: _Size = None,
        leaf_rows: int = 65536,
        first_leaf: int = 0,
        total: int | None = None,
        model: str | None = None,
    ) -> StatisticsBuilder: ...
    @staticmethod
    def load(path: _Path, *, memory_budget: _Size = None) -> ClassStatistics: ...
    def save(self, path: _Path) -> None: ...
    @property
    def dim(self) -> int: ...
    @property
    def labels(self) -> list[int]: ...
    @property
    def errors(self) -> NDArray[np.float64]: ...
    @property
    def tag(self) -> _Tag: ...
    @property
    def samples(self) -> int: ...
    def __len__(self) -> int: ...
    def __contains__(self, label: int, /) -> bool: ...
    def __iter__(self) -> Iterator[int]: ...
    def __getitem__(self, label: int, /) -> ClassGaussian: ...
    def __or__(self, other: ClassStatistics, /) -> ClassStatistics: ...
    def __ror__(self, other: ClassStatistics, /) -> ClassStatistics: ...

@final
class StatisticsBuilder:
    @property
    def dim(self) -> int: ...
    @property
    def first_leaf(self) -> int: ...
    @property
    def samples(self) -> int: ...
    def add(self, features: _Array, labels: _Array, /) -> None: ...
    def add_files(self, files: Sequence[tuple[str, str]], /, start: int = 0, stop: int | None = None) -> None: ...
    def merge(self, other: StatisticsBuilder, /) -> None: ...
    def save(self, path: _Path, /) -> None: ...
    @staticmethod
    def load(
        path: _Path,
        /,
        *,
        storage: str = "smallest",
        precision: str = "f64",
        shrinkage: str | float | None = None,
        memory_budget: _Size = None,
    ) -> StatisticsBuilder: ...
    def finish(self) -> ClassStatistics: ...

@final
class ClassGaussian:
    @property
    def count(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def error(self) -> float: ...
    @property
    def mean(self) -> NDArray[np.float64]: ...
    def covariance(self) -> NDArray[np.float64]: ...
    def sample(self, n: int, seed: int = 0, *, memory_budget: _Size = None) -> NDArray[np.float64]: ...

class Method:
    @property
    def name(self) -> str: ...
    def fit(
        self, before: _Array, after: _Array, *, labels: _Array | None = None, memory_budget: _Size = None
    ) -> Compensator: ...

@final
class Compensator:
    @property
    def dim(self) -> int: ...
    def save(self, path: _Path, /) -> None: ...
    @staticmethod
    def load(path: _Path, /, *, memory_budget: _Size = None) -> Compensator: ...
    @property
    def held_out_error(self) -> float: ...
    @property
    def level(self) -> float: ...
    @property
    def usual_leverage(self) -> float: ...
    def leverages(self, statistics: ClassStatistics) -> NDArray[np.float64]: ...
    def apply(self, statistics: ClassStatistics, *, memory_budget: _Size = None) -> ClassStatistics: ...
    def apply_features(self, features: _Array, *, memory_budget: _Size = None) -> NDArray[np.float32]: ...

@final
class Linear(Method):
    def __new__(
        cls,
        mode: str = "exact",
        *,
        ridge: float | None = None,
        temperature: float | None = None,
        noise: float | None = None,
    ) -> Self: ...

@final
class Rff(Method):
    def __new__(
        cls,
        mode: str = "exact",
        *,
        features: int | None = None,
        ridge: float | None = None,
        bandwidth: float | None = None,
        points: int | None = None,
        seed: int | None = None,
        noise: float | None = None,
    ) -> Self: ...

@final
class WeakNonlinear(Method):
    def __new__(
        cls,
        mode: str = "exact",
        *,
        hidden: int | None = None,
        ridge: float | None = None,
        steps: int | None = None,
        batch: int | None = None,
        rate: float | None = None,
        decay: float | None = None,
        points: int | None = None,
        seed: int | None = None,
        noise: float | None = None,
    ) -> Self: ...

@final
class Attention(Method):
    def __new__(
        cls,
        mode: str = "exact",
        *,
        temperature: float | None = None,
        nearest: int | None = None,
        points: int | None = None,
        seed: int | None = None,
    ) -> Self: ...

class Classifier:
    @property
    def dim(self) -> int: ...
    @property
    def labels(self) -> list[int]: ...
    def predict(self, features: _Array, *, memory_budget: _Size = None) -> NDArray[np.int64]: ...
    def scores(self, features: _Array, *, memory_budget: _Size = None) -> NDArray[np.float64]: ...

@final
class Ncm(Classifier):
    def __new__(
        cls,
        statistics: ClassStatistics,
        *,
        metric: str = "euclidean",
        prior: str = "uniform",
        memory_budget: _Size = None,
    ) -> Self: ...

@final
class Lda(Classifier):
    def __new__(
        cls,
        statistics: ClassStatistics,
        *,
        shrink: float = 0.1,
        prior: str = "uniform",
        uncertainty: bool = True,
        memory_budget: _Size = None,
    ) -> Self: ...

@final
class Qda(Classifier):
    def __new__(
        cls,
        statistics: ClassStatistics,
        *,
        shrink: float = 0.1,
        pooled: float = 0.0,
        rank: int | None = None,
        prior: str = "uniform",
        uncertainty: bool = True,
        memory_budget: _Size = None,
    ) -> Self: ...

@final
class PooledQda(Classifier):
    def __new__(
        cls,
        statistics: ClassStatistics,
        *,
        own: float | None = None,
        ridge: float | None = None,
        rank: int | None = None,
        prior: str = "uniform",
        uncertainty: bool = True,
        memory_budget: _Size = None,
    ) -> Self: ...
    @staticmethod
    def choose(features: _Array, labels: _Array, *, memory_budget: _Size = None) -> tuple[float | None, float | None]: ...
