"""The work of worker processes: they alone import torch, and load each model once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

from mofgap.crystals.item import InputItem
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import Models
from mofgap.screening.reading import Source
from mofgap.screening.reread import Key
from mofgap.screening.row import Row

MAX_DRAWN = 200
"""Rows of a report with their structures: others wait for the worker that draws them, some 10 ms each."""


def begin() -> None:
    """Let numerics take one thread: there are as many processes as there should be."""
    import torch

    torch.set_num_threads(1)


def screen_source(config: ScreeningConfig, source: Source) -> tuple[Row, ...]:
    """The rows of one input."""
    from mofgap.screening.screen import stream_rows

    predictor = _predictor(*config.models, config.device)
    return tuple(row for rows in stream_rows([source], predictor, config) for row in rows)


def describe(models: Models, device: str) -> list[dict[str, Any]]:
    """A description of the models of a level, which are loaded to see that they work."""
    return [
        {
            "name": each.about.name,
            "level_of_theory": each.about.level_of_theory,
            "citation": each.about.citation,
            "calibrated": not each.calibration.is_raw,
            "device": each.device,
        }
        for each in _predictor(*models, device).levels
    ]


def report_of(
    rows: Sequence[Row], items: Mapping[Key, InputItem], config: ScreeningConfig, source: str
) -> str:
    """The page of a screening.

    Args:
        rows: Ranked.
        items: The input of each row, by the row's file and structure id.
        config: How they were screened.
        source: What the page names as its source.
    """
    from mofgap.report.screened import screened
    from mofgap.report.screening_page import drawn_rows, screening_page
    from mofgap.report.structures import drawings_among
    from mofgap.screening.origin import ATTRIBUTE, record
    from mofgap.screening.reread import entries_of
    from mofgap.screening.table import to_frame

    frame = to_frame(rows, config.columns)
    frame.attrs[ATTRIBUTE] = record("mofgap serve", len(frame), config.table_settings)
    table = screened(frame, source)
    wanted = dict(islice(drawn_rows(table).items(), MAX_DRAWN))
    found = dict.fromkeys(items[key] for key in wanted if key in items)
    structures = drawings_among(wanted, entries_of(found, "majority", config))
    return screening_page(table, source, config.window, structures)


@cache
def _predictor(name: str, second_level: str | None, device: str) -> Any:
    """The model of a level, with that of a second level; each is loaded once."""
    from mofgap.gap.predictor import load_model

    if second_level is None:
        return load_model(name, device)
    return replace(_predictor(name, None, device), second_level=_predictor(second_level, None, device))
