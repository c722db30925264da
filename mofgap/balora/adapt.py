"""Wrapping the linear layers of a model, and unwrapping them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLinear


def adapt(model: nn.Module, config: BaLoRAConfig) -> dict[str, AdaptedLinear]:
    """Freeze a model and wrap the linear layers that the config names, in place.

    Everything but A and B is frozen; unfreeze a new head afterwards with ``head.requires_grad_(True)``.
    A's start comes from torch's global generator.

    Args:
        model: Any module with ``nn.Linear`` layers inside.
        config: Which layers, and how.

    Returns:
        The adapted layers by name, in the model's order.

    Raises:
        ValueError: A pattern of ``config`` matches no linear layer, or the model is adapted already. A
            matched layer is no plain ``nn.Linear``, or is the output projection of ``nn.MultiheadAttention``,
            which is never called.
    """
    if adapted_layers(model):
        raise ValueError("the model is adapted already; merge or unadapt it first")
    found = targets(model, config.target_modules)
    model.requires_grad_(False)
    layers = {
        name: AdaptedLinear(
            linear, rank=config.rank, lora_alpha=config.lora_alpha, init_scale=config.init_scale
        )
        for name, linear in found.items()
    }
    _keep_off_fast_paths(model, layers)
    _replace(model, {layer.base: layer for layer in layers.values()})
    return layers


def adapted_layers(model: nn.Module) -> dict[str, AdaptedLinear]:
    """The adapted layers of a model by name, in its order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, AdaptedLinear)}


def unadapt(model: nn.Module) -> None:
    """Put the base layers back, dropping the adapters. Parameters stay frozen."""
    _replace(model, {layer: layer.base for layer in adapted_layers(model).values()})


def merge(model: nn.Module) -> None:
    """Fold the mean updates into the weights and put the base layers back. Parameters stay frozen."""
    _replace(model, {layer: layer.merge() for layer in adapted_layers(model).values()})


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern of ``target_modules`` means the module of this name."""
    return name == pattern or name.endswith(f".{pattern}") or re.fullmatch(pattern, name) is not None


def targets(model: nn.Module, patterns: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers that some patterns mean, by name, in the model's order.

    Raises:
        ValueError: A pattern matches no linear layer. A matched layer is no plain ``nn.Linear``, or is the
            output projection of ``nn.MultiheadAttention``, which is never called.
    """
    linears = {n: m for n, m in model.named_modules() if n and isinstance(m, nn.Linear)}
    for pattern in patterns:
        if not any(matches(name, pattern) for name in linears):
            raise ValueError(_nothing_found(pattern, linears, model))
    found = {n: m for n, m in linears.items() if any(matches(n, pattern) for pattern in patterns)}
    for name, linear in found.items():
        if isinstance(linear, nn.modules.linear.NonDynamicallyQuantizableLinear):
            raise ValueError(
                f"{name} belongs to nn.MultiheadAttention, which reads its weight and never calls it: an "
                "adapter there would do nothing"
            )
        if more := _more_than_linear(linear):
            raise ValueError(f"{name} has {more}: it is not W x + b alone, and an adapter knows no more")
    return found


def _more_than_linear(linear: nn.Linear) -> str:
    """What a layer does besides the product with its weight, in words; empty where nothing."""
    if is_parametrized(linear) or "weight" not in linear._parameters:
        return "a parametrised weight"
    if type(linear).forward is not nn.Linear.forward or "forward" in vars(linear):
        return "a forward of its own"
    return "hooks" if linear._forward_hooks or linear._forward_pre_hooks else ""


def _nothing_found(pattern: str, linears: Mapping[str, nn.Linear], model: nn.Module) -> str:
    for name, module in model.named_modules():
        if name and matches(name, pattern):
            return f"{pattern!r} finds {name}, a {type(module).__name__}; only nn.Linear can be adapted"
    names = [*linears, *dict.fromkeys(name.rpartition(".")[2] for name in linears)]
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.4) or list(linears)[:5]
    hint = f"near it: {', '.join(near)}" if near else "the model has none"
    return f"{pattern!r} finds no nn.Linear in the model; {hint}"


def _replace(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Replace modules wherever they stand, under several names too."""
    for parent in list(model.modules()):
        if parent in replacements:
            continue
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                setattr(parent, name, replacements[child])


def _keep_off_fast_paths(model: nn.Module, layers: Mapping[str, AdaptedLinear]) -> None:
    """Make torch's own transformer layers call their linear layers.

    In evaluation they hand the weights to a fused kernel instead, past any adapter. A hook on a layer inside
    tells them not to, and an encoder that makes nested tensors needs that kernel.
    """
    for name, module in model.named_modules():
        inside = [layer for key, layer in layers.items() if not name or key.startswith(f"{name}.")]
        if inside and isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
        if isinstance(module, nn.TransformerEncoderLayer):
            for layer in inside:
                layer.register_forward_pre_hook(_do_nothing)


def _do_nothing(module: nn.Module, args: object) -> None:
    """A hook that is there to be seen."""
