"""The kinds of layers that can be adapted, and why a layer of such a kind may be refused."""

from __future__ import annotations

import sys

from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from mofgap.balora.conv import AdaptedConv2d
from mofgap.balora.embedding import AdaptedEmbedding
from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.linear import AdaptedConv1D, AdaptedLinear

NAMES = "nn.Linear, nn.Conv2d, nn.Embedding or transformers' Conv1D"

_KINDS: dict[type[nn.Module], type[AdaptedLayer]] = {
    nn.Linear: AdaptedLinear,
    nn.Conv2d: AdaptedConv2d,
    nn.Embedding: AdaptedEmbedding,
}


def adapted_kind(module: nn.Module) -> type[AdaptedLayer] | None:
    """The class that adapts a layer; None for a layer of another kind."""
    transformers = sys.modules.get("transformers.pytorch_utils")  # a model that has a Conv1D has loaded it
    if transformers is not None and isinstance(module, transformers.Conv1D):
        return AdaptedConv1D
    return next((adapted for kind, adapted in _KINDS.items() if isinstance(module, kind)), None)


def is_linear(module: nn.Module) -> bool:
    """Whether ``"all-linear"`` includes a layer, as in PEFT."""
    kind = adapted_kind(module)
    return kind is not None and issubclass(kind, AdaptedLinear) and not is_never_called(module)


def is_never_called(module: nn.Module) -> bool:
    """Whether a layer is the output projection of ``nn.MultiheadAttention``, which reads only its weight."""
    return isinstance(module, nn.modules.linear.NonDynamicallyQuantizableLinear)


def refuse_lazy(model: nn.Module) -> None:
    """Refuse a model with layers whose weights the first call makes.

    Raises:
        ValueError: If it has one, such as ``nn.LazyLinear``.
    """
    for name, parameter in model.named_parameters():
        if is_lazy(parameter):
            raise ValueError(f"{name} has no values yet: call the model once with an input, then adapt it")


def reason_against(module: nn.Module) -> str:
    """Why a layer of an adapted kind cannot be adapted, in words; empty if it can."""
    if is_never_called(module):
        return (
            "belongs to nn.MultiheadAttention, which reads its weight and never calls it: an adapter there "
            "would do nothing"
        )
    more = _more_than_weight(module)
    return f"has {more}: an adapter supports only W x + b" if more else ""


def _more_than_weight(module: nn.Module) -> str:
    if is_parametrized(module) or "weight" not in module._parameters:
        return "a parametrised weight"
    if isinstance(module, nn.Conv2d):
        for name, plain in {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros"}.items():
            if getattr(module, name) != plain:
                return f"{name}={getattr(module, name)!r}, which PEFT's files cannot hold"
    if isinstance(module, nn.Embedding) and module.max_norm is not None:
        return "max_norm, which changes its weight"
    own = next((kind for kind in _KINDS if isinstance(module, kind)), type(module))
    for name in ("forward", "_conv_forward"):
        if getattr(type(module), name, None) is not getattr(own, name, None) or name in vars(module):
            return "a forward method that differs from its class's"
    return "hooks" if module._forward_hooks or module._forward_pre_hooks else ""
