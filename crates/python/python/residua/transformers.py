"""Split models in transformers. Importing this module registers the quantisation method ``"residua"``.

Without the import, ``from_pretrained`` of a split folder only warns that the method is unknown, and gives every split layer random
weights. :func:`from_pretrained` of this module cannot be called without it.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from residua import InputError, SplitFile, UsageError, _native
from residua.torch import ResidualLinear

__all__ = ["ResiduaConfig", "ResiduaQuantizer", "from_pretrained", "split_folder"]

METHOD = "residua"
# What a split file holds in place of a weight.
_PLANES = r"\.weight\.(?:row_ptr|row_modes|index_ptr|gaps|values|scales|base|base_scales|base_levels)$"


@register_quantization_config(METHOD)
class ResiduaConfig(QuantizationConfigMixin):
    """The entry ``quantization_config`` of a split model's ``config.json``.

    Args:
        alpha: the scale of the residual after loading: 1 is the whole model, 0 the base alone.
        base: the checkpoint that the model was split over, if the file holds only hashes of it and the checkpoint is not near the file.
    """

    quant_method: Any

    def __init__(self, alpha: float = 1.0, base: str | None = None, **_: Any) -> None:
        self.quant_method = METHOD
        self.alpha = alpha
        self.base = base


@register_quantizer(METHOD)
class ResiduaQuantizer(HfQuantizer):
    """Replaces each ``nn.Linear`` whose weight is split by a :class:`residua.torch.ResidualLinear`."""

    requires_calibration = True
    quantization_config: ResiduaConfig

    def validate_environment(self, *_: Any, device_map: Any = None, **__: Any) -> None:
        devices = device_map.values() if isinstance(device_map, dict) else [device_map]
        for device in devices:
            if device is not None and str(device) != "cpu":
                raise UsageError(f'device_map has {str(device)!r}; split layers run on the CPU: device_map="cpu", or none')

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: list[str] | None = None, **_: Any
    ) -> None:
        if not checkpoint_files or len(checkpoint_files) != 1:
            raise InputError(f"a split model is one file, not {len(checkpoint_files or [])}")
        path, base = checkpoint_files[0], self.quantization_config.base
        file = SplitFile(path, base=base)
        for name, (target, merged) in _targets(model, file.names()).items():
            linear = _linear(model, target)
            if merged or linear is None:
                raise InputError(f"{path}: {name} is split, but {_why(model, target, merged)}")
            layer = file.layer(name)
            if layer.shape != tuple(linear.weight.shape):
                wanted = list(linear.weight.shape)
                raise InputError(f"{path}: {name} is {list(layer.shape)} where the model has {wanted}")
            module = ResidualLinear(layer, linear.bias, self.quantization_config.alpha)
            model.set_submodule(target.removesuffix(".weight"), module)
        # None or a list in transformers 5.0, a set later.
        ignored = model._keys_to_ignore_on_load_unexpected
        kind = list if ignored is None else type(ignored)
        model._keys_to_ignore_on_load_unexpected = kind([*(ignored or ()), _PLANES])

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """False: copy the folder to save a split model."""
        return False

    @property
    def is_trainable(self) -> bool:
        """True: adapters can be trained on top; the split weights stay as they are."""
        return True


def from_pretrained(
    folder: str | os.PathLike[str],
    *args: Any,
    auto_class: Any = AutoModelForCausalLM,
    base: str | os.PathLike[str] | None = None,
    **kwargs: Any,
) -> PreTrainedModel:
    """Loads a split model: ``auto_class.from_pretrained`` with the quantisation method registered.

    Args:
        folder: what :func:`split_folder` wrote.
        auto_class: the class of transformers that loads it.
        base: the checkpoint that the model was split over, if it was, and if it is not inside the folder.

    Raises:
        UsageError: the model is not split, its base is missing, or a device other than the CPU is asked for.
        InputError: the split file is malformed, or does not fit the model or the base.
    """
    config = AutoConfig.from_pretrained(folder)
    quantization = getattr(config, "quantization_config", None) or {}
    if quantization.get("quant_method") != METHOD:
        raise UsageError(f"{os.fspath(folder)} is not a split model: config.json has no quantization_config of {METHOD!r}")
    if base is not None:
        config.quantization_config = {**quantization, "base": os.fspath(base)}
        kwargs["config"] = config
    model: PreTrainedModel = auto_class.from_pretrained(folder, *args, **kwargs)
    return model


def split_folder(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    **options: Any,
) -> Any:
    """Splits a model folder into a folder that transformers loads.

    The weight of each ``nn.Linear`` is split. Embeddings, output heads, norms and everything else pass through as they are; tied weights
    stay tied. Configuration, tokenizer and generation files are copied.

    Args:
        model: a folder with ``config.json`` and safetensors weights, of an architecture that transformers itself has.
        out: a new or empty folder. It appears complete or not at all.
        include: glob patterns; if there are any, only linear layers with a matching tensor name are split.
        exclude: glob patterns of tensor names that pass through.
        options: as for ``residua.split``.

    Returns:
        The report of ``residua.split``.

    Raises:
        UsageError: the model is quantised already, no layer is left to split, or ``out`` has files.
        InputError: the folder is not a model, or transformers merges a weight that would be split into a larger one, as it does with
            experts; exclude such weights by name.
    """
    if isinstance(include, str) or isinstance(exclude, str):
        raise UsageError("include and exclude are lists of patterns, such as [\"*.mlp.*\"]")
    source = Path(model)
    names = _to_split(source, list(include), list(exclude))
    return _native.split(source, out, include=[glob.escape(name) for name in names], folder=True, **options)


def _to_split(source: Path, include: list[str], exclude: list[str]) -> list[str]:
    """Names of the tensors in the checkpoint that are weights of linear layers."""
    shapes = _shapes(source)
    skeleton = _skeleton(source)
    names = []
    for name, (target, merged) in _targets(skeleton, shapes).items():
        wanted = not include or any(fnmatchcase(name, pattern) for pattern in include)
        if len(shapes[name]) != 2 or not wanted or any(fnmatchcase(name, pattern) for pattern in exclude):
            continue
        if merged:
            raise InputError(f"{source}: {name} cannot be split: {_why(skeleton, target, merged)}; exclude={[name]!r} keeps it as it is")
        if _linear(skeleton, target) is not None:
            names.append(name)
    if not names:
        raise UsageError(f"{source}: no linear layer is left to split")
    return names


def _shapes(source: Path) -> dict[str, list[int]]:
    """The checkpoint's tensors."""
    index = source / "model.safetensors.index.json"
    single = source / "model.safetensors"
    if index.exists():
        files = [source / file for file in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    elif single.exists():
        files = [single]
    else:
        raise InputError(f"{source}: neither model.safetensors nor model.safetensors.index.json is there")
    shapes = {}
    for file in files:
        with safe_open(file, "pt") as tensors:
            shapes.update({name: tensors.get_slice(name).get_shape() for name in tensors.keys()})
    return shapes


def _skeleton(source: Path) -> PreTrainedModel:
    """The model without weights."""
    if not (source / "config.json").exists():
        raise InputError(f"{source}: there is no config.json")
    config: PretrainedConfig = AutoConfig.from_pretrained(source)
    quantization = getattr(config, "quantization_config", None)
    if quantization:
        raise UsageError(f"{source} is quantised already, by {quantization.get('quant_method')!r}; split the original model")
    name = (config.architectures or ["no architecture"])[0]
    model_class = getattr(transformers, name, None)
    if model_class is None:
        raise InputError(f"{source}: config.json asks for {name}, which transformers {transformers.__version__} does not have")
    with torch.device("meta"):
        model: PreTrainedModel = model_class(config)
    return model


def _targets(model: PreTrainedModel, names: Iterable[str]) -> dict[str, tuple[str, bool]]:
    """For each tensor of a checkpoint: the parameter that it becomes, and whether transformers converts it on the way."""
    conversions = get_model_conversion_mapping(model)
    renamings = [each for each in conversions if isinstance(each, WeightRenaming)]
    converters = [each for each in conversions if isinstance(each, WeightConverter)]
    parameters = model.state_dict()
    targets = {}
    for name in names:
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)
        targets[name] = (target, pattern is not None)
    return targets


def _linear(model: PreTrainedModel, target: str) -> nn.Linear | None:
    """The linear layer with this weight, if it can be replaced: not an output head, and not tied to another weight."""
    path, _, leaf = target.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        return None
    # Subclasses may be called by code that reads their weight.
    if leaf != "weight" or type(module) is not nn.Linear or module is model.get_output_embeddings():  # type: ignore[no-untyped-call]
        return None
    owners = [name for name, weight in model.named_parameters(remove_duplicate=False) if weight is module.weight]
    return module if len(owners) == 1 else None


def _why(model: PreTrainedModel, target: str, merged: bool) -> str:
    name = type(model).__name__
    if merged:
        return f"transformers {transformers.__version__} merges it with others into {target} of {name}"
    return f"{target} of {name} is not the weight of one nn.Linear"
