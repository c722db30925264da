"""The column that names structures, found by its own name."""

from __future__ import annotations

from collections.abc import Iterable

IDENTIFIERS = (
    "structure_id",
    "qmof_id",
    "file",
    "jid",
    "material_id",
    "mof_id",
    "refcode",
    "identifier",
    "filename",
    "name",
    "id",
)
"""Names under which tables and other sources keep identifiers, the first that is there."""


def id_column(names: Iterable[str]) -> str:
    """The first of `IDENTIFIERS` among the names of columns, in capitals or not.

    Raises:
        ValueError: If ``names`` include none of `IDENTIFIERS`.
    """
    known = list(names)
    plain = {str(name).strip().lower(): name for name in reversed(known)}
    found = next((name for name in IDENTIFIERS if name in known), None)
    found = found or next((plain[name] for name in IDENTIFIERS if name in plain), None)
    if found is None:
        raise ValueError(f"no identifier column; expected one of {', '.join(IDENTIFIERS)}")
    return found
