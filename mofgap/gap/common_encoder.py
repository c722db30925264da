"""What the encoders of two levels of theory have in common, which is then computed once for both."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch
from torch import Tensor

from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.encoder import Encoder, FrozenOutputs
from mofgap.gap.model import GapModel


@dataclass(frozen=True)
class CommonEncoder:
    """An encoder that two models have.

    Attributes:
        encoder: That of the first model.
        elements: Atomic numbers that the second model treats differently.
    """

    encoder: Encoder
    elements: frozenset[int]

    def run_frozen(self, batch: CrystalGraph, elements: AbstractSet[int]) -> FrozenOutputs | None:
        """The outputs below the adapters for both models; None for a batch with one of those elements.

        Args:
            batch: The structures.
            elements: Their atomic numbers.
        """
        return None if self.elements & elements else self.encoder.run_frozen(batch)


def common_encoder(first: GapModel | None, second: GapModel | None) -> CommonEncoder | None:
    """The encoder of two models; None if they differ, or if their adapters begin at other blocks.

    Rows of their tables of elements may differ, such as those of elements without training data.
    """
    if first is None or second is None or first.encoder.n_frozen != second.encoder.n_frozen:
        return None
    own, other = _weights(first.encoder), _weights(second.encoder)
    if {name: w.shape for name, w in own.items()} != {name: w.shape for name, w in other.items()}:
        return None
    tables = {id(table.weight) for table in first.encoder.element_tables}
    of_elements = {name for name, weight in first.encoder.named_parameters() if id(weight) in tables}
    if not all(torch.equal(own[name], other[name]) for name in own.keys() - of_elements):
        return None
    rows = [(own[name] != other[name]).any(1) for name in of_elements]
    return CommonEncoder(
        first.encoder, frozenset(z for row in rows for z in row.nonzero().flatten().tolist())
    )


def _weights(encoder: Encoder) -> dict[str, Tensor]:
    return {name: weight for name, weight in encoder.state_dict().items() if ".lora_" not in name}
