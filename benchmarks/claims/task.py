"""What every modality hands to the protocol: labelled splits, and a pretrained network that fits them.

A modality is a module with two functions of its settings: ``tasks(settings) -> Iterable[Task]`` and
``backbones(settings) -> dict[str, Backbone]``. Blocks before the first adapted one are run once; their
outputs are then the inputs of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

Kind = Literal["classes", "gaps"]
"""What a task asks for: a class, or a band gap with a Gaussian likelihood."""


@dataclass(frozen=True)
class Split:
    """Inputs of a network and their labels.

    Attributes:
        inputs: The network's arguments, each (n, ...).
        labels: (n,) int64 classes, or gaps in eV; ``None`` where the inputs belong to none of the classes.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor | None

    def __len__(self) -> int:
        """Number of inputs."""
        return len(self.inputs[0])

    def taken(self, rows: Tensor) -> Split:
        """The split of some rows, by their indices."""
        labels = None if self.labels is None else self.labels[rows]
        return Split(tuple(x[rows] for x in self.inputs), labels)

    def batches(self, size: int, generator: torch.Generator | None = None) -> Iterator[Split]:
        """The split in batches: in its own order, or in a random one if there is a generator."""
        n = len(self)
        order = torch.arange(n) if generator is None else torch.randperm(n, generator=generator)
        for rows in order.split(size):
            yield self.taken(rows)


@dataclass(frozen=True)
class Task:
    """What is learnt, and from which inputs.

    Attributes:
        name: Unique within the modality; names files, so letters, digits, ``-`` and ``_``.
        backbone: Name of the backbone that the inputs were made for, a key of ``backbones``.
        n_classes: Number of classes, at least 2; of gaps 2, for mean and logarithm of the standard deviation.
        train: To learn from.
        val: To choose hyperparameters by.
        test: To judge by.
        shifted: Out-of-distribution inputs by name. Those with labels are scored like ``test`` too.
        kind: What the labels are.
    """

    name: str
    backbone: str
    n_classes: int
    train: Split
    val: Split
    test: Split
    shifted: Mapping[str, Split] = field(default_factory=dict)
    kind: Kind = "classes"

    @property
    def judged(self) -> dict[str, Split]:
        """What methods are judged by: ``test``, and ``shifted`` by name."""
        return {"test": self.test, **self.shifted}

    @property
    def predicted(self) -> dict[str, Split]:
        """The same, and ``val``."""
        return {"val": self.val, **self.judged}


class Backbone(Protocol):
    """A pretrained network, from the first adapted block on.

    It may also have ``n_features`` and ``features(*inputs)``, (n, n_features) that alpha(X) is computed from.
    Without them alpha's input is what the head gets in the frozen network: one more forward pass.
    Where an input has rows of its own number, such as atoms, ``rows(*inputs)`` gives the input of each row.
    """

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Layers to adapt, as of `mofgap.balora.BaLoRAConfig`."""

    @property
    def head(self) -> str:
        """Name of the new linear layer that gives the logits; it is trained whole by every method."""

    def network(self, n_classes: int, seed: int) -> nn.Module:
        """A new copy with the pretrained weights and a new head of this seed.

        Its forward takes the inputs of a split and returns (n, n_classes) logits. Full fine-tuning trains
        all its parameters.
        """


def rows_of(backbone: Any, batch: Split) -> Tensor | None:
    """(n_rows,) the input of each row; ``None`` for a backbone whose tensors are batch-first."""
    rows = getattr(backbone, "rows", None)
    return None if rows is None else rows(*batch.inputs)
