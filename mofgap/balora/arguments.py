"""Arguments and outputs of any torch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_CACHES = ("past_key_values", "cache_params")
"""Arguments of transformers that hold a cache of earlier tokens, of whatever type."""


def call_of(x: Any, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a model is called with.

    Raises:
        ValueError: If one is a cache of earlier tokens.
    """
    named = {**x, **kwargs} if isinstance(x, Mapping) else dict(kwargs)
    args = () if isinstance(x, Mapping) or x is None else x if isinstance(x, tuple) else (x,)
    refuse_cache(args, named)
    return args, named


def refuse_cache(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a cache of earlier tokens, to which each of several passes would append.

    Raises:
        ValueError: If an argument is one.
    """
    for name, value in (*((type(value).__name__, value) for value in args), *kwargs.items()):
        # Versions of transformers give their caches other names, but all caches have this method.
        if (name in _CACHES and value is not None) or hasattr(value, "get_seq_length"):
            raise ValueError(f"{name}: each of several passes would append to it; give the whole sequence")


def n_inputs_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """Leading dimension of the first tensor; where that is 1, of a later one of as many dimensions, no mask.

    Raises:
        ValueError: If no argument is a tensor.
    """
    given = [*(("", v) for v in args), *kwargs.items()]
    tensors = [(name, v) for name, v in given if isinstance(v, Tensor) and v.ndim]
    if not tensors:
        raise ValueError("the model is called with no tensor, so that the number of inputs is not known")
    n_dims = tensors[0][1].ndim
    return next((len(v) for name, v in tensors if len(v) != 1 and v.ndim >= n_dims and "mask" not in name), 1)


def logits_of(output: Any) -> Tensor:
    """The tensor that a model predicts: its output, or the ``logits`` in it.

    A single number gets the dimension of inputs back, which ``squeeze`` takes from a batch of one.

    Raises:
        TypeError: If ``output`` is no tensor and has no ``logits``.
    """
    if isinstance(output, Tensor):
        return output if output.ndim else output[None]
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"the model returns {type(output).__name__}, neither a tensor nor an object with logits: wrap it "
            "in a module that returns the tensor"
        )
    return found
