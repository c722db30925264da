"""Where a table comes from: the command, the version, the models, and how its structures were read.

The record lies in its own file next to the table, so that the same inputs give the same table on any day.
It is JSON; its name does not end so, since a folder of structures may hold JSON files too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mofgap.choices import Disorder
from mofgap.configuration import part
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.version import installed_version, today
from mofgap.whole_file import read_json, write_text

if TYPE_CHECKING:
    import pandas as pd

ATTRIBUTE = "mofgap_origin"
"""The record's place in ``DataFrame.attrs``."""

FOLDER = "mofgap_folder"
"""There too: the folder of the table's file."""

SUFFIX = ".origin"
"""What the record's name has behind that of the table."""

COMMAND, DATE, N_ROWS = "command", "date", "n_rows"
MODEL_DIGEST = "model_sha256"
"""Of the model's config, which holds the digests of all its other files; tables made in Python lack it."""

N_NOVEL, N_COPIES = "n_novel", "n_copies"
"""What the record of a table in Python counts, too: novel structures and duplicates, left out or not."""


def origin_path(table: Path) -> Path:
    """The path of the record of a table: next to it."""
    return table.with_name(f"{table.name}{SUFFIX}")


def record(command: str, n_rows: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a table that is made now, as plain values.

    Args:
        command: What makes the table.
        n_rows: Its number of rows.
        settings: What decides the numbers, such as `ScreeningConfig.row_settings`.
    """
    return {COMMAND: command, DATE: today(), N_ROWS: n_rows, "mofgap": installed_version(), **settings}


def folders_of(frame: pd.DataFrame) -> tuple[Path, ...]:
    """Where relative names of a table's structures count from: here, then the folder of its file."""
    return Path(), Path(frame.attrs.get(FOLDER, ""))


def write_origin(table: Path, content: Mapping[str, Any]) -> None:
    """Write the record of a table next to it.

    Raises:
        OSError: If the file cannot be written.
    """
    write_text(origin_path(table), json.dumps(content, indent=1) + "\n")


def read_origin(table: Path) -> dict[str, Any]:
    """The record of a table; empty where there is none, or it is damaged."""
    return read_json(origin_path(table))


def origin_of(frame: pd.DataFrame) -> dict[str, Any]:
    """The record that came with a table; empty where there is none."""
    found = frame.attrs.get(ATTRIBUTE)
    return dict(found) if isinstance(found, Mapping) else {}


def disorder_of(frame: pd.DataFrame) -> Disorder:
    """What was done about partial occupancies when a table's structures were read."""
    return "majority" if origin_of(frame).get("disorder") == "majority" else "refuse"


def preparation_of(frame: pd.DataFrame) -> PreparationConfig:
    """How a table's structures were prepared; the default where its record does not say."""
    try:
        return part(PreparationConfig, origin_of(frame))
    except ValueError:  # written by another version of mofgap
        return PreparationConfig()
