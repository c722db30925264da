"""What every registered encoder must not depend on: how a crystal is written down, and its batch mates."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import MAX_Z
from mofgap.crystals.graph import collate, crystal_graph
from mofgap.encoders.encoder import MASKED, Encoder
from mofgap.encoders.registry import ENCODERS, build_encoder

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.fixture(scope="module", params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return build_encoder(request.param, {"n_blocks": 2, "width": 16, "n_neighbours": 8}).eval()


def made(seed: int, n_atoms: int = 7) -> Crystal:
    """Atoms near points of a grid in a skewed cell."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.unravel_index(rng.permutation(27)[:n_atoms], (3, 3, 3)), axis=1)
    cell = np.eye(3) * rng.uniform(6, 8) + rng.normal(0, 0.6, (3, 3))
    frac_coords = (grid + rng.uniform(0, 0.4, (n_atoms, 3))) / 3
    return Crystal(cell, frac_coords, rng.choice([1, 6, 7, 8, 30], n_atoms))


def perovskite() -> Crystal:
    """An oxygen has eight O and four Sr at one distance, and eight places cut them."""
    frac_coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Crystal(np.eye(3) * 3.9, frac_coords, np.array([38, 22, 8, 8, 8]))


def features(encoder: Encoder, *crystals: Crystal) -> Tensor:
    """(n_atoms, n_outputs, width) of crystals in one batch."""
    with torch.no_grad():
        return encoder(collate([crystal_graph(crystal, encoder.graph_config) for crystal in crystals]))


def moved(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """Translated, its atoms in other images of the cell, and rotated."""
    cells = rng.integers(-2, 3, crystal.frac_coords.shape)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(
        crystal,
        frac_coords=crystal.frac_coords + rng.uniform(-1, 1, 3) + cells,
        cell=crystal.cell @ rotation * np.sign(np.linalg.det(rotation)),
    )


def doubled(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The cell and its repetition along a, in an order of atoms that cuts ties differently."""
    halves = crystal.frac_coords / [2, 1, 1]
    return Crystal(
        crystal.cell * np.array([[2], [1], [1]]),
        np.vstack([halves, halves + np.array([0.5, 0, 0])]),
        np.tile(crystal.atomic_numbers, 2),
    )


def sheared(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    """The same lattice by other vectors: b becomes a + b."""
    shear = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]])
    return replace(crystal, cell=shear @ crystal.cell, frac_coords=crystal.frac_coords @ np.linalg.inv(shear))


@pytest.mark.parametrize("move", [moved, doubled, sheared])
@pytest.mark.parametrize("crystal", [made(0), made(1, 3), perovskite()], ids=["made", "few", "ties"])
def test_how_a_crystal_is_written_down_does_not_matter(
    encoder: Encoder, crystal: Crystal, move: Callable[[Crystal, np.random.Generator], Crystal]
) -> None:
    expected = features(encoder, crystal)
    other = move(crystal, np.random.default_rng(3))
    found = features(encoder, other)
    torch.testing.assert_close(found, expected.repeat(other.n_atoms // crystal.n_atoms, 1, 1), **TOLERANCE)


@pytest.mark.parametrize("crystal", [made(0), perovskite()], ids=["made", "ties"])
def test_the_order_of_atoms_does_not_matter(encoder: Encoder, crystal: Crystal) -> None:
    order = np.random.default_rng(0).permutation(crystal.n_atoms)
    other = replace(
        crystal, atomic_numbers=crystal.atomic_numbers[order], frac_coords=crystal.frac_coords[order]
    )
    torch.testing.assert_close(features(encoder, other), features(encoder, crystal)[order], **TOLERANCE)


def test_batch_mates_do_not_matter(encoder: Encoder) -> None:
    crystals = [made(0), made(1, 3), perovskite(), made(2, 11)]
    alone = torch.cat([features(encoder, crystal) for crystal in crystals])
    torch.testing.assert_close(features(encoder, *crystals), alone, **TOLERANCE)


def test_what_lies_around_an_atom_matters(encoder: Encoder) -> None:
    """Else all of the above were easy."""
    crystal = made(0)
    wider = replace(crystal, cell=crystal.cell * 1.05)
    change = (features(encoder, wider) - features(encoder, crystal)).abs().amax(dim=(0, 2))
    assert change[-1] > 1e-2


def test_features_are_smooth_in_the_distance(encoder: Encoder) -> None:
    """An atom that crosses the cutoff, or the place of the last neighbour kept, leaves no step."""

    def first(x: float) -> Tensor:
        coords = np.array([[0, 0, 0], [x, 0, 0], [0, 0.14, 0], [0, 0, 0.15]])
        return features(encoder, Crystal(np.eye(3) * 14, coords, np.array([30, 8, 6, 1])))[0]

    step = 1e-4
    for x in (2.0 / 14, 5.9999 / 14, 6.0 / 14 - step / 2):
        assert (first(x + step) - first(x)).abs().max() < 2e-3
    assert (first(0.15) - first(0.2)).abs().max() > 1e-2


def test_all_elements_and_a_masked_one_have_features(encoder: Encoder) -> None:
    lonely = Crystal(np.eye(3) * 30, np.zeros((1, 3)), np.array([1]))
    graph = crystal_graph(lonely, encoder.graph_config)
    found = [encoder(replace(graph, atomic_number=torch.tensor([z]))) for z in (MASKED, 1, MAX_Z)]
    assert all(torch.isfinite(x).all() for x in found)
    assert not torch.allclose(found[0], found[1])


def test_no_weight_has_two_names(encoder: Encoder) -> None:
    """Pretraining would fail at its end: safetensors writes none of them."""
    assert save(encoder.state_dict())


def test_adaptable_layers_work_on_atoms(encoder: Encoder) -> None:
    """BaLoRA must know which structure a row belongs to, and pairs of atoms are rows of another number."""
    (target,) = encoder.adapter_targets(encoder.config)
    layers = [module for name, module in encoder.named_modules() if re.fullmatch(target, name)]
    assert len(layers) == encoder.n_blocks * len(encoder.adaptable)
    rows: list[int] = []
    hooks = [layer.register_forward_pre_hook(lambda _, given: rows.append(len(given[0]))) for layer in layers]
    features(encoder, made(0), made(1, 3))
    for hook in hooks:
        hook.remove()
    assert rows == [10] * len(layers)


def test_the_frozen_part_is_that_of_the_whole(encoder: Encoder) -> None:
    graph = crystal_graph(made(0), encoder.graph_config)
    expected = features(encoder, made(0))
    (target,) = encoder.adapter_targets(encoder.config, [1])
    adapted = [name for name, _ in encoder.named_modules() if re.fullmatch(target, name)]
    assert len(adapted) == len(encoder.adaptable)
    try:
        encoder.freeze_below(adapted)
        frozen = encoder.run_frozen(graph)
        assert len(frozen.outputs) == encoder.n_frozen == 2
        torch.testing.assert_close(torch.stack(frozen.outputs, 1), expected[:, :2])
        torch.testing.assert_close(encoder(graph, frozen), expected)
    finally:
        encoder.freeze_below([])
    assert encoder.n_frozen == encoder.n_outputs == 3
