import numpy as np
import pytest

from mofgap.crystals.anions import missing_anions
from mofgap.crystals.bonds import bond_graph
from mofgap.crystals.checks import NOTES, check_crystal, is_unbalanced
from mofgap.crystals.crystal import Crystal

# Elements and places in angstrom; every atom of a ring has a hydrogen but the nitrogens.
ZINC, SILVER, GOLD, RUTHENIUM, TIN = 30, 47, 79, 44, 50


def ring(*numbers, protonated=()):
    turn, radius = 2 * np.pi / len(numbers), 0.69 / np.sin(np.pi / len(numbers))
    around = [np.array([np.cos(i * turn), np.sin(i * turn), 0.0]) for i in range(len(numbers))]
    atoms = [(z, radius * unit) for z, unit in zip(numbers, around, strict=True)]
    bare = [i for i, z in enumerate(numbers) if z != 6 and i not in protonated]
    return atoms + [(1, (radius + 1.05) * unit) for i, unit in enumerate(around) if i not in bare]


def around_centre(centre, number, length, n):
    corners = {3: [(1, 0, 0), (-0.5, 0.866, 0), (-0.5, -0.866, 0)]}
    corners[4] = [np.array(c) / 3**0.5 for c in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))]
    return [(centre, (0, 0, 0)), *[(number, length * np.array(c)) for c in corners[n]]]


PYRIDINE = ring(7, 6, 6, 6, 6, 6)
PYRAZINE = ring(7, 6, 6, 7, 6, 6)
IMIDAZOLATE = ring(7, 6, 7, 6, 6)
IMIDAZOLE = ring(7, 6, 7, 6, 6, protonated=(0,))
OXAZOLE = ring(8, 6, 7, 6, 6)
TETRAFLUOROBORATE = around_centre(5, 9, 1.4, 4)
NITRATE = around_centre(7, 8, 1.24, 3)
PERCHLORATE = around_centre(17, 8, 1.43, 4)
FORMATE = [(6, (0, 0, 0)), (8, (1.25, 0, 0)), (8, (-0.62, 1.08, 0)), (1, (-0.55, -0.95, 0))]
HEXAFLUOROPHOSPHATE = [(15, (0, 0, 0)), *[(9, tuple(1.6 * end)) for end in (*np.eye(3), *-np.eye(3))]]
# Cyanide, azide, nitrite, thiocyanate and cyanate.
CHAINS = ((6, 7), (7, 7, 7), (8, 7, 8), (16, 6, 7), (7, 6, 8))
CHAINS = [[(z, (1.3 * i, 0, 0)) for i, z in enumerate(chain)] for chain in CHAINS]
DICYANAMIDE = [(7, (1.2 * i, 0, 0)) if i % 2 == 0 else (6, (1.2 * i, 0, 0)) for i in range(5)]
TETRAHEDRAL = [end for _, end in around_centre(0, 0, 1.0, 4)[1:]]
PHOSPHORYL = [(15, (0, 0, 0)), (8, 1.5 * TETRAHEDRAL[0]), *[(17, 2.0 * end) for end in TETRAHEDRAL[1:]]]
ACETONITRILE = [(7, 2.6 * TETRAHEDRAL[0]), (6, 1.45 * TETRAHEDRAL[0]), (6, (0, 0, 0))]
ACETONITRILE += [(1, 1.09 * end) for end in TETRAHEDRAL[1:]]
FORMIC_ACID = [*around_centre(6, 8, 1.25, 3)[:3], (1, (-0.55, -0.95, 0)), (1, (2.2, 0, 0))]
CHLORIDE = [(17, (0, 0, 0))]
TRIIODIDE = [(53, (-2.9, 0, 0)), (53, (0, 0, 0)), (53, (2.9, 0, 0))]
AMMONIUM = around_centre(7, 1, 1.02, 4)
WATER = [(8, (0, 0, 0)), (1, (0.76, 0.59, 0)), (1, (-0.76, 0.59, 0))]


def crystal(*parts):
    """Parts far from each other, along the longest edge of a cell."""
    cell = np.diag([10.0 * len(parts), 12.0, 12.0])
    atoms = [(z, (x + 10.0 * i, y, w)) for i, part in enumerate(parts) for z, (x, y, w) in part]
    places = np.array([place for _, place in atoms]) + 5.0
    return Crystal(cell, places @ np.linalg.inv(cell), np.array([z for z, _ in atoms], dtype=np.int64))


def missing(*parts, metal):
    return missing_anions(bond_graph(crystal([(metal, (0, 0, 0))], *parts)))


@pytest.mark.parametrize(
    "ligand", [*(PYRIDINE, PYRAZINE, IMIDAZOLE, OXAZOLE, WATER, PHOSPHORYL, ACETONITRILE, FORMIC_ACID)]
)
def test_a_neutral_ligand_balances_nothing(ligand):
    assert missing(ligand, metal=SILVER) == 1
    assert missing(ligand, metal=GOLD) == 1
    assert missing(ligand, ligand, metal=ZINC) == missing(ligand, metal=RUTHENIUM) == 2


@pytest.mark.parametrize(
    "anion",
    [
        *(IMIDAZOLATE, TETRAFLUOROBORATE, HEXAFLUOROPHOSPHATE, PERCHLORATE, NITRATE),
        *(FORMATE, CHLORIDE, TRIIODIDE, DICYANAMIDE, *CHAINS),
    ],
)
def test_an_anion_balances_its_charge(anion):
    assert missing(PYRIDINE, anion, metal=SILVER) == 0


@pytest.mark.parametrize(
    "anion",
    [
        *(
            IMIDAZOLATE,
            TETRAFLUOROBORATE,
            PERCHLORATE,
            NITRATE,
            FORMATE,
            CHLORIDE,
            DICYANAMIDE,
            *CHAINS,
        )
    ],
)
def test_one_anion_of_two_is_missed(anion):
    assert missing(PYRIDINE, anion, metal=ZINC) == 1


def test_a_cation_needs_an_anion_too():
    assert missing(CHLORIDE, AMMONIUM, metal=SILVER) == 1


def test_of_a_metal_that_may_be_an_anion_nothing_is_said():
    assert missing(PYRIDINE, metal=TIN) == 0


def test_a_carbonyl_needs_no_anion():
    ends = [1.9 * np.array(c) for c in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    carbonyls = [atom for end in ends for atom in ((6, end), (8, 1.6 * end))]
    assert missing_anions(bond_graph(crystal([(RUTHENIUM, (0, 0, 0)), *carbonyls]))) == 0


def test_a_carbon_on_a_metal_may_be_an_anion():
    """Dimethylzinc."""
    turns = np.radians([0, 120, 240])
    methyl = [(6, (2.0, 0, 0)), *[(1, (2.36, 1.03 * np.cos(a), 1.03 * np.sin(a))) for a in turns]]
    both = [(z, (side * x, y, w)) for side in (1, -1) for z, (x, y, w) in methyl]
    assert missing_anions(bond_graph(crystal([(ZINC, (0, 0, 0)), *both]))) == 0


def test_a_row_names_the_missing_anions():
    warnings = check_crystal(crystal([(SILVER, (0, 0, 0))], PYRIDINE))
    (text,) = (text for text in warnings if text.startswith("missing-anions: "))
    assert "1 positive" in text
    assert "missing-anions" not in NOTES


def test_missing_anions_alone_widen_an_error_bar():
    """Two pyridines on zinc: the number of electrons is even, and no ligand has a charge."""
    assert is_unbalanced(crystal([(ZINC, (0, 0, 0))], PYRIDINE, PYRIDINE))
    assert not is_unbalanced(crystal([(ZINC, (0, 0, 0))], PYRIDINE, CHLORIDE, CHLORIDE))
