from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import CrystalGraph, collate, crystal_graph
from mofgap.encoders.crystal_transformer import CrystalTransformer, CrystalTransformerConfig
from mofgap.training.atoms import AtomHeads

HIDDEN = torch.tensor([True, False, False, True, False])


def five_atoms(numbers: list[int], encoder: CrystalTransformer) -> CrystalGraph:
    coords = np.random.default_rng(0).random((5, 3))
    crystal = Crystal(np.eye(3) * 6, coords, np.array(numbers))
    return collate([crystal_graph(crystal, encoder.graph_config)])


def losses(
    encoder_config: CrystalTransformerConfig,
    numbers: list[int],
    mask_weight: float,
    hidden: Tensor = HIDDEN,
) -> dict[str, Tensor]:
    torch.manual_seed(0)
    encoder = CrystalTransformer(encoder_config)
    heads = AtomHeads(encoder, torch.zeros(4), torch.ones(4))
    batch = five_atoms(numbers, encoder)
    found = heads.loss(batch, torch.ones(5, 4), hidden, mask_weight)
    assert batch.atomic_number.tolist() == numbers  # what is hidden is hidden from the encoder alone
    return {name: value.detach() for name, value in found.items()}


def test_masked_elements_are_hidden_from_the_encoder(tiny_encoder: CrystalTransformerConfig) -> None:
    first, second = (losses(tiny_encoder, [6, 8, 1, z, 6], 0.0) for z in (30, 29))
    assert torch.equal(first["loss"], second["loss"])
    assert torch.equal(first["mae"], second["mae"])


@pytest.mark.parametrize("all_masked", [True, False])
def test_a_batch_may_be_masked_throughout_or_not_at_all(
    tiny_encoder: CrystalTransformerConfig, all_masked: bool
) -> None:
    found = losses(tiny_encoder, [6, 8, 1, 30, 6], 1.0, torch.full((5,), all_masked))
    assert found["loss"] > 0 and found["mae"].isfinite().all() and found["n_masked"] == 5 * all_masked
    assert found["element_accuracy"].isfinite() == all_masked


def test_masked_elements_are_a_part_of_the_loss(tiny_encoder: CrystalTransformerConfig) -> None:
    without, half, whole = (losses(tiny_encoder, [6, 8, 1, 30, 6], w)["loss"] for w in (0.0, 0.5, 1.0))
    assert float(half - without) == pytest.approx(float(whole - half), rel=1e-4)
    assert whole > half > without > 0


def test_targets_are_predicted_in_their_own_units(tiny_encoder: CrystalTransformerConfig) -> None:
    centre, scale = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0, 7.0])
    encoder = CrystalTransformer(tiny_encoder)
    heads = AtomHeads(encoder, centre, scale)
    nn.init.zeros_(heads.regress[-1].weight)
    nn.init.ones_(heads.regress[-1].bias)
    predicted, _ = heads(five_atoms([6, 8, 1, 30, 6], encoder))
    assert predicted.tolist() == [[4.0, 6.0, 8.0, 10.0]] * 5
