"""LoRA on top of a split model, with PEFT 0.21 or newer."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from residua import UsageError
from residua.torch import ResidualLinear

__all__ = ["LoraResidualLinear", "lora_config"]


def lora_config(**options: Any) -> LoraConfig:
    """A ``peft.LoraConfig`` whose adapters also go onto split layers.

    Args:
        options: as for ``peft.LoraConfig``. DoRA and other variants are refused.

    Example:
        ``model = peft.get_peft_model(model, residua.peft.lora_config(r=8, target_modules=["q_proj", "v_proj"]))``
    """
    config = LoraConfig(**options)
    config._register_custom_module({ResidualLinear: LoraResidualLinear})
    return config


class LoraResidualLinear(nn.Module, LoraLayer):
    """A split layer and its adapters: ``y = split(x) + scaling · B(A(x))``. The split weights stay as they are.

    PEFT makes it; :func:`lora_config` says for which layers. Adapters cannot be merged: the weights of a split layer never change.
    """

    def __init__(
        self, base_layer: ResidualLinear, adapter_name: str, config: LoraConfig, r: int = 0, lora_alpha: int = 1, **_: Any
    ) -> None:
        super().__init__()
        with warnings.catch_warnings():
            # PEFT does not know the class, but finds its numbers of features.
            warnings.simplefilter("ignore", UserWarning)
            LoraLayer.__init__(self, base_layer)
        # PEFT looks here for the device.
        base_layer.qweight = torch.empty(0, device="cpu")
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, r, lora_alpha=lora_alpha, config=config)

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``, as :class:`residua.torch.ResidualLinear`."""
        y: Tensor = self.base_layer(x)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name in self.lora_A:
                weight: Any = self.lora_A[name].weight
                inner = self.lora_A[name](self.lora_dropout[name](x.to(weight.dtype)))
                update: Tensor = self.lora_B[name](inner) * self.scaling[name]
                y = y + update.to(y.dtype)
        return y

    def merge(self, *_: Any, **__: Any) -> None:
        """Raises UsageError: an adapter cannot be merged."""
        raise UsageError("an adapter cannot be merged into a split layer, whose weights never change")
