"""An encoder of one's own: one class, and one line in the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import CrystalGraph
from mofgap.encoders.encoder import Encoder, EncoderConfig
from mofgap.encoders.registry import ENCODERS
from mofgap.gap.folder import read_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.training.encoder_folder import save_encoder


@dataclass(frozen=True)
class ElementsConfig(EncoderConfig):
    n_blocks: int = 2
    width: int = 8
    leak: float = 0.1


class Elements(Encoder):
    """Knows an atom's element and those of its neighbours."""

    Config = ElementsConfig
    adaptable = ("own", "others")

    def __init__(self, config: ElementsConfig) -> None:
        super().__init__(config)
        self.element = nn.Embedding(MAX_Z + 1, config.width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({name: nn.Linear(config.width, config.width) for name in self.adaptable})
            for _ in range(config.n_blocks)
        )

    def embed(self, batch: CrystalGraph) -> tuple[Tensor, None]:
        return self.element(batch.atomic_number), None

    def run_block(self, i: int, x: Tensor, batch: CrystalGraph, extra: Any) -> Tensor:
        block: Any = self.blocks[i]
        gathered = (batch.weight[..., None] * block["others"](x)[batch.neighbour]).sum(1)
        return x + nn.functional.leaky_relu(block["own"](x) + gathered, self.config.leak)


@pytest.fixture
def elements(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ENCODERS, "elements", (__name__, "Elements"))
    return "elements"


def test_an_encoder_of_ones_own_goes_through_train_and_screen(
    elements: str,
    tmp_path: Path,
    trained_and_screened: Callable[[Path, int], tuple[Path, pd.DataFrame]],
) -> None:
    torch.manual_seed(0)
    config = ElementsConfig()
    folder = tmp_path / "encoder"
    folder.mkdir()
    weights = Elements(config).state_dict()
    save_encoder(folder, weights, {"architecture": elements, "encoder": asdict(config)})
    trained, screened = trained_and_screened(folder, 1)
    model = read_model(trained)[0]
    assert isinstance(model.encoder, Elements)
    assert [*model.layers] == ["blocks.1.own", "blocks.1.others"]
    assert len(screened) == 2
    assert np.isfinite(screened.gap_ev).all() and (screened.epistemic_std_ev > 0).all()


def test_all_adaptable_layers_are_adapted_by_default(elements: str) -> None:
    model = GapModel(GapModelConfig(encoder=elements))
    assert [*model.layers] == [f"blocks.{i}.{name}" for i in range(2) for name in ("own", "others")]
    assert model.encoder.n_frozen == 1


@pytest.mark.parametrize(
    ("blocks", "modules", "named"),
    [([2], None, ["0 to 1", "not 2"]), ([], None, ["not none"]), ([1], ["query"], ["own, others", "query"])],
)
def test_blocks_and_layers_that_an_encoder_lacks_are_refused(
    blocks: list[int], modules: list[str] | None, named: list[str]
) -> None:
    with pytest.raises(ValueError) as refusal:
        Elements.adapter_targets(ElementsConfig(), blocks, modules)
    assert all(words in str(refusal.value) for words in named)


def test_only_adaptable_layers_of_a_block_may_be_adapted() -> None:
    with pytest.raises(ValueError, match=r"own, others .* not element"):
        Elements(ElementsConfig()).freeze_below(["blocks.1.own", "element"])


@pytest.mark.parametrize("settings", [{"n_blocks": 0}, {"width": 0}, {"n_neighbours": 0}])
def test_sizes_are_at_least_1(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ElementsConfig(**settings)


def test_an_encoder_without_all_its_methods_is_refused_when_made() -> None:
    class Unfinished(Encoder):
        def embed(self, batch: CrystalGraph) -> tuple[Tensor, None]:
            return batch.distance, None

    with pytest.raises(TypeError, match="run_block"):
        Unfinished(EncoderConfig())  # type: ignore[abstract]
