"""From the asymmetric unit to the whole cell."""

from __future__ import annotations

import re

import gemmi
import numpy as np
from gemmi import cif
from numpy.typing import NDArray

from mofgap.crystals.reasons import StructureError, shown
from mofgap.crystals.space_group import Statement, contradictions, stated_groups

# Images of one site nearer than this are one atom on a special position, written with few digits.
SPECIAL_POSITION_ANGSTROM = 0.4
# Coordinates of two digits are as far from a special position as this; farther, the atom is beside it.
_ROUNDED_ANGSTROM = 0.1
# An atom that moves less has arrived on its special position; a dozen steps are the most that were needed.
_SETTLED_ANGSTROM, _MOST_STEPS = 1e-6, 100
# Edges that differ by half a percent, or angles by half a degree, are rounded or measured; more is a mistake.
METRIC_TOLERANCE = 0.01
# No space group has more operations than F m -3 m in its conventional cell.
MOST_OPERATIONS = 192
# Longer texts are no operator.
_LONGEST_OPERATOR = 100
_TERM = re.compile(r"([+-]?)(?:(\d+\.?\d*|\.\d+)(?:/(\d+))?\*?)?([xyz]?)")
_OPERATION_TAGS = ("_space_group_symop_operation_xyz", "_symmetry_equiv_pos_as_xyz")
_SUPERSPACE_TAG = "_space_group_symop_ssg_operation_algebraic"
_MAGNETIC_TAG = "_space_group_symop_magn_operation_xyz"


def parse_operation(triplet: str) -> NDArray[np.float64]:
    """(3, 4) rotation and translation of an operator such as ``-x+1/2, y, z``.

    Translations of few digits (0.333) are moved to the multiple of 1/24 that they mean.

    Raises:
        ValueError: If ``triplet`` is not a symmetry operator.
    """
    if len(triplet) > _LONGEST_OPERATOR:
        raise ValueError(f"{shown(triplet)!r} is not an operator")
    rows = "".join(triplet.lower().split()).split(",")
    if len(rows) != 3:
        raise ValueError(f"{triplet!r} has not three parts")
    operation = np.zeros((3, 4))
    for row, text in enumerate(rows):
        terms = _TERM.findall(text)
        if _TERM.sub("", text) or not text:
            raise ValueError(f"{text!r} in {triplet!r} is not understood")
        for sign, number, divisor, axis in terms:
            if number or axis:
                if not float(divisor or 1):
                    raise ValueError(f"{text!r} in {triplet!r} divides by zero")
                value = float(number or 1) / float(divisor or 1)
                operation[row, "xyz".find(axis) if axis else 3] += -value if sign == "-" else value
    if not np.isfinite(operation).all() or not 0.99 < abs(np.linalg.det(operation[:, :3])) < 1.01:
        raise ValueError(f"{triplet!r} is no symmetry operation")
    exact = np.round(operation[:, 3] * 24) / 24
    near = np.abs(exact - operation[:, 3]) < 0.004
    operation[near, 3] = exact[near]
    return operation


def _array(op: gemmi.Op) -> NDArray[np.float64]:
    return np.column_stack([op.rot, op.tran]) / gemmi.Op.DEN


def _whole(values: list[str]) -> list[str]:
    """Operators in one piece each, such as x, y, z, which lies in three where nothing quotes it."""
    return "".join(value if value.endswith(",") else f"{value}\n" for value in values).splitlines()


def _listed_operations(block: cif.Block) -> tuple[NDArray[np.float64], list[str]]:
    """(n_ops, 3, 4) operators that a block lists, each once, and a warning of a second list that differs.

    Raises:
        StructureError: If an operator cannot be read, the list is longer than that of any space group, all
            operators are magnetic, or the structure is modulated. Without operators the space group would be
            read as P1.
    """
    n_waves = cif.as_string(block.find_value("_cell_modulation_dimension") or "0")
    if block.find_values(_SUPERSPACE_TAG) or n_waves not in ("0", "?", "."):
        raise StructureError(
            "bad-symmetry: the structure is modulated, and its average is none that exists; export an "
            "approximant in an ordinary space group"
        )
    tables = [[op for op in block.find_values(tag) if op not in ("?", ".")] for tag in _OPERATION_TAGS]
    lists = [dict.fromkeys(_whole([cif.as_string(op).strip() for op in ops])) for ops in tables if ops]
    texts = lists[0] if lists else {}
    if not texts and block.find_values(_MAGNETIC_TAG):
        raise StructureError(
            "bad-symmetry: only operators of a magnetic space group; export the structure without moments, "
            "with the operators of its ordinary space group"
        )
    if len(texts) > MOST_OPERATIONS:
        raise StructureError(
            f"bad-symmetry: {len(texts)} symmetry operators, no space group has more than {MOST_OPERATIONS}; "
            "list those of the space group, or expand the file to P1"
        )
    try:
        ops = np.array([parse_operation(op) for op in texts]).reshape(-1, 3, 4)
    except ValueError as error:
        raise StructureError(f"bad-symmetry: {error}; correct the symmetry operators") from error
    return ops, _second_list(ops, list(lists[1])) if len(lists) > 1 else []


def _second_list(ops: NDArray[np.float64], texts: list[str]) -> list[str]:
    """A warning of a second list of operators that are others, or nothing."""
    try:
        others = [_key(parse_operation(op)) for op in texts[: MOST_OPERATIONS + 1]]
    except ValueError:
        others = []
    if set(others) == set(map(_key, ops)):
        return []
    words = f"{len(ops)} operators listed and used, but a second list has {len(texts)}"
    return [f"symmetry-disagreement: {words} that differ; delete the wrong list"]


def operations(block: cif.Block, cell: gemmi.UnitCell) -> tuple[NDArray[np.float64], list[str]]:
    """Symmetry operations (n_ops, 3, 4) of a block, and warnings; those listed win over the name.

    Raises:
        StructureError: If an operator cannot be read, there are too many operators, or the block names only
            an unknown space group.
    """
    ops, warnings = _listed_operations(block)
    stated, unknown = stated_groups(block, cell)
    warnings += contradictions(stated)
    if not len(ops):
        ops, notes = _from_name(stated, unknown)
        return ops, warnings + notes + _cell_mismatch(ops, cell)
    identity = np.eye(3, 4)
    away = ops - identity
    away[:, :, 3] %= 1.0
    if away.any(axis=(1, 2)).all():
        ops = np.concatenate([identity[None], ops])
        warnings.append("missing-identity: the operators listed lack x,y,z, which was added; check them")
    if stated and not stated[0].may_have(ops):
        other = f"{stated[0].words} has {len(stated[0].group)}"
        warnings.append(f"symmetry-disagreement: {len(ops)} operators listed and used, but {other}")
    if len(ops) > 1 and not _is_group(ops):
        warnings.append("symmetry-not-a-group: the operators listed do not form a group; check them")
    return ops, warnings + _cell_mismatch(ops, cell)


def _from_name(stated: list[Statement], unknown: list[str]) -> tuple[NDArray[np.float64], list[str]]:
    """The operations of the most reliable statement, or P1 if the file states no group.

    Raises:
        StructureError: If the block names a space group and no name, number or symbol in it is known.
    """
    if stated:
        words = stated[0].words
        notes = []
        if stated[0].open_setting:
            notes.append(f"origin-choice: {words} leaves the setting open; check it or list the operators")
        if unknown := [each for each in unknown if not each.startswith("number")]:
            kind = "unknown-hall-symbol" if unknown[0].startswith("Hall") else "symmetry-name"
            notes.append(f"{kind}: {unknown[0]} is not known, {words} was used; check the symmetry")
        return np.array([_array(op) for op in stated[0].group]), notes
    if unknown:
        raise StructureError(
            f"unknown-space-group: {unknown[0]} is not a known space group; list the operators "
            "(_symmetry_equiv_pos_as_xyz) or expand the file to P1"
        )
    return np.eye(3, 4)[None], ["no-symmetry: no symmetry given, taken as P1"]


def by_rotation(ops: NDArray[np.float64]) -> NDArray[np.float64]:
    """Operations (n_ops, 3, 4) in an order in which those of one rotation follow each other.

    An atom on a special position belongs to the first operation that makes it. In this order that is the same
    rotation in all translation copies, so that choices by operation keep a centred cell centred.
    """
    rotations = np.rint(ops[:, :, :3]).reshape(len(ops), -1)
    first = (rotations[:, None] == rotations[None]).all(2).argmax(1)
    return ops[np.argsort(first, kind="stable")]


def _cell_mismatch(ops: NDArray[np.float64], cell: gemmi.UnitCell) -> list[str]:
    """A warning of a cell that its own symmetry would distort, or nothing."""
    if len(ops) == 1:  # the identity
        return []
    vectors = np.array(cell.orth.mat.tolist())
    metric, rotations = vectors.T @ vectors, ops[:, :, :3]
    moved = rotations.transpose(0, 2, 1) @ metric @ rotations
    edges = np.sqrt(np.diag(metric))
    if (np.abs(moved - metric) <= METRIC_TOLERANCE * np.outer(edges, edges)).all():
        return []
    return [
        "symmetry-cell-mismatch: the cell's lengths and angles do not have the symmetry stated; correct one"
    ]


def _key(op: NDArray[np.float64]) -> bytes:
    """The same for operations (3, 4) that are equal but for a lattice translation."""
    rotation, translation = op[:, :3], (op[:, 3] + 0.005) % 1.0
    return np.column_stack([rotation, np.floor(translation * 100)]).round(2).astype(np.float32).tobytes()


def _is_group(ops: NDArray[np.float64]) -> bool:
    """Whether products of operations with the first few are operations, modulo lattice translations."""
    known = {_key(op) for op in ops}
    for first in ops[:4]:
        products = first[:, :3] @ ops
        products[:, :, 3] += first[:, 3]
        if not all(_key(product) in known for product in products):
            return False
    return True


def expand(
    ops: NDArray[np.float64], frac_coords: NDArray[np.float64], cell: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Every image of every site in the cell, those that fall on a special position merged.

    Args:
        ops: (n_ops, 3, 4) symmetry operations.
        frac_coords: (n, 3) fractional coordinates of the asymmetric unit.
        cell: (3, 3) lattice vectors as rows, in angstrom.

    Returns:
        Index of the site and index of the operation (n_atoms,), and coordinates (n_atoms, 3).
    """
    n_sites = len(frac_coords)
    if len(ops) == 1 and np.array_equal(ops[0], np.eye(3, 4)):
        return np.arange(n_sites), np.zeros(n_sites, dtype=np.int64), frac_coords
    site_index, op_index, coords = [], [], []
    for site, position in enumerate(frac_coords):
        settled, _ = _settled(position, ops, cell)
        images = ops[:, :, :3] @ settled + ops[:, :, 3]
        kept = _distinct(images, cell)
        site_index.append(np.full(len(kept), site))
        op_index.append(kept)
        coords.append(images[kept] % 1.0)
    return np.concatenate(site_index), np.concatenate(op_index), np.concatenate(coords)


def n_places(
    ops: NDArray[np.float64], frac_coords: NDArray[np.float64], cell: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Over how many places beside a special position the file splits each site, shape (n,).

    `expand` puts one atom between them. 1 for a site that lies on its special position, or far from any.

    Args:
        ops: (n_ops, 3, 4) symmetry operations.
        frac_coords: (n, 3) fractional coordinates of the asymmetric unit.
        cell: (3, 3) lattice vectors as rows, in angstrom.
    """
    shifts = np.einsum("oij,nj->noi", ops[:, :, :3], frac_coords) + ops[:, :, 3] - frac_coords[:, None]
    shifts -= np.round(shifts)
    distances = np.linalg.norm(shifts @ cell, axis=2)
    near = distances < SPECIAL_POSITION_ANGSTROM
    beside = np.max(distances, axis=1, where=near, initial=0.0) > _ROUNDED_ANGSTROM
    found = np.ones(len(frac_coords), dtype=np.int64)
    for site in np.flatnonzero(beside):
        _, own = _settled(frac_coords[site], ops, cell)
        places = shifts[site][own] @ cell
        found[site] = _n_apart(places, np.linalg.norm(places, axis=1).max() / 4)
    return found


def _n_apart(places: NDArray[np.float64], least: float) -> int:
    """How many of the places (n, 3) are apart by a distance at least; others repeat one of them."""
    kept: list[NDArray[np.float64]] = []
    for place in places:
        if all(np.linalg.norm(place - other) >= least for other in kept):
            kept.append(place)
    return len(kept)


def _settled(
    position: NDArray[np.float64], ops: NDArray[np.float64], cell: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(3,) the special position of a site, and (n_ops,) the operations whose images are one atom there.

    About an axis of order four, opposite places may be too far from each other, while all are near the axis.
    """
    for _ in range(_MOST_STEPS):
        shifts = ops[:, :, :3] @ position + ops[:, :, 3] - position
        shifts -= np.round(shifts)
        own = np.linalg.norm(shifts @ cell, axis=1) < SPECIAL_POSITION_ANGSTROM
        step = shifts[own].mean(axis=0)
        position = position + step
        if np.linalg.norm(step @ cell) < _SETTLED_ANGSTROM:
            break
    return position, own


def _distinct(images: NDArray[np.float64], cell: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of the images that repeat no earlier one."""
    difference = images[:, None] - images[None, :]
    difference -= np.round(difference)
    same = np.linalg.norm(difference @ cell, axis=2) < SPECIAL_POSITION_ANGSTROM
    return np.flatnonzero(~np.tril(same, -1).any(axis=1))
