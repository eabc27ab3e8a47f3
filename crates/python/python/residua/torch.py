"""Layers of split files as modules of torch, on the CPU."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from residua import Layer, UsageError, load_layer

__all__ = ["ResidualLinear", "alpha", "set_activations", "set_alpha"]

_FLOATS = (torch.float32, torch.float16, torch.bfloat16)

# An operator of torch takes no Python objects, so a layer goes by a number.
_keys = itertools.count()
_layers: WeakValueDictionary[int, Layer] = WeakValueDictionary()


def _register(layer: Layer) -> int:
    key = next(_keys)
    _layers[key] = layer
    return key


def _layer(key: int) -> Layer:
    try:
        return _layers[key]
    except KeyError:
        raise UsageError(f"layer {key} is gone: a graph was kept longer than its model, or came from another process") from None


@torch.library.custom_op("residua::linear", mutates_args=(), device_types="cpu")
def _linear(x: Tensor, layer: int, alpha: float, features: int) -> Tensor:
    return _apply(_layer(layer), x, alpha)


@_linear.register_fake
def _(x: Tensor, layer: int, alpha: float, features: int) -> Tensor:
    return x.new_empty((*x.shape[:-1], features))


@torch.library.custom_op("residua::linear_transposed", mutates_args=(), device_types="cpu")
def _linear_transposed(y: Tensor, layer: int, alpha: float, features: int) -> Tensor:
    return _apply_transposed(_layer(layer), y, alpha)


@_linear_transposed.register_fake
def _(y: Tensor, layer: int, alpha: float, features: int) -> Tensor:
    return y.new_empty((*y.shape[:-1], features))


def _is_plain(x: Tensor) -> bool:
    """Whether nothing but the values counts: no gradient, no tracing, no transform. Then the operator, whose call costs more
    than a small layer, is not needed."""
    return (
        type(x) is Tensor
        and x.device.type == "cpu"
        and not (torch.is_grad_enabled() and x.requires_grad)
        and not torch.compiler.is_compiling()
        and torch._C._get_tracing_state() is None
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and torch._C._len_torch_dispatch_stack() == 0
    )


def _apply(layer: Layer, x: Tensor, alpha: float) -> Tensor:
    return torch.from_numpy(layer.forward(x.detach().float().numpy(), alpha)).to(x.dtype)


def _apply_transposed(layer: Layer, y: Tensor, alpha: float) -> Tensor:
    dense = torch.from_numpy(layer.dense(alpha))
    return (y.detach().float() @ dense).to(y.dtype)


def _keep(ctx: Any, inputs: tuple[Tensor, int, float, int], output: Tensor) -> None:
    x, ctx.layer, ctx.alpha, _ = inputs
    ctx.features = x.shape[-1]
    # The layer must live until the backward pass.
    ctx.owner = _layers.get(ctx.layer)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return torch.ops.residua.linear_transposed(grad, ctx.layer, ctx.alpha, ctx.features), None, None, None


def _backward_transposed(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return torch.ops.residua.linear(grad, ctx.layer, ctx.alpha, ctx.features), None, None, None


_linear.register_autograd(_backward, setup_context=_keep)
_linear_transposed.register_autograd(_backward_transposed, setup_context=_keep)


class ResidualLinear(nn.Module):
    """``y = base·x + alpha·(residual·x) + bias``, in place of :class:`torch.nn.Linear`.

    Inputs are float32, float16 or bfloat16 ``[..., in_features]`` on the CPU, in any layout; outputs are
    ``[..., out_features]`` of the same dtype. The product itself is computed in float32, or as :func:`set_activations` says. Gradients flow to the input, not to the
    weights: the backward pass reads them from the file, one layer at a time, as a dense matrix.

    ``copy.deepcopy`` shares the weights, which never change, and copies alpha and bias. Pickle and ``torch.save`` of the
    module store the path of the split file. ``state_dict`` holds the bias alone.

    Args:
        layer: the weights, ``SplitFile(path).layer(name)``.
        bias: ``[out_features]``, or None.
        alpha: the scale of the residual: 1 is the whole model, 0 the base alone.

    Raises:
        UsageError: the bias has another shape.
    """

    def __init__(self, layer: Layer, bias: Tensor | None = None, alpha: float = 1.0) -> None:
        super().__init__()
        if bias is not None and bias.shape != (layer.out_features,):
            raise UsageError(f"{layer.name}: a bias of shape {list(bias.shape)} for {layer.out_features} outputs")
        self.layer, self._key = layer, _register(layer)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.alpha = _checked(alpha)
        self.bias: nn.Parameter | None
        if bias is None:
            self.register_parameter("bias", None)
        else:
            self.bias = bias if isinstance(bias, nn.Parameter) else nn.Parameter(bias)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        # A copy, or a pickle from another process.
        self._key = _register(self.layer)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``.

        Raises:
            UsageError: another device, dtype or number of features.
        """
        if x.device.type not in ("cpu", "meta"):
            raise UsageError(f"{self.layer.name}: the input is on {x.device}; split layers run on the CPU: x.cpu()")
        if x.dtype not in _FLOATS:
            raise UsageError(f"{self.layer.name}: the input is {x.dtype}; float32, float16 and bfloat16 work")
        if x.dim() == 0 or x.shape[-1] != self.in_features:
            raise UsageError(f"{self.layer.name}: the input is {list(x.shape)}, not [..., {self.in_features}]")
        if _is_plain(x):
            y = _apply(self.layer, x, self.alpha)
        else:
            y = torch.ops.residua.linear(x, self._key, self.alpha, self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def dense(self) -> Tensor:
        """``base + alpha · residual`` as a dense float32 tensor ``[out_features, in_features]``."""
        return torch.from_numpy(self.layer.dense(self.alpha))

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, alpha={self.alpha:g}"


def set_alpha(model: nn.Module, value: float) -> None:
    """Sets alpha of every split layer of a model: 1 is the whole model, 0 the base alone.

    Raises:
        UsageError: alpha is not a finite number, or the model has no split layer.
    """
    value = _checked(value)
    for layer in _split_layers(model):
        layer.alpha = value


@contextmanager
def alpha(model: nn.Module, value: float) -> Iterator[None]:
    """Sets alpha of every split layer of a model within a ``with`` block; afterwards each has its own alpha again.

    Raises:
        UsageError: as :func:`set_alpha`.
    """
    before = [(layer, layer.alpha) for layer in _split_layers(model)]
    set_alpha(model, value)
    try:
        yield
    finally:
        for layer, value in before:
            layer.alpha = value


def set_activations(model: nn.Module, activations: str) -> None:
    """Sets how every split layer of a model takes its inputs. The layers are loaded from their files again, one after the other.

    Args:
        activations: ``"f32"``, as layers are first loaded, takes inputs as they are. ``"i8"`` rounds them to 8-bit integers, with a
            scale for every 32 features, for the product with a quantised base: several times faster, and outputs of a layer move by
            about 0.5 %. Over the 30 layers of SmolLM2-135M that adds up: logits move by 2 %, and perplexity rises by about 1 %.

    Raises:
        UsageError: there are no such activations, or the model has no split layer.
        IoError, InputError: a file was removed or changed since.
    """
    for module in _split_layers(model):
        path, base, name, *_ = module.layer.__reduce__()[1]
        module.layer = load_layer(path, base, name, activations)
        module._key = _register(module.layer)


def _split_layers(model: nn.Module) -> list[ResidualLinear]:
    layers = [module for module in model.modules() if isinstance(module, ResidualLinear)]
    if not layers:
        raise UsageError(f"{type(model).__name__} has no split layer")
    return layers


def _checked(alpha: float) -> float:
    alpha = float(alpha)
    if not math.isfinite(alpha):
        raise UsageError(f"alpha is {alpha}; it must be a finite number")
    return alpha
