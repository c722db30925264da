from pathlib import Path

import pytest

from mofgap.crystals.checks import NOTES, check_crystal
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.inputs import read_all

FOLDER = Path(__file__).parents[2] / "data" / "examples"
EXAMPLES = sorted(FOLDER.glob("*.cif"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_reads_without_warnings(path):
    (crystal,) = read_all(path)
    assert isinstance(crystal, Crystal), crystal
    assert crystal.warnings == ()
    assert 10 < crystal.n_atoms <= 500
    assert {text.split(":")[0] for text in check_crystal(crystal)} <= NOTES


def test_the_examples_are_many_small_and_documented():
    assert len(EXAMPLES) >= 20
    assert sum(path.stat().st_size for path in EXAMPLES) < 2e6
    readme = (FOLDER / "README.md").read_text()
    assert all(f"`{path.name}`" in readme for path in EXAMPLES)
