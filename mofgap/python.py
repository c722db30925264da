"""The Python side of ``mofgap screen``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from mofgap.crystals.cif import MAX_ATOMS, ReadFailure
from mofgap.crystals.convert import crystal_from, is_one
from mofgap.crystals.disorder import Disorder
from mofgap.crystals.inputs import expand_inputs
from mofgap.gap.posterior import Uncertainty
from mofgap.gap.predictor import BATCH_ATOMS, GapPredictor, load_model
from mofgap.report.notebook import Screening
from mofgap.screening.levels import Level, models_of
from mofgap.screening.rank import Novel, RankBy, rank_rows, ranking
from mofgap.screening.reading import Source
from mofgap.screening.row import DEFAULT_COVERAGE, Row
from mofgap.screening.screen import stream_rows
from mofgap.screening.settings import Settings
from mofgap.screening.table import to_frame


def screen(
    structures: Any,
    window: tuple[float, float] | None = None,
    *,
    model: str | Path | GapPredictor | None = None,
    level: Level | None = None,
    rank_by: RankBy | None = None,
    top: int | None = None,
    uncertainty: Uncertainty = "auto",
    samples: int = 32,
    seed: int = 0,
    batch_atoms: int = BATCH_ATOMS,
    workers: int = 1,
    device: str = "auto",
    max_atoms: int = MAX_ATOMS,
    disorder: Disorder = "refuse",
    coverage: float = DEFAULT_COVERAGE,
    novel: Novel = "keep",
    progress: bool | None = None,
) -> Screening:
    """Predict and rank structures: ``mofgap screen`` in Python.

    Args:
        structures: One or many of: path of a CIF, folder, glob pattern, archive, ``@list.txt``, pymatgen
            ``Structure``, ASE ``Atoms``, `Crystal`.
        window: Ends of the gap window, eV; an infinite end is open.
        model: Name of a shipped model, a model folder, or a loaded model; by default ``qmof-pbe``.
        level: Instead of a model the shipped one of ``pbe`` or ``hse06``, or ``both``: that of HSE06, and the
            prediction for PBE beside it in columns of its own.
        rank_by: ``window``, ``low``, ``high`` or ``std``; by default ``window`` where there is one, else
            ``low``.
        top: Keep this many of the ranked rows; failures stay.
        uncertainty: Where the epistemic part of the spread comes from: ``distance`` from the nearest training
            structure, ``closed-form`` of the posterior, or draws of ``weights`` or ``rows``. ``auto`` is the
            one that intervals are fitted to.
        samples: Draws of ``weights`` and ``rows``; 0 gives the mean alone.
        seed: Of the draws.
        batch_atoms: Atoms of a batch on a GPU.
        workers: Processes that read, and on a CPU predict.
        device: ``auto``, ``cpu`` or ``cuda``; a loaded model stays where it is.
        max_atoms: Largest cell that is accepted.
        disorder: ``refuse`` or ``majority``.
        coverage: Of the intervals, 0.5 to 0.99; names their columns.
        novel: Structures unlike all of training: ``keep``, ``last`` or ``drop``.
        progress: Show a bar while it works; by default in a notebook.

    Returns:
        A DataFrame with a row for each structure and each failure, and the columns of `Row` (those that begin
        with ``pbe_`` only with both levels). A notebook shows it as a table with the intervals drawn; its
        ``plot()`` returns them as a Figure.

    Raises:
        ValueError: An argument makes no sense; a `ModelError` if there is no such model.
        TypeError: Something is neither a path nor a structure.
    """
    settings = Settings(window, uncertainty, samples, seed, batch_atoms, max_atoms, disorder, coverage)
    order = ranking(rank_by, settings.window)
    for name, value in {"workers": workers, "top": top}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    predictor = _predictor(model, level, device)
    predictor.check_spread(settings.uncertainty)
    stream = stream_rows(sources_of(structures), predictor, settings, workers)
    rows = [row for rows in _with_bar(stream, progress) for row in rows]
    return Screening(to_frame(rank_rows(rows, order, top, novel), coverage, predictor.beside is not None))


def _predictor(model: str | Path | GapPredictor | None, level: Level | None, device: str) -> GapPredictor:
    if not isinstance(model, GapPredictor):
        first, beside = models_of(level, model)
        return load_model(first, device, beside)
    if level is not None:
        raise ValueError("a loaded model has its own level: give level or model, not both")
    return model


def _with_bar(stream: Iterator[tuple[Row, ...]], progress: bool | None) -> Iterator[tuple[Row, ...]]:
    """The stream, while a bar counts its inputs; in a notebook the bar is the notebook's own."""
    if progress is None:
        progress = "ipykernel" in sys.modules
    if not progress:
        return stream
    from tqdm.auto import tqdm  # type: ignore[import-untyped]

    return iter(tqdm(stream, desc="screening", unit=" files", leave=False))


def sources_of(structures: Any) -> Iterator[Source]:
    """Inputs from paths and structure objects, one or many; objects are named by their place.

    Raises:
        TypeError: Something is neither.
    """
    for place, item in enumerate([structures] if is_one(structures) else structures, start=1):
        if isinstance(item, str | Path):
            yield from expand_inputs([item])
            continue
        name = getattr(item, "structure_id", "") or f"structure-{place}"
        try:
            crystal = crystal_from(item, name)
        except ValueError as error:
            yield ReadFailure("memory", name, str(error))
        else:
            yield replace(crystal, structure_id=name)
