"""From crystals to rows of the table."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.formula import reduced_formula
from mofgap.gap.extrapolation import extrapolation_notes
from mofgap.gap.novelty_warnings import N_NEAREST, is_note
from mofgap.gap.predictor import GapPredictor, Predictions
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.reading import Reading
from mofgap.screening.row import (
    FAILED,
    NEAREST_SEPARATOR,
    PBE_COLUMNS,
    WARNING_SEPARATOR,
    Row,
    failed_row,
    printable,
    rounded,
)


def predict_readings(
    readings: Sequence[Reading], predictor: GapPredictor, config: ScreeningConfig
) -> list[tuple[Row, ...]]:
    """The rows of each reading, in order.

    On a CPU a row does not depend on what it is computed with; torch runs on one thread meanwhile, since the
    last digits of its sums depend on their number.
    """
    crystals = [entry for reading in readings for entry in reading.entries if isinstance(entry, Crystal)]
    with _one_thread():
        found = iter(_rows(crystals, predictor, config))
    return [
        tuple(
            failed_row(entry) if isinstance(entry, ReadFailure) else next(found) for entry in reading.entries
        )
        for reading in readings
    ]


def _rows(crystals: Sequence[Crystal], predictor: GapPredictor, config: ScreeningConfig) -> list[Row]:
    """Rows of several crystals. One that cannot be computed fails alone."""
    if not crystals:
        return []
    try:
        found = predictor.estimate(
            crystals,
            uncertainty=config.uncertainty,
            samples=config.samples,
            seed=config.seed,
            batch_atoms=config.batch_atoms,
        )
        for level in filter(None, (found, found.second_level)):
            if not np.isfinite(level.gap_ev + level.gap_std_ev).all():
                raise ValueError("the model gave no finite gap")
    except (ValueError, RuntimeError, MemoryError) as error:
        if len(crystals) > 1:
            return [row for crystal in crystals for row in _rows([crystal], predictor, config)]
        what = " ".join(str(error).split())[:200] or type(error).__name__
        reason = f"{FAILED}: {what}; check the structure, or give a smaller cell"
        return [failed_row(ReadFailure(c.source, c.structure_id, reason)) for c in crystals]
    return _rows_of(crystals, found, predictor, config)


def _rows_of(
    crystals: Sequence[Crystal], found: Predictions, predictor: GapPredictor, config: ScreeningConfig
) -> list[Row]:
    gap, std, novelty = found.gap_ev, found.gap_std_ev, found.novelty
    low, high = predictor.calibration.interval(gap, std, config.coverage, novelty)
    inside = np.full(len(gap), np.nan)
    ends: tuple[float | None, ...] = (None, None)
    if config.window is not None:
        inside = predictor.calibration.p_in_window(gap, std, *config.window, novelty)
        ends = tuple(end if math.isfinite(end) else None for end in config.window)
    pbe = _pbe_columns(found, predictor, config.coverage)
    of_all = (*predictor.other_spread(config.uncertainty, config.samples), *predictor.calibration_notes())
    trained_as = predictor.about.trained_as or predictor.about.name
    rows = []
    for i, crystal in enumerate(crystals):
        novel = predictor.novelty_warnings(crystal, found, i)
        nearest = found.nearest[i][:N_NEAREST]
        nearest_is_known = any(math.isfinite(predictor.novelty.gap_of(each)) for each in nearest)
        far = extrapolation_notes(trained_as, crystal, nearest_is_known=nearest_is_known)
        warnings = (*crystal.warnings, *novel, *predictor.geometry_notes(crystal), *far, *of_all)
        noted = all(map(is_note, warnings))
        rows.append(
            Row(
                rank=None,
                file=printable(crystal.source),
                structure_id=printable(crystal.structure_id),
                status="ok" if noted else "warning",
                formula=reduced_formula(crystal.atomic_numbers),
                n_atoms=crystal.n_atoms,
                gap_ev=rounded(gap[i]),
                gap_std_ev=rounded(std[i]),
                epistemic_std_ev=rounded(found.epistemic_std_ev[i]),
                aleatoric_std_ev=rounded(found.aleatoric_std_ev[i]),
                gap_lo90_ev=rounded(low[i]),
                gap_hi90_ev=rounded(high[i]),
                p_in_window=rounded(inside[i]),
                novelty=rounded(novelty[i]),
                warnings=printable(WARNING_SEPARATOR.join(warnings)),
                level_of_theory=predictor.about.level_of_theory,
                model=predictor.about.name,
                nearest=printable(NEAREST_SEPARATOR.join(map(predictor.novelty.known_as, nearest))),
                window_lo_ev=ends[0],
                window_hi_ev=ends[1],
                **pbe[i],
            )
        )
    return rows


def _pbe_columns(found: Predictions, predictor: GapPredictor, coverage: float) -> list[dict[str, Any]]:
    """The `PBE_COLUMNS` of each structure; empty for a single level."""
    other = found.second_level
    if predictor.second_level is None or other is None:
        return [{} for _ in found.gap_ev]
    gap, std = other.gap_ev, other.gap_std_ev
    ends = predictor.second_level.calibration.interval(gap, std, coverage, other.novelty)
    return [
        dict(zip(PBE_COLUMNS, map(rounded, values), strict=True))
        for values in zip(gap, std, *ends, strict=True)
    ]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
