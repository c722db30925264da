"""Select: from a screened table to a batch of different, promising structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from mofgap.choices import DftInput, Disorder, Goal, Warned
from mofgap.counts import counted
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formula import reduced_formula
from mofgap.crystals.graph import crystal_graph
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.gap.folder import ModelError, find_model
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.screening.origin import (
    MODEL_DIGEST,
    disorder_of,
    folders_of,
    origin_of,
    origin_path,
    preparation_of,
    write_origin,
)
from mofgap.screening.reread import NO_FILE, Key, read_again
from mofgap.screening.table import inert
from mofgap.selection.candidates import CandidateError, structures_of, with_quality, with_window
from mofgap.selection.dft import write_inputs
from mofgap.selection.diverse import Pick, choose
from mofgap.shipped import CONFIG
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import sha256_of, whole_file

SHORTLIST = 10
"""So many of the best candidates are read again and compared for each structure of the budget; where these do
not fill it, the next ones too."""

SHORTEST_LIST = 200
"""At least so many are, if there are."""

CHANGED = "the file changed since it was screened"

MAYBE_CHANGED = (
    f"{CHANGED}; or it was prepared otherwise than by default: the table has no .origin file next to it, "
    "which would say how; put it there"
)
"""Said of a table without a record."""

SAME_NOVELTY = 0.01
"""Novelty moves with every atom: by more than this, and the structure is not the one of the table."""


SHOWN = ("order", "structure_id", "gap_ev", "gap_std_ev", "p_in_window", "novelty", "gain")
MAX_SHOWN = 30
"""Rows of a selection that are printed."""


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """The selected structures.

    Attributes:
        table: A row a structure, in order: the candidate's columns, ``quality``, ``distinct`` and ``gain``.
        crystals: The structures.
        skipped: A line for each candidate that could not be read again, or whose gap is known.
    """

    table: pd.DataFrame
    crystals: tuple[Crystal, ...]
    skipped: tuple[str, ...]

    @property
    def levels(self) -> str:
        """Levels of theory of the gaps."""
        return ", ".join(sorted(set(self.table.level_of_theory.astype(str))))

    def __repr__(self) -> str:
        shown = self.table[[name for name in SHOWN if name in self.table.columns]]
        left_out = f", {counted(len(self.skipped), 'candidate')} left out" if self.skipped else ""
        words = f"{counted(len(self.table), 'structure')} for the next calculations ({self.levels}){left_out}"
        table = shown.to_string(index=False, max_rows=MAX_SHOWN, float_format=lambda x: f"{x:.3g}")
        return f"{words}\n{table}"

    def write(self, folder: Path | str, inputs: DftInput | None = None) -> list[Path]:
        """Write ``selection.csv``, and the inputs of calculations; returns the paths of the inputs.

        Args:
            folder: Where to; it is made if need be.
            inputs: ``cif``, ``poscar`` or ``vasp``, see `write_inputs`; None writes none.

        Raises:
            ValueError: If ``inputs`` is unknown, or ``folder`` holds inputs of another selection.
            OSError: If a file cannot be written.
        """
        folder = Path(folder)
        hybrid = "HSE06" in self.levels
        # First, since it refuses a folder that holds others.
        written = [] if inputs is None else write_inputs(folder, self.crystals, inputs, hybrid=hybrid)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "selection.csv"
        with whole_file(path) as partial:
            self.table.map(inert).to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
        origin_path(path).unlink(missing_ok=True)  # of an earlier selection
        if origin := origin_of(self.table):
            write_origin(path, origin)
        return written


def predictor_of(frame: pd.DataFrame, model: GapPredictor | str | None = None) -> GapPredictor:
    """The model that made a table.

    Args:
        frame: Its candidates.
        model: That model, or its name or folder; by default the one that the table names.

    Raises:
        ValueError: If the model does not exist or is damaged, or is not the model of the table: has another
            name, or another digest than the table's record.
    """
    made_by = frame.model.iloc[0]
    if isinstance(model, GapPredictor):
        predictor = model
    else:
        try:
            predictor = load_model(made_by if model is None else model, "cpu")
        except ModelError as error:
            hint = f"; give the folder of the table's model, {made_by}, as --model" if model is None else ""
            raise ModelError(f"{error}{hint}") from error
    if predictor.about.name != made_by:
        other = predictor.about.name
        raise ValueError(f"the table was made with {made_by}, not {other}; give {made_by} as --model")
    digest = origin_of(frame).get(MODEL_DIGEST)
    if digest and not isinstance(model, GapPredictor):
        folder = find_model(made_by if model is None else model)
        if sha256_of(folder / CONFIG) != digest:
            words = f"the table was made with another model of the name {made_by} than {folder} holds"
            raise ValueError(f"{words}; give that one as --model, or screen again")
    return predictor


def select_from(
    frame: pd.DataFrame,
    budget: int,
    goal: Goal,
    window: tuple[float, float] | None,
    model: GapPredictor | str | None,
    disorder: Disorder | None,
    warned: Warned = "last",
) -> Selection:
    """`select` from candidates, for another window if one is given; see `mofgap.python.select.select`.

    Raises:
        ValueError: If ``budget`` is no whole number of at least 1, or as of `predictor_of`, `with_window` and
            `select`.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer):
        raise ValueError(f"budget must be a whole number, got {budget!r}")
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}")
    predictor = predictor_of(frame, model)
    if window is not None:
        frame = with_window(frame, window, predictor.calibration)
    return select(frame, predictor, goal, budget, disorder, warned)


def select(
    frame: pd.DataFrame,
    predictor: GapPredictor,
    goal: Goal,
    budget: int,
    disorder: Disorder | None = None,
    warned: Warned = "last",
) -> Selection:
    """Select structures from candidates by `with_quality` and `choose`; none that the model was trained on.

    Structures are compared by the frozen features of the model in the whitened space of its novelty index;
    they are similar over half the median distance of a training structure to its neighbours.

    Args:
        frame: From `candidates_for`; the result does not depend on what else lay in its table.
        predictor: The model that made the table.
        goal: ``window``, ``explore`` or ``both``.
        budget: At most so many structures.
        disorder: What was done about partial occupancies; by default what the table's record says. The
            structures are prepared as the record says.
        warned: ``last`` takes structures whose file is probably faulty after all others.

    Raises:
        ValueError: If ``goal`` is unknown.
        CandidateError: If the table does not fit ``goal``, or each structure is unreadable, has changed, or
            was a training structure.
    """
    how = disorder or disorder_of(frame), folders_of(frame), preparation_of(frame)
    frame = with_quality(frame, goal, warned).reset_index(drop=True)
    order = np.argsort(-frame.quality.to_numpy(), kind="stable")
    n_short, n_copies = max(SHORTLIST * budget, SHORTEST_LIST), 1
    order = order[: max(n_short, np.count_nonzero(frame.quality))]  # nothing of quality 0 is chosen
    structure = structures_of(frame)
    crystals, features = dict[int, Crystal](), dict[int, Floats]()
    skipped, picks, done, again = list[str](), list[Pick](), set[int](), False
    while (len(picks) < budget or again) and len(order):
        short = order[pd.Series(structure[order]).groupby(structure[order]).cumcount() < n_copies][:n_short]
        found, lost = _read_again(frame.loc[np.sort(short)], *how)
        skipped += lost
        for row, crystal in found.items():
            own = _features(crystal, predictor)
            if reason := _unfit(crystal, own, predictor, frame.novelty[row]):
                skipped.append(f"{crystal.source} [{crystal.structure_id}]: {reason}")
            else:
                crystals[row], features[row] = crystal, own
            done |= {structure[row]} if reason != CHANGED else set()
        rows = sorted(crystals)
        if rows:
            points = whitened([features[row] for row in rows], predictor.novelty)
            picks = choose(frame.quality[rows].to_numpy(), points, likeness_length(predictor.novelty), budget)
        order = order[~np.isin(order, short) & ~np.isin(structure[order], list(done))]
        again = bool(np.isin(structure[short], structure[order]).any())  # a copy may replace what was lost
        n_short, n_copies = 2 * n_short, 2 * n_copies  # a table of copies is gone through in few steps
    skipped = skipped if origin_of(frame) else [line.replace(CHANGED, MAYBE_CHANGED) for line in skipped]
    if not crystals:
        raise CandidateError(f"none of the structures is left; {skipped[0]}")
    chosen = [rows[pick.index] for pick in picks]
    return Selection(_table(frame, chosen, picks), tuple(crystals[row] for row in chosen), tuple(skipped))


def _features(crystal: Crystal, predictor: GapPredictor) -> Floats:
    graph = crystal_graph(crystal, predictor.model.graph_config)
    found = predictor.model.frozen_features(graph.to(predictor.device)).cpu().numpy()[0]
    return np.asarray(found, dtype=np.float64)


def _unfit(crystal: Crystal, features: Floats, predictor: GapPredictor, tabled: float) -> str:
    """Why a structure that was read again cannot be selected; empty if it can."""
    found = predictor.novelty.score(features[None], [crystal.atomic_numbers])
    if abs(found.percentile[0] - tabled) > SAME_NOVELTY:
        return CHANGED
    # The index may have the structure, and the model not its gap: only the whole prediction tells.
    trained_on = found.in_training[0] and predictor.estimate([crystal], samples=0).in_training[0]
    return "the model was trained on it" if trained_on else ""


def whitened(features: npt.ArrayLike, index: NoveltyIndex) -> Floats:
    """Frozen features (n, d) in the whitened space of a novelty index, (n, n_dims)."""
    rows = np.asarray(features, dtype=np.float64)
    return np.asarray((rows - index.mean) @ index.projection.astype(np.float64))


def likeness_length(index: NoveltyIndex) -> float:
    """Half the median distance of a training structure to its nearest neighbours, in whitened features."""
    return max(float(np.median(index.quantiles)) / 2, 1e-6)


def _table(frame: pd.DataFrame, chosen: list[int], picks: list[Pick]) -> pd.DataFrame:
    table = frame.iloc[chosen].reset_index(drop=True)
    table = table.assign(distinct=[p.distinct for p in picks], gain=[p.gain for p in picks])
    table.insert(0, "order", range(1, len(table) + 1))
    return table


def _read_again(
    frame: pd.DataFrame, disorder: Disorder, folders: Sequence[Path], preparation: PreparationConfig
) -> tuple[dict[int, Crystal], list[str]]:
    """The crystals of a table by row, and why the others are none."""
    names = list(zip(frame.file, frame.structure_id, strict=True))
    row_of = dict(zip(names, frame.index, strict=True))
    expected = dict(zip(names, zip(frame.formula, frame.n_atoms.fillna(-1), strict=True), strict=True))
    why: dict[Key, str] = {}
    found: dict[int, Crystal] = {}
    there: set[str] = set()
    for name, entry in read_again((file for file, _ in names), disorder, folders, preparation):
        there.add(name[0])
        if name not in row_of:
            continue
        if isinstance(entry, ReadFailure):
            why[name] = entry.reason
        elif (reduced_formula(entry.atomic_numbers), entry.n_atoms) != expected[name]:
            why[name] = CHANGED
        else:
            found[row_of[name]] = entry
    lost = [name for name in names if row_of[name] not in found]
    return found, [f"{name[0]} [{name[1]}]: {why.get(name) or _why_lost(name[0], there)}" for name in lost]


def _why_lost(file: str, there: set[str]) -> str:
    if file in there:
        return "the file holds no structure of that name"
    if file in NO_FILE:
        return NO_FILE[file]
    if "\N{REPLACEMENT CHARACTER}" in file:
        return "its name has characters that no table holds; rename it and screen it again"
    return "there is no such file here; run from the folder that was screened from"
