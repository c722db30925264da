"""Modules that are trained whole, in addition to the adapters: ``modules_to_save``, as in PEFT."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


class TrainedModule(nn.Module):
    """A module and a copy of it that is trained.

    Args:
        original: The pretrained module; it is frozen.

    Attributes:
        trained: The copy.
        enabled: When false the pretrained module runs.
    """

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original = original.requires_grad_(False)
        self.trained = copy.deepcopy(original).requires_grad_(True)
        self.enabled = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the trained copy, or the pretrained module."""
        return (self.trained if self.enabled else self.original)(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Attributes that a model reads, such as ``weight``, are those of the module that runs."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            runs = "trained" if self.__dict__.get("enabled", True) else "original"
            return getattr(super().__getattr__(runs), name)


def trained_modules(model: nn.Module) -> dict[str, TrainedModule]:
    """The modules that are trained whole, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, TrainedModule)}
