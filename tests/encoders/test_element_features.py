from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mofgap.crystals.graph import collate, crystal_graph
from mofgap.encoders.crystal_transformer import CrystalTransformer
from mofgap.encoders.element_features import DescribedElements, element_dropout
from tests.encoders.test_crystal_transformer import CONFIG, make_crystal

DESCRIBED = replace(CONFIG, elements="descriptors")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="elements: 'tables' is none of table, descriptors"):
        replace(CONFIG, elements="tables")


def test_elements_differ_by_their_descriptors_before_any_training() -> None:
    torch.manual_seed(0)
    features = DescribedElements(8)
    found = features(torch.arange(1, 101))
    assert found.std(0).mean().item() == pytest.approx(1, abs=0.01)
    assert (features(torch.tensor([40])) - features(torch.tensor([72]))).norm() < found.std(0).norm()
    assert not features.residual.weight.any()


def test_what_is_trained_for_an_element_is_dropped_by_structure() -> None:
    torch.manual_seed(0)
    features = DescribedElements(8)
    torch.nn.init.normal_(features.residual.weight)
    numbers, own = torch.tensor([30, 30]), torch.tensor([[1.0], [0.0]])
    whole, shared = features(numbers, own)
    assert torch.equal(whole, features(numbers)[0])
    torch.testing.assert_close(whole - shared, features.residual.weight[30])
    batch = collate([crystal_graph(make_crystal(4), CONFIG.graph) for _ in range(400)])
    factors = element_dropout(batch).view(400, 4)
    assert (factors == factors[:, :1]).all()
    assert 0.65 < factors.mean() < 0.85


def test_dropout_happens_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = CrystalTransformer(DESCRIBED)
    for each in (encoder.element, encoder.bonds.centre, encoder.bonds.other):
        torch.nn.init.normal_(each.residual.weight)
    batch = collate([crystal_graph(make_crystal(4), CONFIG.graph) for _ in range(8)])
    assert not torch.equal(encoder(batch), encoder(batch))
    with torch.no_grad():  # frozen features, and validation
        assert torch.equal(encoder(batch), encoder(batch))
    assert torch.equal(encoder.eval()(batch), encoder(batch))


def test_unseen_elements_have_no_rows_to_set() -> None:
    assert CrystalTransformer(DESCRIBED).element_tables == []
    assert len(CrystalTransformer(CONFIG).element_tables) == 3
