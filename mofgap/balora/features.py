"""Pooled features of the frozen model, from which alpha(X) is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from mofgap.balora.arguments import logits_of
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.kinds import adapted_kind, is_never_called, refuse_lazy
from mofgap.balora.linear import AdaptedConv1D

Callback = Callable[..., Tensor]
_WIDTHS = ("out_features", "out_channels", "num_features", "embedding_dim", "nf")


class FrozenFeatures:
    """Takes the input or output of one module while the frozen model runs, and pools it.

    Tokens of an input are averaged, without those that an ``attention_mask`` leaves out. Images are averaged
    over height and width, and rows over the rows of an input.

    Args:
        model: The model, before it is adapted.
        config: It names the module, whose output is taken. Without a name, the input of the model's last
            linear or convolution layer is taken.

    Attributes:
        width: Number of features.

    Raises:
        ValueError: If the model has no module of that name, or its width is unknown and not in the config.
        ValueError: If the model has lazy layers that were never called.
    """

    def __init__(self, model: nn.Module, config: BaLoRAConfig) -> None:
        refuse_lazy(model)
        self.takes_input = config.features is None
        self.name = _last_layer(model) if config.features is None else config.features
        try:
            module = model.get_submodule(self.name)
        except AttributeError as error:
            raise ValueError(f"features: the model has no module {self.name!r}") from error
        self.channel_axis = _channel_axis(module)
        self.width = config.n_features or (_width_in(module) if self.takes_input else _width_out(module))
        if not self.width:
            raise ValueError(
                f"the width of what {self.name or 'the model'} returns is not known; give it as n_features"
            )

    def __call__(
        self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], row_to_input: Tensor | None
    ) -> Tensor:
        """Run a model and pool the input or output of the module.

        Returns:
            (n_inputs, width) without gradients.

        Raises:
            RuntimeError: If the module did not run.
            ValueError: If its input or output has another width.
        """
        found: list[Any] = []
        module = model.get_submodule(self.name)
        if self.takes_input:
            handle = module.register_forward_pre_hook(
                lambda _, inputs, named: found.append([*inputs, *named.values()][0]), with_kwargs=True
            )
        else:
            handle = module.register_forward_hook(lambda _, inputs, output: found.append(output))
        try:
            model(*args, **kwargs)
        finally:
            handle.remove()
        if not found:
            raise RuntimeError(f"the module {self.name} did not run: name another one as features")
        x = _tensor(found[-1]).detach()
        mask = self._mask(model, args, kwargs)
        of_frames = getattr(model, "_get_feature_vector_attention_mask", None)  # of audio in transformers
        return self._pooled(x, mask, of_frames, row_to_input)

    def _mask(self, model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """What the model is called with as the mask of the tokens that the module sees; None without."""
        given = dict(kwargs)
        with suppress(TypeError):  # a call that the model understands in its own way
            given |= inspect.signature(model.forward).bind_partial(*args).arguments
        known = {*given, *inspect.signature(model.forward).parameters}
        with_decoder = getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        if with_decoder and "decoder_attention_mask" in known and "encoder" not in self.name.split("."):
            return given.get("decoder_attention_mask")
        return given.get("attention_mask")

    def _pooled(
        self, x: Tensor, mask: Any, of_frames: Callback | None, row_to_input: Tensor | None
    ) -> Tensor:
        if x.ndim == 1:
            x = x[:, None]
        axis = self.channel_axis
        if axis is None:  # the one as wide as the features, of two the last, or the second of an image
            axis = 1 if x.shape[-1] != self.width or x.ndim == 4 else -1
        if x.ndim > 2 and x.shape[axis] == self.width:
            x = x.movedim(axis, -1)
        if x.shape[-1] != self.width:
            raise ValueError(
                f"features of {self.name or 'the model'} are {tuple(x.shape)}, not {self.width} wide: give "
                "their width as n_features"
            )
        x = x.float()
        if row_to_input is not None and len(x) == len(row_to_input):
            return mean_by_input(x.flatten(1, -2).mean(1) if x.ndim > 2 else x, row_to_input)
        if isinstance(mask, Tensor) and of_frames is not None and x.ndim == 3 and mask.shape != x.shape[:2]:
            mask = of_frames(x.shape[1], mask)
        if isinstance(mask, Tensor) and mask.shape == x.shape[:2] and x.ndim == 3:
            weights = mask.to(x.dtype)
            return (x * weights[..., None]).sum(1) / weights.sum(1, keepdim=True).clamp_min(1)
        return x.flatten(1, -2).mean(1) if x.ndim > 2 else x


def checked_width(features: Tensor, width: int | None) -> Tensor:
    """What a user's function returns.

    Raises:
        ValueError: If it is not (n_inputs, width).
    """
    if features.ndim != 2 or features.shape[1] != width:
        shape = tuple(features.shape)
        raise ValueError(f"features returns {shape}, not (n_inputs, n_features) with n_features={width}")
    return features


def mean_by_input(x: Tensor, row_to_input: Tensor) -> Tensor:
    """(n_inputs, d): mean of the rows (n_rows, d) of each input."""
    counts = torch.bincount(row_to_input)
    sums = x.new_zeros(len(counts), x.shape[1]).index_add_(0, row_to_input, x)
    return sums / counts.clamp_min(1)[:, None]


def _tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, tuple) and isinstance(output[0], Tensor):
        return output[0]
    hidden = getattr(output, "last_hidden_state", None)
    return hidden if isinstance(hidden, Tensor) else logits_of(output)


def _last_layer(model: nn.Module) -> str:
    name = ""
    for own, module in model.named_modules():
        if (
            own
            and adapted_kind(module)
            and not isinstance(module, nn.Embedding)
            and not is_never_called(module)
        ):
            name = own
    if not name:
        raise ValueError("features: the model has no linear layer; name a module")
    return name


def _channel_axis(module: nn.Module) -> int | None:
    """The axis of the features in what a module takes and returns; None if its kind does not say."""
    if isinstance(module, (nn.Linear, nn.Embedding)) or type(module) is nn.LayerNorm:
        return -1  # classes derived from LayerNorm may have images with the channels first
    if isinstance(module, (_ConvNd, _BatchNorm, _InstanceNorm, nn.GroupNorm)):
        return 1
    return -1 if adapted_kind(module) is AdaptedConv1D else None


def _width_in(module: nn.Module) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    if isinstance(module, nn.Conv2d):
        return module.in_channels
    return len(getattr(module, "weight"))  # noqa: B009  (d_in, d_out) of a Conv1D


def _width_out(module: nn.Module) -> int:
    for name in _WIDTHS:
        if isinstance(width := getattr(module, name, None), int):
            return width
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[-1]
    return int(getattr(getattr(module, "config", None), "hidden_size", 0))
