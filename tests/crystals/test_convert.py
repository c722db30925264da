import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Lattice, Structure

from mofgap.crystals.convert import crystal_from, to_ase, to_pymatgen
from mofgap.crystals.crystal import Crystal

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
