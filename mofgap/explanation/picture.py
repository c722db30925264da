"""Picture of a structure along its shortest axis, atoms coloured by their shares."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from mofgap.crystals.bonds import COVALENT_RADII, IS_METAL, bond_graph
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of
from mofgap.explanation.files import shares
from mofgap.gap.attribution import Attribution
from mofgap.report.figure import CHARACTERS_AN_INCH, NotebookFigure
from mofgap.uncertainty.columns import Floats

_POINTS_PER_ANGSTROM = 24.0
_WIDEST_INCH = 6.0


def view(cell: Floats) -> tuple[Floats, int]:
    """The rotation (3, 3) that turns the shortest cell vector towards the viewer, and the vector's index.

    Rows are the directions right, up and towards the viewer; the next cell vector points to the right.
    """
    axis = int(np.argmin(np.linalg.norm(cell, axis=1)))
    towards = cell[axis] / np.linalg.norm(cell[axis])
    right = cell[(axis + 1) % 3] - (cell[(axis + 1) % 3] @ towards) * towards
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards]), axis


def drawn(crystal: Crystal, found: Attribution, title: str, baseline: str) -> Figure:
    """One panel for the gap, and one for the variance if the model is Bayesian.

    Args:
        crystal: The structure; one cell is drawn, atoms wrapped into it.
        found: Its attribution.
        title: The structure, and its gap with its error bar.
        baseline: The baseline of the shares, in words.
    """
    columns = shares(found)
    panels = [(columns["gap_share_ev"], "share of the gap / eV")]
    if "variance_fraction" in columns:
        panels.append((100 * columns["variance_fraction"], "share of the adapters' variance / %"))
    rotation, axis = view(crystal.cell)
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) @ _in_plane(crystal.cell, rotation, axis)
    width, height = np.ptp(corners, axis=0)
    scale = min(_WIDEST_INCH / max(width, height), _POINTS_PER_ANGSTROM / 72)
    size = (len(panels) * (scale * width + 1.6) + 0.6, scale * height + 1.9)
    figure = NotebookFigure(figsize=(max(size[0], 6.5), max(size[1], 3.9)), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (values, label) in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), place)
        _panel(figure, axes, crystal, rotation, corners, values, label, 72 * scale)
    n_characters = int(figure.get_figwidth() * CHARACTERS_AN_INCH)
    figure.suptitle(textwrap.fill(title, int(n_characters * 0.7)), fontsize=10, parse_math=False)
    words = f"One cell seen along {'abc'[axis]}; distances in Å. Gap: {baseline}."
    figure.supxlabel(textwrap.fill(words, n_characters), fontsize=8)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture as PNG."""
    figure.savefig(path, dpi=160, format="png")


def _in_plane(cell: Floats, rotation: Floats, axis: int) -> Floats:
    """(3, 2) the other two cell vectors in the plane of the picture, then zero for the third."""
    flat = cell @ rotation[:2].T
    return np.stack([flat[(axis + 1) % 3], flat[(axis + 2) % 3], np.zeros(2)])


def _panel(
    figure: Figure,
    axes: Any,
    crystal: Crystal,
    rotation: Floats,
    corners: Floats,
    values: Floats,
    label: str,
    points_per_angstrom: float,
) -> None:
    seen = (crystal.frac_coords % 1.0) @ crystal.cell @ rotation.T
    order = np.argsort(seen[:, 2], kind="stable")  # nearer atoms cover farther ones
    outline = np.vstack([corners, corners[:1]])
    axes.plot(outline[:, 0], outline[:, 1], color="0.6", linewidth=0.8, zorder=0)
    axes.add_collection(LineCollection(list(_bonds(crystal, seen)), colors="0.55", linewidths=1.2, zorder=1))
    limit = float(np.abs(values).max()) or 1.0
    radius = 0.6 * COVALENT_RADII[crystal.atomic_numbers]
    diameter = 2 * radius * points_per_angstrom
    drawn = axes.scatter(
        *seen[order, :2].T,
        s=diameter[order] ** 2,
        c=values[order],
        cmap="coolwarm",
        vmin=-limit,
        vmax=limit,
        edgecolors="0.25",
        linewidths=0.5,
        zorder=2,
    )
    for atom in order[IS_METAL[crystal.atomic_numbers[order]]]:
        apart = np.linalg.norm(seen[:, :2] - seen[atom, :2], axis=1)
        if ((apart < radius) & (seen[:, 2] > seen[atom, 2])).any():  # its symbol would be on a nearer atom
            continue
        symbol = symbol_of(crystal.atomic_numbers[atom])
        axes.annotate(symbol, seen[atom, :2], ha="center", va="center", fontsize=7, zorder=3)
    axes.set_aspect("equal")
    axes.margins(0.08)
    axes.tick_params(labelsize=7)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.colorbar(drawn, ax=axes, label=label, shrink=0.8)


def _bonds(crystal: Crystal, seen: Floats) -> Floats:
    """(n_bonds, 2, 2) ends of the lines between bonded atoms of one cell."""
    pairs = bond_graph(crystal).bonds
    pairs = pairs.take(~pairs.offsets.astype(bool).any(axis=1) & (pairs.first < pairs.second))
    return np.stack([seen[pairs.first, :2], seen[pairs.second, :2]], axis=1)
