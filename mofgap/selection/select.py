"""Select: from a screened table to a batch of different, promising structures."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mofgap.crystals.cif import ReadFailure
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.disorder import Disorder
from mofgap.crystals.graph import crystal_graph
from mofgap.crystals.inputs import InputItem, expand_inputs, is_file, read_input
from mofgap.gap.predictor import GapPredictor
from mofgap.screening.prediction import reduced_formula
from mofgap.screening.row import printable
from mofgap.selection.candidates import CandidateError, Goal, quality
from mofgap.selection.diverse import Pick, choose
from mofgap.uncertainty.novelty import NoveltyIndex

Floats = npt.NDArray[np.float64]

SHORTLIST = 10
"""So many of the best candidates are read again and compared for each structure of the budget."""

SHORTEST_LIST = 200
"""At least so many are, if there are."""


@dataclass(frozen=True, eq=False)
class Selection:
    """What was selected.

    Attributes:
        table: A row a structure, in order: the candidate's columns, ``quality``, ``distinct`` and ``gain``.
        crystals: The structures.
        skipped: A line for each candidate that could not be read again.
    """

    table: pd.DataFrame
    crystals: tuple[Crystal, ...]
    skipped: tuple[str, ...]


def select(
    frame: pd.DataFrame, predictor: GapPredictor, goal: Goal, budget: int, disorder: Disorder = "refuse"
) -> Selection:
    """Select structures from candidates by `quality` and `choose`.

    Structures are compared by the frozen features of the model in the whitened space of its novelty index;
    they are alike over half the median distance of a training structure to its neighbours.

    Args:
        frame: From `read_candidates`; the result does not depend on what else lay in its table.
        predictor: The model that made the table.
        goal: ``window``, ``explore`` or ``both``.
        budget: At most so many structures.
        disorder: How the table's structures were read.

    Raises:
        CandidateError: None of the structures can be read again.
    """
    worth = quality(frame, goal)
    n_short = max(SHORTLIST * budget, SHORTEST_LIST)
    best = np.sort(np.argsort(-worth, kind="stable")[:n_short])
    short = frame.iloc[best].assign(quality=worth[best]).reset_index(drop=True)
    crystals, skipped = _read_again(short, disorder)
    if not crystals:
        raise CandidateError(f"none of the structures can be read again; {skipped[0]}")
    rows = sorted(crystals)
    graphs = (crystal_graph(crystals[row], predictor.model.graph_config) for row in rows)
    features = [
        predictor.model.frozen_features(graph.to(predictor.device)).cpu().numpy()[0] for graph in graphs
    ]
    points = whitened(np.stack(features), predictor.novelty)
    picks = choose(short.quality.to_numpy()[rows], points, likeness_length(predictor.novelty), budget)
    return Selection(_table(short, rows, picks), tuple(crystals[rows[p.index]] for p in picks), skipped)


def whitened(features: npt.ArrayLike, index: NoveltyIndex) -> Floats:
    """Frozen features (n, d) in the whitened space of a novelty index, (n, n_dims)."""
    rows = np.asarray(features, dtype=np.float64)
    return np.asarray((rows - index.mean) @ index.projection.astype(np.float64))


def likeness_length(index: NoveltyIndex) -> float:
    """Half the median distance of a training structure to its nearest neighbours, in whitened features."""
    return max(float(np.median(index.quantiles)) / 2, 1e-6)


def _table(short: pd.DataFrame, rows: list[int], picks: list[Pick]) -> pd.DataFrame:
    chosen = short.iloc[[rows[pick.index] for pick in picks]].reset_index(drop=True)
    chosen = chosen.assign(distinct=[p.distinct for p in picks], gain=[p.gain for p in picks])
    chosen.insert(0, "order", range(1, len(chosen) + 1))
    return chosen.drop(columns=["rank", "reason"], errors="ignore")


def _read_again(frame: pd.DataFrame, disorder: Disorder) -> tuple[dict[int, Crystal], tuple[str, ...]]:
    """The crystals of a table by row, and why the others are none."""
    names = list(zip(frame.file.astype(str), frame.structure_id.astype(str), strict=True))
    row_of = {name: row for row, name in enumerate(names)}
    why = {
        name: "its name has characters that no table holds; rename it and screen it again"
        if "\N{REPLACEMENT CHARACTER}" in name[0]
        else "there is no such file here; run from the folder that was screened from"
        for name in names
    }
    expected = list(zip(frame.formula, frame.n_atoms, strict=True))
    found: dict[int, Crystal] = {}
    for item in _locate({file for file, _ in names}):
        # The rows passed a limit already, which counts atoms that the reader then merges or leaves out.
        for entry in read_input(item, disorder=disorder, max_atoms=sys.maxsize):
            name = printable(item.source), printable(entry.structure_id)
            if name not in row_of:
                continue
            if isinstance(entry, ReadFailure):
                why[name] = entry.reason
            elif (reduced_formula(entry.atomic_numbers), entry.n_atoms) != expected[row_of[name]]:
                why[name] = "the file changed since it was screened"
            else:
                found[row_of[name]] = entry
    lost = [name for row, name in enumerate(names) if row not in found]
    return found, tuple(f"{name[0]} [{name[1]}]: {why[name]}" for name in lost)


def _locate(names: set[str]) -> Iterator[InputItem]:
    """The inputs of these names, plain files first, each archive opened once."""
    archives: dict[str, set[str]] = {}
    for name in sorted(names):
        if is_file(name):
            yield InputItem(name, name)
        elif archive := _archive_of(name):
            archives.setdefault(archive, set()).add(name)
    for archive, members in archives.items():
        for item in expand_inputs([archive]):
            if isinstance(item, InputItem) and printable(item.source) in members:
                yield item


def _archive_of(name: str) -> str | None:
    """The archive of ``archive.zip:member``; None where there is none."""
    heads = (name[:place] for place, character in enumerate(name) if character == ":")
    return next((head for head in heads if is_file(head)), None)
