"""The Python side of ``mofgap select``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args
from warnings import warn

import pandas as pd

from mofgap.choices import Disorder, Goal, Warned, check_choice
from mofgap.gap.predictor import GapPredictor
from mofgap.python.given import given_model
from mofgap.screening.config import ScreeningConfig
from mofgap.selection.candidates import candidates_for
from mofgap.selection.select import Selection, select_from

if TYPE_CHECKING:
    from mofgap.python.regressor import GapRegressor


def select(
    table: pd.DataFrame | str | Path,
    budget: int = 20,
    goal: Goal = "both",
    window: tuple[float, float] | None = None,
    *,
    model: GapPredictor | GapRegressor | str | None = None,
    warnings: Warned = "last",
    without: str | Path | None = None,
    disorder: Disorder | None = None,
) -> Selection:
    """Select different, promising structures for the next DFT calculations: ``mofgap select`` in Python.

    >>> chosen = mofgap.select(mofgap.screen("structures/*.cif", window=(1.8, 3.0)), budget=10)
    >>> chosen.table[["structure_id", "gap_ev", "p_in_window", "gain"]]

    Args:
        table: What `mofgap.screen` returned, or the file that ``mofgap screen`` wrote. Its files are read
            again.
        budget: At most so many structures.
        goal: ``window`` finds gaps in the window, ``explore`` goes where the model knows least, ``both`` does
            both.
        window: Its ends, eV; by default the table's own.
        model: The model that made the table, to tell how unlike the structures are: its name or folder,
            or a fitted `GapRegressor`. Needed for one that is not shipped.
        warnings: Structures whose file is probably faulty come ``last``, after all others. ``keep`` treats
            them like others, ``drop`` leaves out all structures with a warning. A note is no warning.
        without: A table of labels, or an earlier ``selection.csv``: structures that it names are left out.
        disorder: What was done about partial occupancies; by default what the table's record says.

    Returns:
        The selection: its ``table``, its ``crystals``, and ``write()`` for the inputs of calculations.

    Raises:
        CandidateError: If the table does not fit ``goal``, or none of its structures can be selected.
        ScreeningTableError: If the file ``table`` does not exist or is no table of ``mofgap screen``.
        DatasetError: If the file ``without`` does not exist or has no column of names.
        ModelError: If the model does not exist or is damaged.
        sklearn.exceptions.NotFittedError: If the model is a `GapRegressor` without a `fit`.
        ValueError: If ``budget`` is no whole number of at least 1, ``window`` is not a valid window,
            ``goal``, ``warnings`` or ``disorder`` is unknown, or ``model`` is not the model of the table.
    """
    if window is not None:
        window = ScreeningConfig(window=window).window
    if disorder is not None:
        check_choice("disorder", disorder, get_args(Disorder))
    source = table if isinstance(table, pd.DataFrame) else Path(table)
    known = None if without is None else Path(without)
    frame = candidates_for(source, goal, window, warnings, known)
    found = select_from(frame, budget, goal, window, given_model(model), disorder, warnings)
    if found.skipped:
        warn(f"{len(found.skipped)} left out, such as {found.skipped[0]}", stacklevel=2)
    return found
