"""What standard input holds: a list of names, a CIF, or another file."""

import bz2
import gzip
import io
import lzma
from pathlib import Path

import pytest

from mofgap.crystals.inputs import expand_inputs

GOOD = (Path(__file__).parents[1] / "fixtures" / "cifs" / "good.cif").read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"MOF-5.cif\n1.0\n 9 0 0\n 0 9 0\n 0 0 9\nZn\n1\nDirect\n0 0 0\n",
        b'1\nLattice="9 0 0 0 9 0 0 0 9" file="/a/b.xyz"\nZn 0 0 0\n',
        b'{"lattice": {"matrix": [[9, 0, 0]]}, "unit": "kJ/mol"}',
        b'[\n {\n  "cell": [[9, 0, 0]]\n }\n]\n',
        *(pack(GOOD) for pack in (gzip.compress, bz2.compress, lzma.compress)),
        b"PK\x03\x04\x14\0\0\0",
        "MOF\n1.0\n 9 0 0\n".encode("utf-16"),
    ],
    # Named here: a packed file holds the time, and workers must agree on the names of tests.
    ids=["poscar", "xyz", "json", "json-list", "gz", "bz2", "xz", "zip", "utf-16"],
)
def test_another_file_on_standard_input_is_one_failure(data):
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape")
    (failure,) = expand_inputs(["-"], stdin=lines)
    assert failure.source == "stdin" and failure.reason.startswith("not-a-list: ")


def test_a_list_of_files_that_are_missing_is_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.cif").write_bytes(GOOD)
    for missing in (["b.cif", "b", "c.zip"], ["x/a", "x/b", "x/c"], ["a", "b"], ["a", "b", "[ab].cif"]):
        found = list(expand_inputs(["-"], stdin=[f"{name}\n" for name in missing]))
        assert [entry.source for entry in found][:2] == missing[:2] and len(found) == len(missing)
