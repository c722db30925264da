from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Element, Structure
from pymatgen.io.vasp.inputs import Incar, Kpoints, Poscar

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all
from mofgap.selection.dft import _magmom, without_potential, write_inputs

NUMBERS = np.array([8, 26, 6, 8, 1, 64, 30])


def crystal(name: str) -> Crystal:
    rng = np.random.default_rng(0)
    return Crystal(np.diag([7.0, 8.0, 9.0]), rng.random((7, 3)), NUMBERS, name)


@pytest.mark.parametrize("kind", ["cif", "poscar"])
def test_structures_come_back(kind: str, tmp_path: Path) -> None:
    paths = write_inputs(tmp_path / "in", [crystal("a"), crystal("b/c d")], kind)
    assert [p.name for p in paths] == [f"1_a.{kind}", f"2_b_c_d.{kind}"]
    expected = Structure(crystal("a").cell, NUMBERS, crystal("a").frac_coords).get_sorted_structure()
    if kind == "cif":
        (entry,) = read_all(paths[0])
        assert isinstance(entry, Crystal)
        np.testing.assert_allclose(entry.frac_coords, crystal("a").frac_coords, atol=1e-6)
        assert entry.atomic_numbers.tolist() == NUMBERS.tolist()
    else:
        found = Poscar.from_file(paths[0], check_for_potcar=False).structure
        assert found.composition == expected.composition
        np.testing.assert_allclose(sorted(found.distance_matrix[0]), sorted(expected.distance_matrix[0]))


def test_vasp_folder_holds_the_settings_of_qmof(tmp_path: Path) -> None:
    (folder,) = write_inputs(tmp_path, [crystal("a")], "vasp")
    assert sorted(p.name for p in folder.iterdir()) == [
        "INCAR",
        "INCAR.static",
        "KPOINTS",
        "POSCAR",
        "POTCAR.spec",
    ]
    relax, static = Incar.from_file(folder / "INCAR"), Incar.from_file(folder / "INCAR.static")
    for incar in (relax, static):
        assert (incar["ENCUT"], incar["IVDW"], incar["ISPIN"], incar["SIGMA"]) == (520, 12, 2, 0.01)
    assert (relax["NSW"] > 0, relax["ISIF"], relax["EDIFFG"], static["NSW"]) == (True, 3, -0.03, 0)
    structure = Poscar.from_file(folder / "POSCAR", check_for_potcar=False).structure
    moments = dict(zip([site.specie.symbol for site in structure], relax["MAGMOM"], strict=True))
    assert moments == {"Fe": 5.0, "Gd": 7.0, "Zn": 0.0, "C": 0.0, "H": 0.0, "O": 0.0}
    kpoints = Kpoints.from_file(folder / "KPOINTS")
    assert np.prod(kpoints.kpts[0]) * len(structure) == pytest.approx(1000, rel=0.6)
    potentials = (folder / "POTCAR.spec").read_text().split()
    order = list(dict.fromkeys(site.specie.symbol for site in structure))
    assert [name.split("_")[0] for name in potentials] == order
    assert {"Fe", "Gd_3", "Zn"} < set(potentials)  # MPRelaxSet has Fe_pv and Gd


@pytest.mark.parametrize(
    ("symbol", "moment"),
    [
        ("Sc", 5),
        ("Cd", 5),
        ("Hg", 5),
        ("Lu", 5),
        ("La", 7),
        ("Yb", 7),
        ("U", 7),
        ("Zn", 0),
        ("Ga", 0),
        ("Ac", 0),
    ],
)
def test_moments_are_those_of_qmof(symbol: str, moment: float) -> None:
    assert _magmom(Element(symbol)) == moment


def test_elements_without_a_usual_potential_are_named() -> None:
    berkelium = replace(crystal("a"), atomic_numbers=np.array([8, 97, 6, 8, 1, 64, 85]))
    assert (without_potential(crystal("a")), without_potential(berkelium)) == ([], ["Bk"])


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind"):
        write_inputs(tmp_path, [], "qe")  # type: ignore[arg-type]


def test_vasp_gets_the_primitive_cell(tmp_path: Path) -> None:
    rutile_like = np.array([[0, 0, 0], [0.3, 0.3, 0], [-0.3, -0.3, 0]])
    centred = np.concatenate([rutile_like, rutile_like + 0.5])
    cell = Crystal(np.diag([8.0, 8.0, 6.0]), centred, np.array([26, 8, 8] * 2), "centred")
    (folder,) = write_inputs(tmp_path, [cell], "vasp")
    structure = Poscar.from_file(folder / "POSCAR", check_for_potcar=False).structure
    assert structure.composition.as_dict() == {"Fe": 1, "O": 2}
    assert structure.volume == pytest.approx(8 * 8 * 6 / 2)
    assert Incar.from_file(folder / "INCAR")["MAGMOM"] == [5.0, 0.0, 0.0]


def test_an_hse06_table_gets_a_calculation_of_its_gap(tmp_path: Path) -> None:
    (folder,) = write_inputs(tmp_path, [crystal("a")], "vasp", hybrid=True)
    hybrid = Incar.from_file(folder / "INCAR.hse06")
    assert (hybrid["LHFCALC"], hybrid["HFSCREEN"], hybrid["NSW"]) == (True, 0.2, 0)
    assert len(hybrid["MAGMOM"]) == len(NUMBERS)


@pytest.mark.parametrize("kind", ["cif", "poscar", "vasp"])
def test_a_long_name_is_cut_and_others_are_written(kind: str, tmp_path: Path) -> None:
    paths = write_inputs(tmp_path, [crystal("ü" * 260), crystal("b")], kind)
    assert all(path.exists() for path in paths)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", ["cif", "poscar", "vasp"])
def test_inputs_are_written_over_earlier_ones(kind: str, tmp_path: Path) -> None:
    first, again = (write_inputs(tmp_path, [crystal("a")], kind) for _ in range(2))
    with pytest.raises(ValueError, match=r"holds inputs of an earlier selection \(1_a"):
        write_inputs(tmp_path, [crystal("b")], kind)
    assert first == again and [path.name for path in tmp_path.iterdir()] == [first[0].name]
