"""Bytes that hypothesis makes up; ``benchmarks/fuzz.py`` looks for longer, guided by coverage."""

from __future__ import annotations

import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.cif import read_cif_bytes
from mofgap.crystals.entry import Entry, ReadFailure
from mofgap.crystals.inputs import expand_inputs, read_input

CIF = b"""data_x
_cell_length_a 9
_cell_length_b 9
_cell_length_c 9.5(1)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_space_group_name_Hall '-P 1'
_chemical_formula_sum 'C O2'
loop_
_symmetry_equiv_pos_as_xyz
x,y,z
-x,-y,-z
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
C1 C 0 0 0 1
O1 O 0.13 0 0 1.0(2)
"""
WORDS = (
    b"?",
    b".",
    b"'",
    b"\n;",
    b"loop_\n",
    b"1e300",
    b"-1",
    b"nan",
    b"x+1/0,y,z",
    b"\xff",
    b"\x00",
    b"data_",
)
EDITS = st.lists(
    st.tuples(st.integers(0, 2000), st.integers(0, 40), st.sampled_from(WORDS) | st.binary(max_size=4)),
    min_size=1,
    max_size=6,
)
"""Where, how many bytes go, and what comes instead."""


def edited(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, n_gone, new in edits:
        place %= len(data) + 1
        data = data[:place] + new + data[place + n_gone :]
    return data


def check(entries: list[Entry]) -> None:
    """At least one entry, and no reason that stands for an exception nobody foresaw."""
    reasons = [entry.reason for entry in entries if isinstance(entry, ReadFailure)]
    assert entries and not [reason for reason in reasons if reason.startswith("unreadable:")]


@settings(max_examples=150)
@given(edits=EDITS)
def test_edited_cifs_are_read_or_refused_with_a_reason(edits: list[tuple[int, int, bytes]]) -> None:
    data = edited(CIF, edits)
    check(read_cif_bytes(data, "x.cif"))
    check(read_cif_bytes(data, "x.cif", disorder="majority"))


def packed(ending: str) -> bytes:
    content = io.BytesIO()
    if ending == ".zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.cif", CIF)
    else:
        with tarfile.open(fileobj=content, mode="w:xz" if ending == ".tar.xz" else "w") as tar:
            info = tarfile.TarInfo("a.cif")
            info.size = len(CIF)
            tar.addfile(info, io.BytesIO(CIF))
    return content.getvalue()


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.xz"])
def test_edited_archives_are_read_or_refused_with_a_reason(ending: str) -> None:
    whole = packed(ending)

    @settings(max_examples=60)
    @given(edits=EDITS)
    def look(edits: list[tuple[int, int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"x{ending}"
            path.write_bytes(edited(whole, edits))
            for item in expand_inputs([path]):
                check([item] if isinstance(item, ReadFailure) else read_input(item))

    look()
