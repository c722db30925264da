"""Candidates: the rows of a screened table, and the worth of computing each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.choices import Goal, Warned, check_choice
from mofgap.crystals.checks import FAULTS, UNBALANCED
from mofgap.crystals.formats import base_of, without_ending
from mofgap.datasets.label_table import read_label_table
from mofgap.gap.novelty_warnings import UNCALIBRATED
from mofgap.screening.row import DECIMALS, warnings_of
from mofgap.screening.table import lacking, read_table, windows_of, with_names
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.columns import Floats
from mofgap.uncertainty.unbalanced import UNBALANCED_STD

GOALS: tuple[Goal, ...] = get_args(Goal)

NEEDED = (
    "file",
    "structure_id",
    "status",
    "formula",
    "n_atoms",
    "gap_ev",
    "gap_std_ev",
    "novelty",
    "model",
    "level_of_theory",
)

SELECTED = ("order", "quality", "distinct", "gain")
"""Columns that a selection has more than its candidates; it may be selected from again."""


LAST = 1e-9
"""Factor of the quality of structures that come last: below that of any other, whatever is like it."""


SAME_GAP_EV = 0.01
"""Gaps of one structure on other processors differ by less."""


SAME = ("formula", "gap_ev", "gap_std_ev", "epistemic_std_ev", "aleatoric_std_ev", "novelty", "nearest")
"""Rows that agree in these to the last digit are copies of one structure."""


class CandidateError(ValueError):
    """A table that nothing can be selected from, and why."""


def read_candidates(path: Path) -> pd.DataFrame:
    """The rows of a table of ``mofgap screen`` that have a gap, in the order of file and structure id.

    Args:
        path: ``.csv``, ``.parquet``, ``.json`` or ``.xlsx``.

    Raises:
        ScreeningTableError: If the file ``path`` does not exist, or is not a table of ``mofgap screen``.
        CandidateError: As `candidates_of`.
        OSError: If the file ``path`` cannot be read.
    """
    return candidates_of(read_table(path), str(path))


def candidates_for(
    table: pd.DataFrame | Path,
    goal: Goal,
    window: tuple[float, float] | None,
    warned: Warned,
    without: Path | None = None,
) -> pd.DataFrame:
    """The candidates of a table or its file that may be selected.

    Those that have a warning are left out if ``warned`` is ``drop``, and those that a table of labels or an
    earlier selection ``without`` names.

    Raises:
        ScreeningTableError: If the file ``table`` does not exist, or is not a table of ``mofgap screen``.
        DatasetError: If ``without`` cannot be read, or names no structures.
        CandidateError: If nothing can be selected from the table, or ``goal`` needs a window, ``window`` is
            None and the table does not have just one.
        ValueError: If ``goal`` or ``warned`` is unknown.
        OSError: If the file ``table`` cannot be read.
    """
    check_choice("warnings", warned, get_args(Warned))
    frame = candidates_of(table) if isinstance(table, pd.DataFrame) else read_candidates(table)
    if without is not None:
        frame = without_named(frame, without)
    if warned == "drop":
        frame = without_warnings(frame)
    if window is None:
        quality(frame, goal)
    return frame


def candidates_of(frame: pd.DataFrame, name: str = "the table") -> pd.DataFrame:
    """The rows of a table that have a gap, in the order of file and structure id.

    Args:
        frame: A table of ``mofgap screen``.
        name: What to call it.

    Raises:
        CandidateError: If the table lacks a needed column, has rows of several models or of none, or has no
            row with a gap.
    """
    attrs = frame.attrs
    frame = pd.DataFrame(frame).drop(columns=list(SELECTED), errors="ignore").reset_index(drop=True)
    frame.attrs = attrs  # a new frame has none
    if lacks := lacking(frame, NEEDED):
        raise CandidateError(f"{name}: {lacks}")
    frame = with_names(frame)
    has_gap = (frame.status != "failed") & frame.gap_ev.notna() & frame.gap_std_ev.notna()
    # A structure that was screened twice is one candidate.
    own = frame.loc[has_gap, ["file", "structure_id", "gap_ev", "formula"]]
    same = own.groupby(["file", "structure_id"])
    differ = (same.gap_ev.max() - same.gap_ev.min() > SAME_GAP_EV) | (same.formula.nunique() > 1)
    twice = differ.index[differ]
    names = own[["file", "structure_id"]].drop_duplicates()
    frame = frame.loc[names.sort_values(["file", "structure_id"], kind="stable").index]
    if frame.empty:
        raise CandidateError(
            f"{name}: no row has a gap and a standard deviation; see the column reason, or screen again"
        )
    made_by = sorted(set(frame.model.astype("object").fillna("").astype("str")))
    if "" in made_by:
        raise CandidateError(f"{name}: a row with a gap has no model; name the one that made the table there")
    if len(made_by) > 1:
        raise CandidateError(f"{name}: rows of several models ({', '.join(made_by)}); give those of one")
    if len(twice):
        what = f"{twice[0][0]} [{twice[0][1]}] has rows with different gaps"
        raise CandidateError(f"{name}: {what}; give the table of one screening")
    if "p_in_window" not in frame.columns:
        frame = frame.assign(p_in_window=np.nan)
    return frame.reset_index(drop=True)


def without_named(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The candidates that a table of labels, or an earlier selection, does not name; no copies of these.

    Raises:
        CandidateError: If ``path`` names each candidate, or none.
        DatasetError: If the file ``path`` cannot be read, or has no column of names.
    """
    known = read_label_table(path, None, {})
    short = {without_ending(base_of(name)) for name in known.rows}  # also of files of several folders
    named = [known.find(name) in known.rows or without_ending(name) in short for name in frame.structure_id]
    structure = structures_of(frame)
    kept = frame[~np.isin(structure, structure[named])].reset_index(drop=True)
    if not any(named) or kept.empty:
        what = "each candidate: screen others" if any(named) else "none of the candidates: check its names"
        raise CandidateError(f"{path} names {what}")
    return kept


def structures_of(frame: pd.DataFrame) -> NDArray[np.int64]:
    """(n,) numbers of the structures of the candidates; copies of one have the same."""
    found = frame.groupby([name for name in SAME if name in frame], dropna=False).ngroup()
    return np.asarray(found, dtype=np.int64)


def without_warnings(frame: pd.DataFrame) -> pd.DataFrame:
    """The candidates that have no warning; notes are none.

    Raises:
        CandidateError: If every candidate has a warning.
    """
    kept = frame[frame.status == "ok"].reset_index(drop=True)
    if kept.empty:
        raise CandidateError("each row has a warning: see the column warnings, or --warnings keep")
    return kept


def with_window(frame: pd.DataFrame, window: tuple[float, float], calibration: Calibration) -> pd.DataFrame:
    """The candidates with their probability to lie in a window, eV, in the digits of a table.

    Raises:
        ValueError: If the lower end of ``window`` is above its upper end.
    """
    gap, std, novelty = (
        frame[name].to_numpy(dtype=np.float64) for name in ("gap_ev", "gap_std_ev", "novelty")
    )
    low, high = (end if np.isfinite(end) else np.nan for end in window)
    inside = np.round(calibration.p_in_window(gap, std, *window, novelty), DECIMALS)
    return frame.assign(p_in_window=inside, window_lo_ev=low, window_hi_ev=high)


def quality(frame: pd.DataFrame, goal: Goal) -> Floats:
    """The value of each candidate by itself, 0 to 1, shape (n,).

    ``window``: the probability to lie in the window. It is the expected number of hits of one calculation,
    and the greedy policy of active search (Garnett et al., arXiv 1206.6406). ``explore``: std over the
    largest std, times (1 + novelty) / 2, since a spread is less reliable far from the structures of its
    calibration. What charges that do not add up bring to the std does not count. ``both``: the geometric mean
    of the two.

    Raises:
        ValueError: If ``goal`` is unknown.
        CandidateError: If the goal needs one window and the table has none or several, or no gap can lie in
            the window.
    """
    check_choice("goal", goal, GOALS)
    inside = frame.p_in_window.to_numpy(dtype=np.float64)
    if goal != "explore":
        if not np.isfinite(inside).all():
            raise CandidateError(
                f"the goal {goal!r} needs a window: give --window LO HI, or --goal explore, which needs none"
            )
        if len(windows_of(frame)) > 1:
            raise CandidateError("the table was screened for several windows; choose one: --window LO HI")
        if not inside.any():
            raise CandidateError("no structure has any chance of a gap in the window; widen it with --window")
    std = _own_std(frame)
    novelty = np.nan_to_num(frame.novelty.to_numpy(dtype=np.float64), nan=1.0)
    unknown = std / max(float(std.max()), 1e-12) * (1 + novelty) / 2
    qualities: dict[Goal, Floats] = {"window": inside, "explore": unknown, "both": np.sqrt(inside * unknown)}
    return qualities[goal]


def with_quality(frame: pd.DataFrame, goal: Goal, warned: Warned) -> pd.DataFrame:
    """The candidates with a column ``quality``, see `quality`.

    With ``last``, that of structures with a warning of `FAULTS` is multiplied by `LAST`.

    Raises:
        ValueError: If ``goal`` is unknown.
        CandidateError: If the table does not fit ``goal``.
    """
    worth = quality(frame, goal)
    if warned == "last" and "warnings" in frame.columns:
        faulty = _has_warnings(frame, lambda names: bool(FAULTS & names))
        worth = np.where(faulty, LAST * worth, worth)
    return frame.assign(quality=worth)


def _own_std(frame: pd.DataFrame) -> Floats:
    """(n,) standard deviations in eV without what charges that do not add up have added to them.

    That speaks of a faulty file, whose calculation teaches nothing. At least the aleatoric part is left. The
    median of others stands for one that the largest standard deviation leaves no room for.
    """
    std, gap = (frame[name].to_numpy(dtype=np.float64) for name in ("gap_std_ev", "gap_ev"))
    if not {"warnings", "aleatoric_std_ev"} <= set(frame.columns):
        return std
    widened = _has_warnings(frame, lambda names: bool(UNBALANCED & names) and UNCALIBRATED not in names)
    least = np.nan_to_num(frame.aleatoric_std_ev.to_numpy(dtype=np.float64))
    own = np.sqrt(np.maximum(std**2 - np.square(UNBALANCED_STD * gap), least**2))
    own = np.where(widened, own, std)
    is_cut = widened & (UNBALANCED_STD * gap >= std)
    return own if is_cut.all() else np.where(is_cut, np.median(own[~is_cut]), own)


def _has_warnings(frame: pd.DataFrame, wanted: Callable[[set[str]], bool]) -> NDArray[np.bool_]:
    """(n,) whether the names of a candidate's warnings are as wanted; each different text is read once."""
    place, texts = pd.factorize(frame.warnings, use_na_sentinel=False)
    found = [wanted({name for name, _ in warnings_of(text)}) for text in texts]
    return np.array(found, dtype=np.bool_)[place]
