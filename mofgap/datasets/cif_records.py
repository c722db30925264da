"""Structures from CIFs: a file, a folder or an archive of them."""

from __future__ import annotations

from pathlib import Path

from mofgap.choices import Disorder
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all
from mofgap.datasets.record import Record, Records


def read_cifs(path: Path, max_atoms: int, disorder: Disorder = "refuse") -> Records:
    """Stream the structures of CIFs, named by their files, or by data block where a file holds several."""
    for entry in read_all(path, disorder=disorder, max_atoms=max_atoms):
        yield Record(entry) if isinstance(entry, Crystal) else entry
