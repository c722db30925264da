"""The variance of a prediction in closed form: one forward and one backward pass, no samples."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from mofgap.balora.layer import AdaptedLayer, Recording, version_of
from mofgap.balora.rows import InputRows
from mofgap.balora.sketch import signs, sketch


@dataclass(frozen=True)
class Sensitivity:
    """Contribution of each adapted layer to the variance of an input's output, to first order.

    Attributes:
        output: (n_inputs,) f at the posterior mean.
        per_layer: (n_inputs, n_layers) sum_ij A_ij² (df/dA_ij)², in squared units of the output.
        per_row: (n_rows, n_layers) each row's part of ``per_layer``, or ``None`` without ``per_row``. The
            parts of an input sum to its total; a part is negative if a row opposes the others.
        row_to_input: (n_rows,) the input each row belongs to; ``None`` if tensors are batch-first.
        sketches: (n_inputs, n_layers, n_dims) count sketches of A∘(df/dA), or ``None`` without ``n_dims``.
    """

    output: Tensor
    per_layer: Tensor
    per_row: Tensor | None = None
    row_to_input: Tensor | None = None
    sketches: Tensor | None = None

    def variance(self, alpha: Tensor) -> Tensor:
        """(n_inputs,) Var f(X) = sum_l alpha_l(X) sum_ij A_ij² (df/dA_ij)².

        Gradients flow to ``alpha``. So a noise network can be fitted to observed errors without further
        passes of the model.

        Args:
            alpha: (n_inputs, n_layers) posterior variance factors.
        """
        return (alpha * self.per_layer).sum(1)

    def gradient_features(self, alpha: Tensor) -> Tensor:
        """(n_inputs, n_dims) sketch of the vector of all sqrt(alpha_l) A_ij df/dA_ij.

        The squared distance of two of these is Var(f(X) - f(X')), to first order and up to the error of the
        sketch. The noise eps in A + sqrt(alpha(X)) A∘eps is then the same for both inputs.

        Args:
            alpha: (n_inputs, n_layers) posterior variance factors.

        Raises:
            ValueError: If the sensitivity was computed without ``n_dims``.
        """
        if self.sketches is None:
            raise ValueError("no sketches were computed; give n_dims to sensitivity")
        return (alpha.sqrt()[:, :, None] * self.sketches).sum(1)

    def variance_per_row(self, alpha: Tensor) -> Tensor:
        """(n_rows,) the share of each row in its input's variance.

        Raises:
            ValueError: If the sensitivity was computed without ``per_row=True``.
        """
        if self.per_row is None or self.row_to_input is None:
            raise ValueError("no shares per row were computed; give per_row=True to sensitivity")
        return (alpha[self.row_to_input] * self.per_row).sum(1)


def sensitivity(
    forward: Callable[[], Tensor],
    layers: Mapping[str, AdaptedLayer],
    n_inputs: int,
    row_to_input: Tensor | None = None,
    *,
    per_row: bool = False,
    n_dims: int = 0,
) -> Sensitivity:
    """Run a model once forward and once backward, for its outputs and the terms of their variance.

    The variance is exact for small noise, in which f is linear, if the rows of an input share one draw of A.
    No gradient of a parameter is computed, and the graph starts at the first adapted layer. A compiled model
    runs in eager mode if its graph hides the layers. It works inside ``torch.no_grad``, and inside
    ``torch.inference_mode`` if the model's arguments were made outside.

    Args:
        forward: Runs the model, in evaluation mode, on the batch and returns (n_inputs,) outputs, each of
            which depends on one input alone.
        layers: The adapted layers.
        n_inputs: Number of inputs in the batch.
        row_to_input: (n_rows,) int64 and sorted; ``None`` if tensors are batch-first.
        per_row: Whether to compute each row's share too; needs ``row_to_input``.
        n_dims: Length of the sketches; 0 for none.

    Raises:
        ValueError: If the output of ``forward`` does not have the shape (n_inputs,), or ``per_row`` is set
            without ``row_to_input``.
        RuntimeError: If no adapted layer leads to the output, an adapted layer runs with gradients off, or
            the model changes an adapted layer's input in place.

    Warns:
        UserWarning: An adapted layer was not called, so that it adds no variance.
    """
    if per_row and row_to_input is None:
        raise ValueError("per_row needs row_to_input: batch-first tensors have no rows to share among")
    rows = InputRows(n_inputs, row_to_input)
    output, (calls, *_) = calls_of(forward, layers, n_inputs)
    if output.ndim > 1:
        raise ValueError(f"{tuple(output.shape)} outputs: for several outputs use joint_sensitivity")
    with full_precision(output):
        return _summed(output, layers, calls, rows, per_row, n_dims)


def _summed(
    output: Tensor,
    layers: Mapping[str, AdaptedLayer],
    calls: Sequence[Sequence[Call]],
    rows: InputRows,
    per_row: bool,
    n_dims: int,
) -> Sensitivity:
    """The sensitivity of an output from the calls of each layer, with arguments of `sensitivity`."""
    per_layer, shares, sketches = [], [], []
    row_to_input = rows.row_to_input
    for stream, (layer, layer_calls) in enumerate(zip(layers.values(), calls, strict=True)):
        A = layer.spread.detach()
        if n_dims:
            A = A * signs(A.shape, stream).to(A)  # the squares stay the same
        G = gradient_of(layer_calls, A, rows).mul_(A)
        scale = layer.scaling**2  # the gradients lack the factor s, which a variance has squared
        per_layer.append(scale * torch.linalg.vector_norm(G.flatten(1), dim=1).square())
        if n_dims:
            sketches.append(layer.scaling * sketch(G.flatten(1), n_dims))
        if row_to_input is not None and per_row:
            none = A.new_zeros(row_to_input.shape[0])
            shares.append(scale * sum((_shares(c, A * G, rows, row_to_input) for c in layer_calls), none))
    return Sensitivity(
        output,
        torch.stack(per_layer, 1),
        torch.stack(shares, 1) if per_row else None,
        row_to_input,
        torch.stack(sketches, 1) if n_dims else None,
    )


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """While open, no autocast on the device of a tensor rounds variances, which may be tiny."""
    return torch.autocast(tensor.device.type, enabled=False)


@dataclass(frozen=True)
class Call:
    """One call of a layer: its input x, and g = df/dh / s (..., r) in the precision of A."""

    layer: AdaptedLayer
    x: Tensor
    g: Tensor


def calls_of(
    forward: Callable[[], Tensor], layers: Mapping[str, AdaptedLayer], n_inputs: int
) -> tuple[Tensor, list[list[list[Call]]]]:
    """Run a model forward once, and backward once for each number of its output.

    Args:
        forward: As in `sensitivity`, but its outputs may be (n_inputs, k) too.
        layers: The adapted layers.
        n_inputs: Number of inputs in the batch.

    Returns:
        The outputs, and the calls of each layer for each of the k numbers.

    Raises:
        RuntimeError: If no adapted layer leads to the output of ``forward``, or it changes the input of one
            in place.
    """
    output, recordings, found = _differentiated(forward, layers, n_inputs)
    reached = [g is not None for gradients in found for g in gradients]
    if not (reached and all(reached)) and "torch._dynamo" in sys.modules:
        # In a graph that was compiled whole, the outputs of the layers are not those that were recorded.
        with torch.compiler.set_stance("force_eager"):
            output, recordings, found = _differentiated(forward, layers, n_inputs)
    if all(g is None for gradients in found for g in gradients):
        raise RuntimeError(
            "the output has no gradient: no adapted layer leads to it, or forward runs under no_grad"
        )
    for (name, _), recorded in zip(layers.items(), recordings, strict=True):
        if not recorded:
            warnings.warn(f"the adapted layer {name} was not called: it adds no variance", stacklevel=3)
        if any(version_of(recording.x) != recording.version for recording in recorded):
            raise RuntimeError(f"the model changes the input of {name} in place, which its gradient needs")
    with full_precision(output):
        return output.detach(), [_calls(layers, recordings, gradients) for gradients in found]


def _calls(
    layers: Mapping[str, AdaptedLayer],
    recordings: Sequence[Sequence[Recording]],
    gradients: Sequence[Tensor | None],
) -> list[list[Call]]:
    """The calls of each layer on which one number of the output depends."""
    left, calls = iter(gradients), []
    for layer, recorded in zip(layers.values(), recordings, strict=True):
        dtype, B = layer.lora_A.dtype, layer.lora_B.detach()
        reached = ((recording.x, next(left)) for recording in recorded)
        calls.append(
            [Call(layer, x, layer.output_last(g).to(dtype) @ B) for x, g in reached if g is not None]
        )
    return calls


def _differentiated(
    forward: Callable[[], Tensor], layers: Mapping[str, AdaptedLayer], n_inputs: int
) -> tuple[Tensor, list[list[Recording]], list[list[Tensor | None]]]:
    """The outputs, each layer's calls, and the gradients of each output by them; None where it has none."""
    with torch.inference_mode(False), torch.enable_grad(), _recording(layers) as recordings:
        output = forward()
        if output.ndim not in (1, 2) or len(output) != n_inputs:
            raise ValueError(
                f"the model must return ({n_inputs},) or ({n_inputs}, k) outputs of {n_inputs} inputs, got "
                f"{tuple(output.shape)}; if several rows are one input, give rows"
            )
        recordings = [list(recorded) for recorded in recordings]  # recomputed activations would add more
        outputs = [recording.y for recorded in recordings for recording in recorded]
        numbers = [output] if output.ndim == 1 else list(output.unbind(1))
        if not outputs or not output.requires_grad:
            return output, recordings, [[None] * len(outputs)] * len(numbers)
        found: list[list[Tensor | None]] = []
        for number in numbers:
            kept = number is not numbers[-1]
            gradients = torch.autograd.grad(number.sum(), outputs, retain_graph=kept, allow_unused=True)
            found.append(list(gradients))
        return output, recordings, found


@contextmanager
def _recording(layers: Mapping[str, AdaptedLayer]) -> Iterator[list[list[Recording]]]:
    recordings: list[list[Recording]] = [[] for _ in layers]
    try:
        for layer, recorded in zip(layers.values(), recordings, strict=True):
            layer.recordings = recorded
        yield recordings
    finally:
        for layer in layers.values():
            layer.recordings = None


def gradient_of(calls: Sequence[Call], A: Tensor, rows: InputRows) -> Tensor:
    """(n_inputs, r, d_in): df/dA / s of each input, over all calls of a layer; A gives the shape."""
    if not calls:
        return A.new_zeros(rows.n_inputs, *A.shape)
    return reduce(torch.add, (call.layer.outer(call.x, call.g, rows) for call in calls))


def _shares(call: Call, weights: Tensor, rows: InputRows, row_to_input: Tensor) -> Tensor:
    """(n_rows,) sum_ij weights_ij g_i x_j of each row, with its input's weights (n_inputs, r, d_in).

    If the leading dimension of the layer's input counts inputs (after pooling), rows have equal shares.
    """
    vectors = call.layer.vectors(call.x).to(call.g.dtype)
    counts = rows.counts(vectors)
    g, x = call.g.flatten(0, -2), vectors.flatten(0, -2)
    if len(set(counts)) <= 1:
        transformed = (rows.by_input(x) @ weights.mT).flatten(0, 1)
    else:
        transformed = torch.cat([b @ w.mT for b, w in zip(torch.split(x, counts), weights, strict=True)])
    shares = (g * transformed).sum(1).view(call.x.shape[0], -1).sum(1)
    if rows.has_own_rows(vectors):
        return shares
    return (shares / torch.bincount(row_to_input, minlength=rows.n_inputs))[row_to_input]
