"""Writing a crystal as a CIF in P1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from gemmi import cif

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.elements import symbol_of
from mofgap.crystals.formula import formula_sum


def write_cif(
    crystal: Crystal,
    header: Mapping[str, str] | None = None,
    columns: Mapping[str, Sequence[str | float]] | None = None,
) -> str:
    """The text of a CIF that `read_cif` reads back; the same crystal gives the same text.

    Args:
        crystal: The structure; its ``structure_id`` names the data block.
        header: More tags with their values, such as ``{"_journal_paper_doi": "10.1038/46248"}``.
        columns: More columns of the atom table: (n_atoms,) values by tag.

    Raises:
        ValueError: If a column of ``columns`` has another length than the atom table.
    """
    from ase.geometry import cell_to_cellpar

    block_name = "".join(
        c if c.isascii() and c.isprintable() and c != " " else "_" for c in crystal.structure_id
    )
    lines = [f"data_{block_name or 'crystal'}"]
    lines += [f"{tag} {_value(value)}" for tag, value in (header or {}).items()]
    lines.append(f"_chemical_formula_sum '{formula_sum(crystal.atomic_numbers)}'")
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    parameters = cell_to_cellpar(crystal.cell).tolist()
    lines += [f"_cell_{name} {value:.6f}" for name, value in zip(names, parameters, strict=True)]
    lines += ["_space_group_name_H-M_alt 'P 1'", "_space_group_IT_number 1"]
    lines += ["loop_", "_space_group_symop_operation_xyz", "'x, y, z'"]
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [f"_atom_site_fract_{axis}" for axis in "xyz"]
    lines += list(columns or {})
    lines += _atom_rows(crystal, list((columns or {}).values()))
    return "\n".join(lines) + "\n"


def _atom_rows(crystal: Crystal, columns: list[Sequence[str | float]]) -> list[str]:
    counts: Counter[str] = Counter()
    rows = []
    # Adding zero turns -0.0 into 0.0.
    coords = np.round(crystal.frac_coords, 8) + 0.0
    table = zip(crystal.atomic_numbers.tolist(), coords.tolist(), strict=True)
    for (number, position), *extra in zip(table, *columns, strict=True):
        symbol = symbol_of(number)
        counts[symbol] += 1
        fields = [f"{symbol}{counts[symbol]}", symbol, *(f"{x:.8f}" for x in position)]
        rows.append(" ".join(fields + [_value(value) for value in extra]))
    return rows


def _value(value: str | float) -> str:
    return str(cif.quote(value)) if isinstance(value, str) else f"{value:g}"
