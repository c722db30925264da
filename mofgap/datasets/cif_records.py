"""Structures from CIFs: a file, a folder or an archive of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mofgap.choices import Disorder
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.item import InputItem, read_input
from mofgap.datasets.record import Record, Records


def read_cifs(path: Path, max_atoms: int, disorder: Disorder = "refuse") -> Records:
    """Stream the structures of CIFs, named by their files, or by data block where a file holds several."""
    read = partial(read_input, disorder=disorder, max_atoms=max_atoms)
    for item in expand_inputs([str(path)]):
        for entry in read(item) if isinstance(item, InputItem) else [item]:
            yield Record(entry) if isinstance(entry, Crystal) else entry
