"""Descriptors of the elements, and which elements are similar.

The table ``elements.csv`` has properties that are known of every element up to Z = 100.
``benchmarks/element_table.py`` made it and names its sources.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mofgap.crystals.bonds import IS_METAL
from mofgap.crystals.elements import MAX_Z
from mofgap.uncertainty.columns import Floats

TABLE = Path(__file__).with_name("elements.csv")
BLOCKS = "spdf"
LOGARITHMIC = ("polarizability_au",)

OXIDATION_WEIGHT = 3.0
"""Weight of oxidation states against the other descriptors, in the distance between elements. The weight,
the open d shells of ions and the shares of `similar_elements` were chosen by the errors of ``python -m
benchmarks.withheld_metals`` (with and without ``--leave-out qmof-pbe``). Copies of the nearest row, means
of two to five, ridge and kernel regression did worse."""

N_SIMILAR = 8
"""Largest number of elements that one is replaced by."""

DECAY = 0.5
"""Their shares fall to 1/e over this part of the smallest distance. So a very similar element, such as Zr for
Hf, has nearly the whole share."""


@cache
def _columns() -> dict[str, Floats]:
    """Columns of the table by name, (MAX_Z,) each; each block (s, p, d, f) is a column of zeros and ones."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["atomic_number"]) for row in rows] == list(range(1, MAX_Z + 1))
    columns = {f"block_{kind}": np.array([float(row["block"] == kind) for row in rows]) for kind in BLOCKS}
    names = [name for name in rows[0] if name not in ("atomic_number", "symbol", "block")]
    columns |= {name: np.array([float(row[name]) for row in rows]) for name in names}
    return columns | {name: np.log(columns[name]) for name in LOGARITHMIC}


@cache
def descriptors() -> NDArray[np.float32]:
    """Descriptors of the elements, (MAX_Z + 1, n_descriptors), each of mean 0 and standard deviation 1.

    The row of atomic number 0, a masked element, is zero.
    """
    values = np.stack(list(_columns().values()), axis=1)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    return np.concatenate([np.zeros((1, values.shape[1])), values]).astype(np.float32)


@cache
def _coordinates() -> Floats:
    """(MAX_Z + 1, n) coordinates of the elements; similar elements have a small distance."""
    columns = _columns()
    outer = sum(columns[f"{kind}_electrons"] for kind in BLOCKS)
    left = outer - columns["lowest_oxidation_state"]
    # Electrons or holes in the d shell of the ion, and once more for 3d metals, whose shells stay open.
    open_d = np.where(columns["block_d"] > 0, np.clip(np.minimum(left, 10 - left), 0, None), 0.0)
    shells = np.stack([open_d, open_d * (columns["period"] == 4)], axis=1)
    shells = (shells - shells.mean(axis=0)) / shells.std(axis=0)
    weight = [OXIDATION_WEIGHT if "oxidation" in name else 1.0 for name in columns]
    weighted: Floats = descriptors() * np.array(weight)
    return np.concatenate([weighted, np.concatenate([np.zeros((1, 2)), shells])], axis=1)


def distances(atomic_number: int, others: Iterable[int]) -> dict[int, float]:
    """Distances of an element from others, in standard deviations of descriptors.

    Args:
        atomic_number: The element, 1 to `MAX_Z`.
        others: Atomic numbers of others.
    """
    points = _coordinates()
    return {z: float(np.linalg.norm(points[z] - points[atomic_number])) for z in others}


def similar_elements(atomic_number: int, among: Iterable[int]) -> dict[int, float]:
    """The most similar elements: metals for a metal, others for others.

    Args:
        atomic_number: The element, 1 to `MAX_Z`.
        among: Atomic numbers to choose from; the element itself is left out.

    Returns:
        Atomic numbers with shares that add up to one, the most similar first; at most `N_SIMILAR`.
    """
    metal = IS_METAL[atomic_number]
    distance = distances(atomic_number, (z for z in among if z != atomic_number and IS_METAL[z] == metal))
    nearest = sorted(distance, key=distance.__getitem__)[:N_SIMILAR]
    scale = DECAY * distance[nearest[0]] if nearest else 1.0
    weight = {z: float(np.exp((distance[nearest[0]] - distance[z]) / scale)) for z in nearest}
    return {z: weight[z] / sum(weight.values()) for z in nearest}
