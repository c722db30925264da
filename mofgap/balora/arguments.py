"""Arguments and outputs of any torch model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def call_of(x: Any, kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a model is called with."""
    if isinstance(x, Mapping):
        return (), {**x, **kwargs}
    if isinstance(x, tuple):
        return x, dict(kwargs)
    return (() if x is None else (x,)), dict(kwargs)


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
