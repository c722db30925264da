"""The table that an import writes: parquet, a piece at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from mofgap.crystals.formula import reduced_formula
from mofgap.datasets.groups import NAME_COLUMNS, families_of, group_names
from mofgap.datasets.qmof import ATOM_COLUMNS
from mofgap.datasets.record import Record

ROWS_AT_ONCE = 512
STRUCTURE = ("structure_id", "n_atoms", "reduced_formula", "cell_angstrom", "atomic_numbers", "frac_coords")
"""Columns that every table has."""

TEXTS = ("name", "source", "doi", "split", "group")
"""Columns of text that are kept where a source has them."""


class TableWriter:
    """Writes structures with their labels; the file appears whole when it is closed without an error.

    Structures are held for some hundred rows only. What needs all of them, the groups, is added in a second
    pass over the finished file.

    Args:
        path: The parquet file.
        targets: Columns of labels, eV.
        texts: Columns of text; those that stay empty are left out.
        about: Kept in the file's metadata under ``mofgap``, as JSON.
    """

    def __init__(
        self, path: Path, targets: Sequence[str], texts: Sequence[str], about: Mapping[str, Any]
    ) -> None:
        self.path = path
        self.n_rows = 0
        own = f".{path.name}.{uuid4().hex}"
        self._first, self._second = (path.with_name(f"{own}.{n}.partial") for n in ("first", "second"))
        self._schema = _schema(targets, texts)
        self._metadata = {b"mofgap": json.dumps(dict(about)).encode()}
        self._rows: list[dict[str, Any]] = []
        self._formulas: list[str] = []
        self._names: dict[str, list[str]] = {name: [] for name in ("structure_id", *NAME_COLUMNS)}
        self._used: set[str] = set()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(self._first, self._schema, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
            if kind is None and self.n_rows:
                self._finish()
                self._second.replace(self.path)
        finally:
            self._first.unlink(missing_ok=True)
            self._second.unlink(missing_ok=True)

    def add(self, record: Record, values: Mapping[str, Any]) -> None:
        """Append a structure with its labels and texts by column, which are None where there is none."""
        crystal = record.crystal
        formula = reduced_formula(crystal.atomic_numbers)
        row = {
            "structure_id": crystal.structure_id,
            "n_atoms": crystal.n_atoms,
            "reduced_formula": formula,
            **crystal.columns,
            **values,
        }
        row |= {column: array for column, array in record.atoms.items() if column in self._schema.names}
        self._used |= {name for name, value in row.items() if value is not None}
        self._formulas.append(formula)
        for name, known in self._names.items():
            known.append(row.get(name) or "")
        self._rows.append(row)
        self.n_rows += 1
        if len(self._rows) >= ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []

    def _finish(self) -> None:
        """Copy the file with its groups and without the columns that stayed empty."""
        group = pa.array(group_names(self._formulas, families_of(self._names)))
        columns = [name for name in self._schema.names if name in self._used]
        schema = pa.schema([self._schema.field(name) for name in columns])
        if "group" not in columns:
            schema = schema.insert(3, pa.field("group", pa.string()))
        start = 0
        with (
            pq.ParquetFile(self._first) as source,
            pq.ParquetWriter(
                self._second, schema.with_metadata(self._metadata), compression="zstd"
            ) as target,
        ):
            for index in range(source.num_row_groups):
                rows = source.read_row_group(index, columns=columns)
                if "group" not in columns:
                    rows = rows.append_column("group", group.slice(start, len(rows)))
                start += len(rows)
                target.write_table(rows.select(schema.names).cast(schema))


def _schema(targets: Sequence[str], texts: Sequence[str]) -> pa.Schema:
    numbers = [pa.field(name, pa.float64()) for name in targets]
    strings = [pa.field(name, pa.string()) for name in texts]
    atoms = [pa.field(name, pa.list_(pa.float32())) for name in ATOM_COLUMNS.values()]
    return pa.schema(
        [
            pa.field("structure_id", pa.string()),
            pa.field("n_atoms", pa.int32()),
            pa.field("reduced_formula", pa.string()),
            *strings,
            *numbers,
            pa.field("cell_angstrom", pa.list_(pa.float64())),
            pa.field("atomic_numbers", pa.list_(pa.uint8())),
            pa.field("frac_coords", pa.list_(pa.float64())),
            *atoms,
        ]
    )
