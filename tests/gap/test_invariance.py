"""A structure's numbers must not depend on how it is written down, nor on what it is asked for with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.convert import crystal_from, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.graph import collate, crystal_graph
from mofgap.crystals.single import crystal_of
from mofgap.gap.model import GapModel
from mofgap.gap.posterior import Posterior, posterior
from mofgap.gap.predictor import load_model
from mofgap.shipped import shipped_folder

TOLERANCE_EV = 1e-4
SEEDS = st.integers(0, 2**32 - 1)


def reordered(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    order = rng.permutation(crystal.n_atoms)
    numbers, coords = crystal.atomic_numbers[order], crystal.frac_coords[order]
    return replace(crystal, atomic_numbers=numbers, frac_coords=coords)


def translated(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    cells = rng.integers(-2, 3, crystal.frac_coords.shape)
    return replace(crystal, frac_coords=crystal.frac_coords + rng.uniform(-1, 1, 3) + cells)


def rotated(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return replace(crystal, cell=crystal.cell @ rotation * np.sign(np.linalg.det(rotation)))


def doubled(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    return crystal_from(to_pymatgen(crystal) * (2, 1, 1))


def niggli(crystal: Crystal, rng: np.random.Generator) -> Crystal:
    return crystal_from(to_pymatgen(crystal).get_reduced_structure("niggli"))


MOVES: dict[str, Callable[[Crystal, np.random.Generator], Crystal]] = {
    move.__name__: move for move in (reordered, translated, rotated, doubled, niggli)
}


def alone(model: GapModel, crystal: Crystal, **how: object) -> Posterior:
    return posterior(model, crystal_graph(crystal, model.graph_config), **how)  # type: ignore[arg-type]


def assert_same(found: Posterior, expected: Posterior, row: int = 0) -> None:
    for name in ("gap_ev", "epistemic_std_ev", "aleatoric_std_ev"):
        moved, still = getattr(found, name)[row], getattr(expected, name)[0]
        assert abs(moved - still) < TOLERANCE_EV, f"{name} moved from {still} to {moved}"


@lru_cache
def smallest_examples() -> list[Crystal]:
    files = sorted(shipped_folder("examples").glob("*.cif"), key=lambda path: path.stat().st_size)
    assert len(files) >= 4
    return [crystal_of(path) for path in files[:4]]


@lru_cache
def shipped_model() -> GapModel:
    return load_model("qmof-pbe", device="cpu").model


@pytest.fixture(scope="module", params=["random", "qmof-pbe"])
def model(request: pytest.FixtureRequest, make_model: Callable[..., GapModel]) -> GapModel:
    if request.param == "qmof-pbe":
        return shipped_model()
    random: GapModel = make_model()
    return random.requires_grad_(False)


@pytest.mark.parametrize("move", MOVES)
@settings(max_examples=5)
@given(seed=SEEDS)
def test_how_a_crystal_is_written_down_does_not_matter(
    model: GapModel, make_crystal: Callable[..., Crystal], move: str, seed: int
) -> None:
    crystal = make_crystal(seed)
    expected = alone(model, crystal)
    assert expected.epistemic_std_ev[0] > 1e-3
    assert_same(alone(model, MOVES[move](crystal, np.random.default_rng(seed))), expected)


@pytest.mark.parametrize("move", MOVES)
def test_how_a_framework_is_written_down_does_not_matter(model: GapModel, move: str) -> None:
    """Real frameworks have what made-up ones have not: symmetry, and neighbours all but tied."""
    for crystal in smallest_examples():
        expected = alone(model, crystal)
        assert_same(alone(model, MOVES[move](crystal, np.random.default_rng(0))), expected)


@pytest.mark.parametrize("move", MOVES)
def test_which_of_tied_neighbours_are_kept_does_not_matter(model: GapModel, move: str) -> None:
    """An oxygen of a perovskite has eight O and four Sr at one distance, and eight places cut them."""
    coords = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    perovskite = Crystal(np.eye(3) * 3.9, coords, np.array([38, 22, 8, 8, 8]))
    expected = alone(model, perovskite)
    for seed in range(3):
        assert_same(alone(model, MOVES[move](perovskite, np.random.default_rng(seed))), expected)


@settings(max_examples=5)
@given(seed=SEEDS)
def test_batch_mates_do_not_matter(model: GapModel, make_crystal: Callable[..., Crystal], seed: int) -> None:
    crystals = [make_crystal(seed), make_crystal(seed + 1, 3), make_crystal(seed + 2, 11)]
    order = np.random.default_rng(seed).permutation(3)
    batch = collate([crystal_graph(crystals[i], model.graph_config) for i in order])
    found = posterior(model, batch)
    for row, i in enumerate(order):
        assert_same(found, alone(model, crystals[i]), row)


@pytest.mark.parametrize("move", MOVES)
def test_the_same_seed_draws_the_same_weights(
    model: GapModel, make_crystal: Callable[..., Crystal], move: str
) -> None:
    how = {"uncertainty": "weights", "samples": 4, "seed": 11}
    for crystal in (make_crystal(3), smallest_examples()[0]):
        expected = alone(model, crystal, **how)
        assert expected.epistemic_std_ev[0] > 1e-4
        assert_same(alone(model, MOVES[move](crystal, np.random.default_rng(1)), **how), expected)
        other = alone(model, crystal, **how | {"seed": 12})
        assert abs(other.gap_ev[0] - expected.gap_ev[0]) > 1e-6


def test_the_same_seed_draws_the_same_weights_in_any_company(
    model: GapModel, make_crystal: Callable[..., Crystal]
) -> None:
    crystals = [make_crystal(3), make_crystal(4, 3), make_crystal(5, 11)]
    for order in ([0, 1, 2], [2, 0], [1, 2, 0]):
        batch = collate([crystal_graph(crystals[i], model.graph_config) for i in order])
        found = posterior(model, batch, uncertainty="weights", samples=4, seed=11)
        for row, i in enumerate(order):
            expected = alone(model, crystals[i], uncertainty="weights", samples=4, seed=11)
            assert_same(found, expected, row)
