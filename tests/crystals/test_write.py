import numpy as np
import pytest
from ase.geometry import cell_to_cellpar
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.write import write_cif


@st.composite
def crystals(draw):
    """Atoms on distinct points of a coarse grid, shifted a little, in a cell of any shape."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    cell = np.diag(rng.uniform(8, 14, 3)) + np.tril(rng.uniform(-3, 3, (3, 3)), -1)
    n_atoms = draw(st.integers(1, 12))
    places = rng.choice(64, n_atoms, replace=False)
    grid = np.stack(np.unravel_index(places, (4, 4, 4)), axis=1) / 4
    coords = grid + rng.uniform(0, 0.1, (n_atoms, 3)) + draw(st.integers(-2, 2))
    return Crystal(cell, coords, rng.integers(1, 104, n_atoms), draw(st.text(max_size=12)))


@settings(max_examples=50)
@given(crystals())
def test_what_is_written_reads_back(crystal):
    text = write_cif(crystal)
    (back,) = read_cif(text)
    assert isinstance(back, Crystal), back
    assert back.warnings == ()
    assert np.array_equal(back.atomic_numbers, crystal.atomic_numbers)
    assert back.frac_coords == pytest.approx(crystal.frac_coords, abs=1e-7)
    assert cell_to_cellpar(back.cell) == pytest.approx(cell_to_cellpar(crystal.cell), abs=1e-5)
    assert write_cif(crystal) == text


ROCK_SALT = Crystal(4 * np.eye(3), np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([12, 8]), "MgO")


def test_header_and_columns_are_kept():
    from gemmi import cif

    text = write_cif(ROCK_SALT, {"_journal_paper_doi": "10.1/a b"}, {"_mofgap_gap_share": [0.25, 0.75]})
    block = cif.read_string(text)[0]
    assert block.find_value("_journal_paper_doi") == "'10.1/a b'"
    assert list(block.find_values("_mofgap_gap_share")) == ["0.25", "0.75"]


def test_a_column_of_another_length_is_refused():
    with pytest.raises(ValueError, match="argument 2"):
        write_cif(ROCK_SALT, columns={"_x": [1.0]})
