from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import GraphConfig, crystal_graph
from mofgap.encoders.encoder import Encoder, Fixed
from mofgap.encoders.registry import ENCODERS
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import posterior


class Elements(Encoder):
    """Knows the elements alone."""

    def __init__(self) -> None:
        super().__init__()
        self.width, self.n_outputs, self.n_fixed, self.graph_config = 8, 2, 2, GraphConfig(4, 5.0)
        self.element = nn.Embedding(101, 8)
        self.linear = nn.Linear(8, 8)

    def fix_below(self, adapted: Iterable[str]) -> None:
        self.n_fixed = 1 if list(adapted) else 2

    def prepare(self, batch: Any) -> Fixed:
        return Fixed([self.element(batch.atomic_number)])

    def forward(self, batch: Any, fixed: Fixed | None = None) -> Tensor:
        first = (self.prepare(batch) if fixed is None else fixed).outputs[0]
        return torch.stack([first, self.linear(first)], dim=1)


def test_an_encoder_of_ones_own_carries_a_gap_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "elements", lambda settings: Elements(**settings))
    model = GapModel(GapModelConfig(encoder="elements", target_modules=("linear",))).eval()
    assert list(model.layers) == ["linear"] and model.encoder.n_fixed == 1
    with torch.no_grad():
        model.layers["linear"].lora_B.normal_()
    crystal = Crystal(6 * np.eye(3), np.array([[0, 0, 0], [0.3, 0, 0.0]]), np.array([30, 8]), "ZnO")
    found = posterior(model, crystal_graph(crystal, model.graph_config), uncertainty="closed-form")
    assert found.gap_ev.shape == (1,) and found.epistemic_std_ev[0] > 0
    drawn = posterior(model, crystal_graph(crystal, model.graph_config), uncertainty="weights", samples=4)
    assert drawn.epistemic_std_ev[0] > 0


def test_an_encoder_without_all_its_methods_is_refused_when_made() -> None:
    class Unfinished(Encoder):
        def forward(self, batch: Any, fixed: Fixed | None = None) -> Tensor:
            return batch.atomic_number

    with pytest.raises(TypeError, match=r"fix_below.*prepare"):
        Unfinished()
