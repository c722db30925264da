"""Structures from CIFs: a file, a folder or an archive of them."""

from __future__ import annotations

from pathlib import Path

from mofgap.choices import Disorder
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.reading import largest_read, prepare_given
from mofgap.datasets.record import Record, Records


def read_cifs(
    path: Path,
    max_atoms: int,
    disorder: Disorder = "refuse",
    preparation: PreparationConfig | None = None,
) -> Records:
    """Stream the structures of CIFs, named by their files, or by data block where a file holds several.

    With a ``preparation`` they are prepared as in a screening, so that a model learns from what it will
    predict.
    """
    for entry in read_all(path, disorder=disorder, max_atoms=largest_read(max_atoms, preparation)):
        if isinstance(entry, Crystal) and preparation is not None:
            entry = prepare_given(entry, max_atoms, preparation)
        yield Record(entry) if isinstance(entry, Crystal) else entry
