"""A CIF block as gemmi reads it, after what stops gemmi or leads it astray is put right."""

from __future__ import annotations

import re

import gemmi
import numpy as np
from gemmi import cif

from mofgap.crystals.reasons import StructureError, listed

FRACT = tuple(f"_atom_site_fract_{axis}" for axis in "xyz")
CARTN = tuple(f"_atom_site_Cartn_{axis}" for axis in "xyz")
_NAMES = ("_atom_site_label", "_atom_site_type_symbol")
_OCCUPANCY = "_atom_site_occupancy"
_DISORDER = (_OCCUPANCY, "_atom_site_disorder_assembly", "_atom_site_disorder_group")
NUMBER_TAGS = ("_space_group_IT_number", "_symmetry_Int_Tables_number")
_CELL = tuple(
    f"_cell_{name}"
    for name in ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
)
_NUMBERS = (*_CELL, *FRACT, *CARTN, _OCCUPANCY)
_WHOLE = re.compile(r"(\d+)\.?0*", re.ASCII)


def n_rows(block: cif.Block) -> int:
    """How many atom sites with coordinates a block lists."""
    return len(block.find_values(FRACT[0])) or len(block.find_values(CARTN[0]))


def small_structure(block: cif.Block) -> gemmi.SmallStructure:
    """Gemmi's reading of a block.

    Raises:
        StructureError: If a value of ``block`` must be a number and is a text, or ``block`` gives several
            cells, or its atom sites stand in several tables.
    """
    _drop_empty_tables(block)
    _write_cell_as_pairs(block)
    symbols = block.find_loop("_atom_site_type_symbol")
    if symbols and not block.find_values("_atom_site_label"):  # gemmi finds no site without a label
        symbols.get_loop().add_columns(["_atom_site_label"], "?")
        labels = block.find_loop("_atom_site_label")  # found once: a block may have a million items
        for place, symbol in enumerate(list(block.find_values("_atom_site_type_symbol"))):
            labels[place] = symbol
    _check_one_table(block)
    for tag in _NUMBERS:
        _unquote(block.find_values(tag))
    numbers = {tag: block.find_values(tag)[0] for tag in NUMBER_TAGS if block.find_values(tag)}
    for tag, number in numbers.items():
        text = cif.as_string(number).strip()
        if text[:1].isdigit() and not _WHOLE.fullmatch(text):
            raise StructureError(f"bad-value: {tag} is {text}, no whole number; correct that value")
        block.find_values(tag)[0] = "?"  # gemmi refuses what is no number, such as P1
    try:
        return gemmi.make_small_structure_from_block(block)
    except (ValueError, RuntimeError) as error:
        name = "bad-cell" if "angle" in str(error) else "bad-value"
        raise StructureError(f"{name}: {error}; correct that value") from error
    finally:
        for tag, number in numbers.items():  # some programs write '14' or 14.0
            whole = _WHOLE.fullmatch(cif.as_string(number).strip())
            block.find_values(tag)[0] = whole[1] if whole else number


def _drop_empty_tables(block: cif.Block) -> None:
    """Take out tables without rows, whose columns are there for gemmi and give no value."""
    for item in block:
        if item.loop is not None and not item.loop.length():
            item.erase()


def _write_cell_as_pairs(block: cif.Block) -> None:
    """Write the cell as gemmi reads it, in pairs wherever it stands, without what is unknown.

    Raises:
        StructureError: If ``block`` gives several cells.
    """
    if (n_cells := max(len(block.find_values(tag)) for tag in _CELL)) > 1:
        raise StructureError(f"no-cell: the cell stands in a table of {n_cells} rows; give one cell")
    for tag in _CELL:
        column = block.find_values(tag)
        value = column[0] if column else "?"
        column.erase()
        if value not in ("?", "."):
            block.set_pair(tag, value)


def _check_one_table(block: cif.Block) -> None:
    """Refuse atom sites in several tables, of which gemmi reads one.

    Raises:
        StructureError: If a column of the atom sites of ``block`` stands in another table than the first.
    """
    coordinates = FRACT if all(block.find_values(tag) for tag in FRACT) else CARTN
    columns = [tag for tag in (*_NAMES, *coordinates, *_DISORDER) if _says_something(block, tag)]
    loops = [block.find_loop(tag).get_loop() for tag in columns]
    tables = [loop.tags if loop else [] for loop in loops]
    if apart := [tag for tag, table in zip(columns, tables, strict=True) if table != tables[0]]:
        are = "is" if len(apart) == 1 else "are"
        raise StructureError(
            f"bad-structure: the atom sites stand in several tables: {listed(apart)} {are} not in that of "
            f"{columns[0]}; write one table"
        )


def _says_something(block: cif.Block, tag: str) -> bool:
    """Whether a column has a value that is known, and is no full occupancy."""
    values = [value for value in block.find_values(tag) if value not in ("?", ".")]
    return any(tag != _OCCUPANCY or cif.as_number(value) != 1 for value in values)


def _unquote(column: cif.Column) -> None:
    """Write numbers without their quotes, in which gemmi takes them for text."""
    for place, value in enumerate(list(column)):
        text = cif.as_string(value).strip() if value[:1] in ("'", '"') else ""
        if text and not np.isnan(cif.as_number(text)):
            column[place] = text
