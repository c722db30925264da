"""Small files that would fill the memory or take minutes; each is read in a process of little memory."""

import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile

import gemmi
import numpy as np
import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crowding import check_crowding
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.reasons import StructureError

SECONDS, MEGABYTES = 10, 600
# Memory above that of the imports, and processor time, both enforced by the kernel.
READER = """
import json, resource, sys
import pymatgen.optimization.neighbors, scipy.sparse.csgraph, ase.io.extxyz, ase.io.vasp
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.entry import ReadFailure
with open("/proc/self/statm") as pages:
    now = int(pages.read().split()[0]) * resource.getpagesize()
limit = now + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
reasons = []
for item in expand_inputs([sys.argv[3]]):
    for entry in read_input(item, disorder=sys.argv[4]) if isinstance(item, InputItem) else [item]:
        reasons.append(entry.reason if isinstance(entry, ReadFailure) else f"read: {entry.n_atoms}")
print(json.dumps(reasons[-1:]))
"""
SITES = (
    "loop_\n_atom_site_label\n_atom_site_type_symbol\n"
    "_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"
)
CUBIC = "_symmetry_space_group_name_H-M 'F m -3 m'\n"
RNG = np.random.default_rng(0)


def cell(edge, name="x"):
    lengths = "".join(f"_cell_length_{axis} {edge}\n" for axis in "abc")
    return f"data_{name}\n{lengths}_cell_angle_alpha 90\n_cell_angle_beta 90\n_cell_angle_gamma 90\n"


def sites(n_sites, occupancy="", spread=1.0):
    head = SITES + ("_atom_site_occupancy\n" if occupancy else "")
    places = [" ".join(f"{x:.5f}" for x in row) for row in spread * RNG.random((n_sites, 3))]
    return head + "".join(f"C{i} C {place} {occupancy}\n" for i, place in enumerate(places))


def operators(n_operators):
    rows = "".join(f"'x,y,z+{i}/{n_operators}'\n" for i in range(n_operators))
    return f"loop_\n_symmetry_equiv_pos_as_xyz\n{rows}"


def read_confined(path, disorder="refuse"):
    """The last reason, or ``read: N`` with the number of atoms."""
    command = [sys.executable, "-c", READER, str(MEGABYTES), str(SECONDS), str(path), disorder]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr == ""
    (reason,) = json.loads(done.stdout)
    return reason


ATTACKS = {
    "many images": (cell(20) + CUBIC + sites(250), "refuse", "too-many-atoms: "),
    "many half images": (cell(20) + CUBIC + sites(100, "0.5"), "majority", "too-many-atoms: "),
    "many alternatives in one place": (
        cell(20) + sites(1000, "0.01", 0.1),
        "majority",
        "overlapping-atoms: ",
    ),
    "many atoms in no room": (cell(0.6) + sites(1000), "refuse", "bad-cell: "),
    "many operators": (cell(10) + operators(12_000) + sites(20), "refuse", "bad-symmetry: "),
    "many blocks": (
        "data_bad\n_a b c d\n" + "".join(f"data_b{i}\n_x 1\n" for i in range(80_000)) + cell(10) + sites(3),
        "refuse",
        "read: 3",
    ),
    "many damaged blocks": ("data_x\n;\ndata_y\n" * 600_000, "refuse", "too-many-structures: "),
    "many blocks on a line": ("data_ " * 1_600_000, "refuse", "too-many-structures: "),
    "many empty sites in groups": (
        cell(40)
        + SITES
        + "_atom_site_occupancy\n_atom_site_disorder_group\n"
        + "".join(f"C{i} C 0 0 0 0 {i}\n" for i in range(190_000)),
        "refuse",
        "too-many-atoms: ",
    ),
    "a long label": (
        cell(10) + SITES.replace("_atom_site_type_symbol\n", "") + f"Zn{'+' * 200_000} 0 0 0\n",
        "refuse",
        "read: 1",
    ),
    "many items and no labels": (
        cell(40)
        + "".join(f"_a{i} 1\n" for i in range(600_000))
        + SITES.replace("_atom_site_label\n", "")
        + "C 0 0 0\n" * 7_000,
        "refuse",
        "too-many-atoms: ",
    ),
    "a long operator": (
        cell(10) + f"_symmetry_equiv_pos_as_xyz '{'x+' * 4_000_000}x,y,z'\n" + sites(3),
        "refuse",
        "bad-symmetry: ",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_small_file_takes_little_memory_and_time(name, tmp_path):
    text, disorder, reason = ATTACKS[name]
    path = tmp_path / "attack.cif"
    path.write_text(text)
    assert read_confined(path, disorder).startswith(reason)


LATTICE = 'Lattice="9 0 0 0 9 0 0 0 9"'
SPECIES = "species:S:1:pos:R:3"
TOO_MANY_COLUMNS = "bad-xyz: more than 1000 columns"
POSCAR = "Zn\n1\n9 0 0\n0 9 0\n0 0 9\n"
OTHER_ATTACKS = {
    "many small values.json": ("[" + "[]," * 8_000_000, "bad-json: "),
    "nested.json": ("[" * 2_000_000, "bad-json: "),
    "many structures at once.json": (json.dumps({"lattice": {}, "sites": [{}] * 5_000_000}), "bad-json: "),
    "many members.json": ("{" + ",".join(f'"{i}":{i}' for i in range(1_000_000)) + "}", "bad-json: "),
    "an array.json": (
        '{"cell": {"__ndarray__": [[1000000000000], "float64", [1]]}, "numbers": [], "positions": []}',
        "bad-structure: ",
    ),
    "many atoms.xyz": (f"999999999999\n{LATTICE}\nZn 0 0 0\n", "bad-xyz: "),
    **{
        f"{n} columns.xyz": (f"1\n{LATTICE} Properties={SPECIES}:x:R:{n}\nZn 0 0 0\n", TOO_MANY_COLUMNS)
        for n in ("900000000", "9" * 21, "+900000000", "900_000_000")
    },
    "many properties.xyz": (
        f"1\n{LATTICE} Properties={SPECIES}{':x:R:200' * 99_000}\nZn 0 0 0\n",
        TOO_MANY_COLUMNS,
    ),
    "many frames.xyz": (f"1\n{LATTICE}\nZn 0 0 0\n" * 150_000, "too-many-structures: "),
    "a long line.xyz": (f"1\n{LATTICE} x={'[' * 30_000_000}\nZn 0 0 0\n", "bad-xyz: "),
    "many atoms.vasp": (POSCAR + "Zn\n999\nDirect\n0 0 0\n", "bad-poscar: "),
    "many elements.vasp": (POSCAR + "Zn " * 5_000_000 + "\n" + "1 " * 5_000_000 + "\n", "bad-poscar: "),
}


def test_a_cif_of_very_many_small_structures_is_read_in_part(monkeypatch):
    monkeypatch.setattr("mofgap.crystals.cif.MOST_SMALL", 2)
    text = "".join(cell(10, f"b{i}") + SITES + "Zn1 Zn 0 0 0\n" for i in range(3))
    first, second, failure = read_cif(text, "many.cif")
    assert (first.structure_id, second.structure_id) == ("b0", "b1")
    assert failure.reason.startswith("too-many-structures: 3 ")
    monkeypatch.setattr("mofgap.crystals.cif.SMALL_BYTES", len(text) // 3)
    assert [entry.structure_id for entry in read_cif(text, "many.cif")] == ["b0", "b1", "b2"]


@pytest.mark.parametrize("name", OTHER_ATTACKS)
def test_files_of_other_formats_take_little_memory_and_time(name, tmp_path):
    text, reason = OTHER_ATTACKS[name]
    path = tmp_path / name
    path.write_text(text)
    assert read_confined(path).startswith(reason)


def test_a_compressed_file_that_unpacks_to_far_more_is_refused(tmp_path):
    with gzip.open(tmp_path / "bomb.json.gz", "wb", compresslevel=1) as packed:
        packed.write(b"[")
        for _ in range(272):
            packed.write(b" " * 2**20)
    (failure,) = expand_inputs([tmp_path / "bomb.json.gz"])
    assert failure.reason.startswith("unreadable-file: unpacks to more than ")


def header(kind, n_bytes, start=b""):
    """An archive of which a header has so many bytes."""
    info = tarfile.TarInfo("long")
    info.type, info.size = kind, n_bytes
    archive = io.BytesIO()
    with lzma.open(archive, "wb", preset=0) as packed:
        packed.write(info.tobuf(tarfile.USTAR_FORMAT) + start)
        for _ in range(n_bytes >> 20):
            packed.write(b"a" * 2**20)
    return archive.getvalue()


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE])
def test_long_headers_of_an_archive_are_refused(kind, tmp_path):
    path = tmp_path / "long.tar.xz"
    path.write_bytes(header(kind, 320 * 2**20, b"335544320 path="))
    reason = read_confined(path)
    assert reason.startswith("bad-archive: a name or header of 335544320 bytes")


def test_an_archive_that_unpacks_to_far_more_is_refused(tmp_path):
    path = tmp_path / "bomb.tar.xz"
    path.write_bytes(header(tarfile.REGTYPE, 272 * 2**20))
    assert next(iter(expand_inputs([path]))).reason.startswith("bad-archive: unpacks to more than ")


def test_names_of_ordinary_length_are_read(tmp_path):
    name = "/".join(["folder" * 10] * 20) + "/a.cif"
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "named.tar.gz"
        with tarfile.open(path, "w:gz", format=form) as target:
            target.addfile(tarfile.TarInfo(name))
        (item,) = expand_inputs([path])
        assert item.source == f"{path}:{name}"


def test_a_whole_cell_beside_its_operators_is_read_though_its_digits_are_few():
    """Images of rounded coordinates differ in the last digits, so that they are thousands of places."""
    group = gemmi.SpaceGroup("F m -3 m")
    images = np.array([op.apply_to_xyz([0.123, 0.234, 0.345]) for op in group.operations()]) % 1.0
    rough = np.round(images + RNG.uniform(-4e-5, 4e-5, images.shape), 5)
    rows = "".join(f"C{i} C {x:.5f} {y:.5f} {z:.5f}\n" for i, (x, y, z) in enumerate(rough))
    (crystal,) = read_cif(cell(20) + CUBIC + SITES + rows, max_atoms=192)
    assert crystal.n_atoms == 192
    assert crystal.warnings[-1].startswith("duplicate-sites: ")


@pytest.mark.parametrize(("spread", "crowded"), [(0.05, True), (1.0, False)])
def test_points_are_crowded_where_they_lie_in_one_place(spread, crowded):
    points = spread * np.random.default_rng(1).random((2000, 3))
    if crowded:
        with pytest.raises(StructureError, match=r"overlapping-atoms: \d+ sites"):
            check_crowding(20 * np.eye(3), points, 3.0)
    else:
        check_crowding(20 * np.eye(3), points, 3.0)
