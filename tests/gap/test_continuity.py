"""A gap and its error bars have no step: where atoms move by less, they change by less."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.distinct import TOLERANCE_ANGSTROM
from mofgap.crystals.single import crystal_of
from mofgap.gap.head import SOFTNESS
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.shipped import shipped_folder

EXAMPLES = ("MOF-74-Mg_VOGTIV", "MIL-47-V_IXODUV", "SIFSIX-3-Zn_FUDQIF", "ZIF-8_OFERUN", "Li2-BDC_MOTMAK")
NEAREST_ANGSTROM, FARTHEST_ANGSTROM, N_STEPS, N_HALVINGS = 0.001, 0.005, 16, 10
LARGEST_STEP_EV = 1e-4
LARGEST_JOIN_EV = 0.003

Values = NDArray[np.float64]


@lru_cache
def predictor(name: str) -> GapPredictor:
    found = load_model(name, device="cpu")
    found.model.config = replace(found.model.config, correction_softness=SOFTNESS)
    return found


def largest_step(at: Callable[[float], Values], nearest: float, farthest: float) -> Values:
    """How much each value of a path changes within ever smaller parts of it, where it changes most.

    What is left after many halvings is a step: the change of a smooth value halves with each of them.
    """
    places = np.linspace(nearest, farthest, N_STEPS + 1)
    values = np.array([at(place) for place in places])
    left = []
    for k in range(values.shape[1]):
        bends = np.abs(np.diff(values[:, k]) - np.median(np.diff(values[:, k])))
        i = int(bends.argmax())
        ends = [(places[i], values[i, k]), (places[i + 1], values[i + 1, k])]
        for _ in range(N_HALVINGS):
            middle = (ends[0][0] + ends[1][0]) / 2
            between = (middle, at(middle)[k])
            halves = (ends[0], between), (between, ends[1])
            ends = list(max(halves, key=lambda half: abs(half[1][1] - half[0][1])))
        left.append(abs(ends[1][1] - ends[0][1]))
    return np.array(left)


def predicted(crystal: Crystal, angstrom: float, model: str = "qmof-pbe") -> Values:
    """Gap and its standard deviation, eV, with each atom moved so far, in the same direction each time."""
    direction = np.random.default_rng(0).standard_normal((crystal.n_atoms, 3)) @ np.linalg.inv(crystal.cell)
    moved: Crystal = replace(crystal, frac_coords=crystal.frac_coords + angstrom * direction)
    found = predictor(model).estimate([moved])
    return np.concatenate([found.gap_ev, found.gap_std_ev])


def test_a_step_is_told_from_a_slope() -> None:
    found = largest_step(lambda x: np.array([np.sin(x), np.sin(x) + 0.1 * (x > 0.7)]), 0.0, 1.0)
    assert found[0] < 1e-3
    assert found[1] == pytest.approx(0.1, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "model"), [*((name, "qmof-pbe") for name in EXAMPLES), (EXAMPLES[0], "qmof-hse06")]
)
def test_gap_and_error_bar_have_no_step(name: str, model: str) -> None:
    """Nearer to symmetry than this path goes, atoms join: see the next test."""
    crystal = crystal_of(shipped_folder("examples") / f"{name}.cif")
    step = largest_step(
        lambda angstrom: predicted(crystal, angstrom, model), NEAREST_ANGSTROM, FARTHEST_ANGSTROM
    )
    assert (step < LARGEST_STEP_EV).all()


@pytest.mark.parametrize("model", ["qmof-pbe", "qmof-hse06"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_a_gap_moves_little_where_atoms_join(name: str, model: str) -> None:
    crystal = crystal_of(shipped_folder("examples") / f"{name}.cif")
    step = largest_step(lambda angstrom: predicted(crystal, angstrom, model), 0.0, TOLERANCE_ANGSTROM)
    assert (step < LARGEST_JOIN_EV).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_gap_moves_within_its_error_bar(name: str) -> None:
    """X-ray diffraction places atoms to about 0.01 angstrom."""
    crystal = crystal_of(shipped_folder("examples") / f"{name}.cif")
    shift = np.random.default_rng(1).normal(0, 0.01, (crystal.n_atoms, 3)) @ np.linalg.inv(crystal.cell)
    found = predictor("qmof-pbe").estimate(
        [crystal, replace(crystal, frac_coords=crystal.frac_coords + shift)]
    )
    assert abs(found.gap_ev[1] - found.gap_ev[0]) < found.gap_std_ev.min()
