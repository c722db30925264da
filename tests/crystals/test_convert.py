import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from pymatgen.core import DummySpecies, Lattice, Structure

from mofgap.crystals.convert import crystal_from, to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from mofgap.crystals.inputs import read_all

CRYSTAL = Crystal(
    np.array([[4.0, 0, 0], [1, 5, 0], [0.5, 0.2, 6]]),
    np.array([[0.0, 0.1, 0.2], [0.5, 0.6, 0.7]]),
    np.array([30, 8]),
)


@pytest.mark.parametrize("there", [to_pymatgen, to_ase])
def test_there_and_back(there):
    back = crystal_from(there(CRYSTAL), "zincite")
    assert back.cell == pytest.approx(CRYSTAL.cell)
    assert back.frac_coords == pytest.approx(CRYSTAL.frac_coords)
    assert back.atomic_numbers.tolist() == [30, 8]
    assert back.structure_id == "zincite"


def test_a_crystal_is_itself():
    assert crystal_from(CRYSTAL) is CRYSTAL


def test_disorder_is_refused():
    structure = Structure(Lattice.cubic(4), [{"Zn": 0.5, "Mg": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match="partial-occupancy"):
        crystal_from(structure)


@pytest.mark.parametrize(("share", "is_refused"), [(0.55, True), (1.0, False)])
def test_disorder_is_refused_where_ase_does_not_say_which_atoms_have_it(share, is_refused, tmp_path):
    atoms = to_ase(CRYSTAL)
    plain = atoms.copy()
    atoms.info["occupancy"] = {"0": {"Zn": share}, "1": {"O": 1.0}}
    write(tmp_path / "a.traj", [plain, atoms])
    first, second = read_all(tmp_path / "a.traj")
    assert isinstance(first, Crystal) and isinstance(second, ReadFailure) == is_refused
    assert not is_refused or second.reason.startswith("partial-occupancy: ")
    if is_refused:
        with pytest.raises(ValueError, match="partial-occupancy"):
            crystal_from(read(tmp_path / "a.traj", index=1))


def test_an_occupancy_that_is_of_no_site_is_passed_over():
    atoms = to_ase(CRYSTAL)
    for occupancy in (1.0, {"0": 1.0}):
        atoms.info["occupancy"] = occupancy
        assert crystal_from(atoms).n_atoms == 2


def test_what_is_no_element_is_refused_by_name():
    structure = Structure(Lattice.cubic(4), [DummySpecies("Xb"), "Zn"], [[0, 0, 0], [0.5, 0, 0]])
    with pytest.raises(ValueError, match="unknown-element: Xb"):
        crystal_from(structure)


def test_a_slab_is_refused():
    structure = Structure(Lattice(np.eye(3) * 4, pbc=(True, True, False)), ["Zn"], [[0, 0, 0]])
    with pytest.raises(ValueError, match="no-cell"):
        crystal_from(structure)


def test_a_molecule_is_refused():
    with pytest.raises(ValueError, match="no-cell"):
        crystal_from(Atoms("H2O"))


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="not int"):
        crystal_from(3)
