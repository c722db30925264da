"""The stages of a run as a picture: what needs what, and what is still to do."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mofgap.study.engine.folder import RunError
from mofgap.study.engine.stage import Stage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".svg", ".png", ".pdf", ".dot")
TO_DO, DONE = "#c44e52", "#55a868"
_INCHES_A_COLUMN, _INCHES_A_ROW = 2.6, 0.32


def draw(stages: Sequence[Stage], to_do: Collection[str], path: Path) -> None:
    """Write the picture.

    Args:
        stages: In order.
        to_do: Names of those that have to run.
        path: ``.svg``, ``.png``, ``.pdf``, or ``.dot`` for Graphviz.

    Raises:
        RunError: The format is unknown.
    """
    if path.suffix not in FORMATS:
        raise RunError(f"{path}: expected {', '.join(FORMATS)}")
    if path.suffix == ".dot":
        path.write_text(as_dot(stages, to_do), encoding="utf-8")
        return
    figure = as_figure(stages, to_do)
    figure.savefig(path, bbox_inches="tight")


def as_dot(stages: Sequence[Stage], to_do: Collection[str]) -> str:
    """The picture for Graphviz."""
    lines = ["digraph run {", "  rankdir=LR; node [shape=box, style=filled, fontcolor=white];"]
    for stage in stages:
        lines.append(f'  "{stage.name}" [fillcolor="{TO_DO if stage.name in to_do else DONE}"];')
        lines += [f'  "{before}" -> "{stage.name}";' for before in stage.after]
    return "\n".join([*lines, "}"]) + "\n"


def columns(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Stages by how many come one after the other before them."""
    depth: dict[str, int] = {}
    for stage in stages:
        depth[stage.name] = 1 + max((depth[before] for before in stage.after), default=-1)
    return [[s for s in stages if depth[s.name] == d] for d in range(max(depth.values()) + 1)]


def as_figure(stages: Sequence[Stage], to_do: Collection[str]) -> Figure:
    """The picture: time goes from left to right, each stage joined to those it needs."""
    from matplotlib.figure import Figure

    placed = columns(stages)
    height = max(map(len, placed))
    figure = Figure(figsize=(_INCHES_A_COLUMN * len(placed), _INCHES_A_ROW * height + 0.8))
    axes = figure.add_subplot()
    at = {
        stage.name: (x, (height - len(column)) / 2 + y)
        for x, column in enumerate(placed)
        for y, stage in enumerate(column)
    }
    for stage in stages:
        for before in stage.after:
            (x0, y0), (x1, y1) = at[before], at[stage.name]
            axes.plot([x0, x1], [y0, y1], color="#bbbbbb", linewidth=0.6, zorder=1)
    for name, (x, y) in at.items():
        box = {"boxstyle": "round", "facecolor": TO_DO if name in to_do else DONE, "edgecolor": "none"}
        axes.text(x, y, name, ha="center", va="center", color="white", fontsize=7, bbox=box, zorder=2)
    n_to_do = sum(stage.name in to_do for stage in stages)
    axes.set_title(f"{len(stages)} stages, {n_to_do} to do (red)", fontsize=9)
    axes.set(xlim=(-0.6, len(placed) - 0.4), ylim=(height, -1))
    axes.axis("off")
    return figure
