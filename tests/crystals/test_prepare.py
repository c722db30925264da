"""Each step: what it changes, what it leaves to the last digit, and that a second time changes nothing."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.bonds import pairs_within
from mofgap.crystals.checks import NOTES, check_crystal
from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.bond_lengths import LARGEST_CHANGE_ANGSTROM, correct_bond_lengths
from mofgap.crystals.prepare.bond_lengths import LENGTHS_ANGSTROM as LENGTHS_OF_LIGANDS
from mofgap.crystals.prepare.config import PREPARATION_NOTES, PreparationConfig
from mofgap.crystals.prepare.guests import remove_guests
from mofgap.crystals.prepare.hydrogen_lengths import LENGTHS_ANGSTROM, stretch_hydrogens
from mofgap.crystals.prepare.missing_hydrogens import add_ring_hydrogens
from mofgap.crystals.prepare.primitive import to_primitive
from mofgap.crystals.prepare.steps import prepare, steps_of, with_geometry
from mofgap.shipped import shipped_folder

EDGE = 9.0
# Formula units of magnesium formate with water beside them, X-ray lengths of C-H and O-H; angstrom.
FORMATE = [
    (12, (0.0, 0.0, 0.0)),
    (8, (1.95, 0.0, 0.35)),
    (6, (2.75, 0.0, -0.62)),
    (1, (2.40, 0.0, -1.50)),
    (8, (3.97, 0.0, -0.45)),
]
WATER = [(8, (4.5, 4.5, 4.5)), (1, (5.16, 4.5, 5.01)), (1, (3.84, 4.5, 5.01))]
NITRATE = [(7, (4.5, 4.5, 4.5)), (8, (5.75, 4.5, 4.5)), (8, (3.875, 5.58, 4.5)), (8, (3.875, 3.42, 4.5))]
EVERY_STEP = PreparationConfig(guests="remove", add_hydrogens=True)
STEPS = steps_of(EVERY_STEP)


def crystal(*parts: list[tuple[int, tuple[float, float, float]]]) -> Crystal:
    atoms = [atom for part in parts for atom in part]
    cart = np.array([place for _, place in atoms], dtype=np.float64)
    return Crystal(EDGE * np.eye(3), cart / EDGE, np.array([z for z, _ in atoms], dtype=np.int64), "made")


def example(name: str) -> Crystal:
    (path,) = shipped_folder("examples").glob(f"{name}_*.cif")
    (found,) = read_cif(path.read_text())
    assert isinstance(found, Crystal)
    return found


def doubled(one: Crystal, times: tuple[int, int, int] = (1, 1, 2)) -> Crystal:
    """A supercell."""
    shifts = np.array(list(np.ndindex(*times)), dtype=np.float64)
    frac = (one.frac_coords[None] + shifts[:, None]).reshape(-1, 3) / times
    return replace(
        one,
        cell=one.cell * np.array(times)[:, None],
        frac_coords=frac,
        atomic_numbers=np.tile(one.atomic_numbers, len(shifts)),
    )


def notes(structure: Crystal) -> list[str]:
    return [text.split(":")[0] for text in structure.warnings]


def shortest(structure: Crystal, element: int) -> float:
    """The shortest distance between hydrogen and an element."""
    z = structure.atomic_numbers
    pairs = pairs_within(structure.cell, structure.frac_coords, 1.6, centres=z == 1)
    return float(pairs.distances[z[pairs.second] == element].min())


# --- lengths of bonds to hydrogen


@pytest.mark.parametrize(("element", "length"), sorted(LENGTHS_ANGSTROM.items()))
def test_a_short_bond_gets_the_length_of_its_element(element: int, length: float) -> None:
    pair = crystal([(element, (8.8, 1.0, 1.0)), (1, (0.6, 1.0, 1.0))])  # across the cell's face
    found = stretch_hydrogens(pair)
    assert shortest(found, element) == pytest.approx(length, abs=1e-9)
    assert np.array_equal(found.frac_coords[0], pair.frac_coords[0])
    (note,) = found.warnings
    assert note.startswith("hydrogen-lengths: ") and ": 1 " in note


def test_a_relaxed_structure_is_not_touched() -> None:
    relaxed = stretch_hydrogens(crystal(FORMATE))
    assert stretch_hydrogens(relaxed) is relaxed
    slightly = crystal([(6, (1.0, 1.0, 1.0)), (1, (2.05, 1.0, 1.0))])
    assert stretch_hydrogens(slightly) is slightly


def test_hydrogen_on_a_metal_and_in_h2_stays() -> None:
    odd = crystal([(30, (1.0, 1.0, 1.0)), (1, (2.2, 1.0, 1.0)), (1, (5.0, 5.0, 5.0)), (1, (5.6, 5.0, 5.0))])
    assert stretch_hydrogens(odd) is odd


@pytest.mark.parametrize("other", [(8, (2.7, 1.0, 1.0)), (15, (3.385, 1.0, 1.0))])
def test_hydrogen_between_two_atoms_is_not_given_to_the_other(other: tuple[int, tuple[float, ...]]) -> None:
    squeezed = crystal([(8, (1.0, 1.0, 1.0)), (1, (1.85, 1.0, 1.0)), other])
    assert stretch_hydrogens(squeezed) is squeezed


@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 0.5))
@settings(max_examples=60)
def test_stretching_twice_is_stretching_once(seed: int, spread: float) -> None:
    rng = np.random.default_rng(seed)
    structure = crystal(FORMATE, WATER)
    noise = rng.normal(scale=spread, size=structure.frac_coords.shape) / EDGE
    once = stretch_hydrogens(replace(structure, frac_coords=structure.frac_coords + noise))
    assert stretch_hydrogens(once) is once


# --- geometry, and bonds inside ligands


def carboxylate(structure: Crystal) -> tuple[float, float, float]:
    """C-O length on the metal's side, length of the other, and angle between the two in degrees."""
    places = structure.cart_coords
    near, far = places[1] - places[2], places[4] - places[2]
    lengths = np.linalg.norm(near), np.linalg.norm(far)
    cosine = near @ far / lengths[0] / lengths[1]
    return float(lengths[0]), float(lengths[1]), float(np.degrees(np.arccos(cosine)))


def test_short_bonds_to_hydrogen_mark_an_experimental_geometry() -> None:
    raw = crystal(FORMATE)
    assert prepare(raw).experimental
    assert prepare(raw, PreparationConfig(hydrogen_lengths=False)).experimental
    relaxed = stretch_hydrogens(raw)
    assert not prepare(relaxed).experimental
    assert with_geometry(relaxed, "auto") is relaxed


@pytest.mark.parametrize(("said", "expected"), [("relaxed", False), ("experimental", True)])
def test_what_is_said_of_the_geometry_goes_before_what_is_seen(said, expected) -> None:
    for structure in (crystal(FORMATE), stretch_hydrogens(crystal(FORMATE))):
        assert prepare(structure, PreparationConfig(said)).experimental == expected


def test_bonds_of_a_ligand_come_near_the_lengths_of_dft_and_angles_stay() -> None:
    raw = replace(crystal(FORMATE), experimental=True)
    found = correct_bond_lengths(raw)
    (note,) = found.warnings
    assert note.startswith("bond-lengths: 2 ligand bonds")
    for before, after in zip(carboxylate(raw)[:2], carboxylate(found)[:2], strict=True):
        xray, relaxed, slope = LENGTHS_OF_LIGANDS[(6, 3), (8, 1)]
        wanted = relaxed + slope * (before - xray)
        assert abs(after - wanted) < 0.4 * abs(before - wanted)
    assert carboxylate(found)[2] == pytest.approx(carboxylate(raw)[2], abs=1.0)
    assert shortest(found, 6) == pytest.approx(shortest(raw, 6), abs=1e-9)  # hydrogen goes with its carbon
    assert correct_bond_lengths(found) is found


def test_a_bond_of_impossible_length_changes_by_no_more_than_others_may() -> None:
    short = [*FORMATE[:4], (8, (3.80, 0.0, -0.60))]
    raw = replace(crystal(short), experimental=True)
    before, after = carboxylate(raw)[1], carboxylate(correct_bond_lengths(raw))[1]
    assert before < 1.06 and 0.02 < after - before <= LARGEST_CHANGE_ANGSTROM


def test_bonds_of_a_relaxed_structure_stay() -> None:
    relaxed = crystal(FORMATE)
    assert correct_bond_lengths(relaxed) is relaxed


def test_bonds_are_corrected_alike_in_any_order_and_cell() -> None:
    raw = replace(crystal(FORMATE, WATER), experimental=True)
    once = correct_bond_lengths(raw)
    order = np.random.default_rng(0).permutation(raw.n_atoms)
    mixed = replace(raw, frac_coords=raw.frac_coords[order] + 0.3, atomic_numbers=raw.atomic_numbers[order])
    assert np.allclose(correct_bond_lengths(mixed).frac_coords - 0.3, once.frac_coords[order], atol=1e-6)
    twice = correct_bond_lengths(doubled(raw))
    assert np.allclose(twice.cart_coords[: raw.n_atoms], once.cart_coords, atol=1e-5)


@pytest.mark.parametrize("off", [0.0, 0.03], ids=["equally near", "nearer to one"])
def test_a_hydrogen_between_two_atoms_moves_alike_in_any_order(off: float) -> None:
    mirrored = [(z, (10.3 - x, y, place)) for z, (x, y, place) in FORMATE]
    bridge = [(1, (5.15 - off, 0.0, -0.45))]
    raw = crystal(FORMATE, mirrored, bridge)
    raw = replace(raw, cell=15 * np.eye(3), frac_coords=raw.cart_coords / 15, experimental=True)
    once = correct_bond_lengths(raw)
    along = (once.frac_coords - raw.frac_coords)[-1, 0]
    assert (abs(along) > 1e-6) == bool(off), "the moves of two mirror images cancel"
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(raw.n_atoms)
        mixed = replace(
            raw, frac_coords=raw.frac_coords[order] + 0.3, atomic_numbers=raw.atomic_numbers[order]
        )
        found = correct_bond_lengths(mixed).frac_coords - 0.3
        assert np.allclose(found, once.frac_coords[order], atol=1e-6)


# --- primitive cell


@pytest.mark.parametrize("times", [(1, 1, 2), (2, 2, 1), (3, 1, 1)])
def test_a_supercell_is_reduced_and_its_atoms_stay_in_place(times: tuple[int, int, int]) -> None:
    one = crystal(FORMATE, WATER)
    many = doubled(one, times)
    found = to_primitive(many)
    assert found.n_atoms == one.n_atoms and found.volume == pytest.approx(one.volume)
    assert notes(found) == ["primitive-cell"]
    offsets = (found.cart_coords[:, None] - many.cart_coords[None]) @ np.linalg.inv(many.cell)
    offsets -= np.round(offsets)
    distances = np.linalg.norm(offsets @ many.cell, axis=2)
    assert distances.min(axis=1).max() < 1e-6
    assert np.array_equal(many.atomic_numbers[distances.argmin(axis=1)], found.atomic_numbers)


def test_a_centred_cell_is_reduced() -> None:
    body = [(z, (x + EDGE / 2, y + EDGE / 2, w + EDGE / 2)) for z, (x, y, w) in FORMATE]
    assert to_primitive(crystal(FORMATE, body)).n_atoms == len(FORMATE)


def test_spglib_says_nothing_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would where displaced atoms leave a group that it cannot bring to its standard."""
    monkeypatch.delenv("SPGLIB_WARNING", raising=False)
    to_primitive(doubled(crystal(FORMATE)))
    assert os.environ["SPGLIB_WARNING"] == "OFF"


def test_a_primitive_cell_is_not_touched() -> None:
    one = crystal(FORMATE)
    assert to_primitive(one) is one
    # Twice the atoms of each kind, but no shift maps one half onto the other.
    turned = [(z, (-x, -y, -w + 4.5)) for z, (x, y, w) in FORMATE]
    both = crystal(FORMATE, turned)
    assert to_primitive(both) is both


def test_what_differs_by_more_than_the_tolerance_is_no_copy() -> None:
    many = doubled(crystal(FORMATE))
    frac = many.frac_coords.copy()
    frac[3, 0] += 0.05 / EDGE
    moved = replace(many, frac_coords=frac)
    assert to_primitive(moved) is moved


# --- guests


def test_water_is_removed_on_request_and_ions_stay() -> None:
    wet = crystal(FORMATE, WATER)
    found = remove_guests(wet)
    assert found.atomic_numbers.tolist() == [z for z, _ in FORMATE]
    assert found.warnings == ("guests-removed: 1 H2O not bonded to any metal",)
    charged = crystal(FORMATE, NITRATE)
    assert remove_guests(charged) is charged
    assert "guests-removed" not in notes(prepare(wet))
    assert any(text.startswith("guest-molecules: 1 H2O") for text in check_crystal(wet))


def test_a_cation_of_two_charges_stays() -> None:
    """Hydrazinium, whose number of electrons is even; hydrazine is removed."""
    turns = np.radians([0.0, 120.0, 240.0])
    ammonium = [(7, (0.725, 0.0, 0.0)), *[(1, (1.06, 0.96 * np.cos(a), 0.96 * np.sin(a))) for a in turns]]
    hydrazinium = [(z, (side * x, y, w)) for side in (1, -1) for z, (x, y, w) in ammonium]
    charged = crystal(FORMATE, [(z, (x + 4.5, y + 4.5, w + 4.5)) for z, (x, y, w) in hydrazinium])
    assert remove_guests(charged) is charged
    assert "charged-framework" in [text.split(":")[0] for text in check_crystal(charged)]
    hydrazine = [atom for i, atom in enumerate(hydrazinium) if i not in (3, 7)]
    neutral = crystal(FORMATE, [(z, (x + 4.5, y + 4.5, w + 4.5)) for z, (x, y, w) in hydrazine])
    assert notes(remove_guests(neutral)) == ["guests-removed"]


def test_a_chain_without_metal_is_no_guest() -> None:
    # Carbon atoms all along the cell, 1.5 angstrom apart, beside a metal bonded to oxygen.
    chain = [(6, (1.5 * i, 6.0, 6.0)) for i in range(6)]
    structure = crystal(FORMATE, chain)
    assert remove_guests(structure) is structure
    assert "guest-molecules" not in [text.split(":")[0] for text in check_crystal(structure)]


def test_molecules_alone_are_no_guests() -> None:
    ice = crystal(WATER)
    assert remove_guests(ice) is ice


# --- missing hydrogens


@pytest.mark.parametrize("name", ["MOF-5", "ZIF-8", "UiO-67"])
def test_hydrogens_of_rings_come_back_where_they_were(name: str) -> None:
    whole = stretch_hydrogens(example(name))
    z = whole.atomic_numbers
    pairs = pairs_within(whole.cell, whole.frac_coords, 1.7)
    partner = np.zeros(len(z), dtype=np.int64)
    np.add.at(partner, pairs.first[z[pairs.second] != 1], 1)
    on_carbon = (z[pairs.first] == 1) & (z[pairs.second] == 6) & (pairs.distances < 1.2)
    ring = on_carbon & (np.bincount(pairs.first, minlength=len(z))[pairs.second] == 3)
    gone = np.zeros(len(z), dtype=bool)
    gone[pairs.first[ring]] = True
    assert gone.any()
    bare = replace(whole, frac_coords=whole.frac_coords[~gone], atomic_numbers=z[~gone])
    found = add_ring_hydrogens(bare)
    assert found.n_atoms == whole.n_atoms
    added = found.frac_coords[bare.n_atoms :]
    difference = added[:, None] - whole.frac_coords[gone][None]
    difference -= np.round(difference)
    assert np.linalg.norm(difference @ whole.cell, axis=2).min(axis=1).max() < 0.15
    assert add_ring_hydrogens(found) is found
    assert "missing-hydrogens" not in [text.split(":")[0] for text in check_crystal(found)]


def test_no_hydrogen_is_put_beside_another_atom() -> None:
    angles = np.arange(6) * np.pi / 3
    ring = [(6, (4.5 + 1.39 * np.cos(a), 4.5 + 1.39 * np.sin(a), 4.5)) for a in angles]
    free = crystal(ring)
    assert add_ring_hydrogens(free).n_atoms == 12
    crowded = crystal(ring, [(8, (4.5 + 1.39 + 2.2, 4.5, 4.5))])
    assert add_ring_hydrogens(crowded).n_atoms == 12  # five hydrogens


def test_a_carbon_between_two_double_bonds_gets_no_hydrogen() -> None:
    """Carbodiimide, nearly linear, whose bonds are as long as some of rings."""
    bent = crystal(FORMATE, [(6, (4.5, 5.2, 5.0)), (7, (3.24, 5.0, 5.0)), (7, (5.76, 5.0, 5.0))])
    assert add_ring_hydrogens(bent) is bent


def test_a_chain_of_carbon_gets_no_hydrogen() -> None:
    """Its bonds and angles, of a structure with disorder, are those of a ring."""
    chain = [(6, (1.2 + 1.21 * i, 4.5 + 0.35 * (-1) ** i, 4.5)) for i in range(6)]
    found = crystal(FORMATE, chain)
    assert add_ring_hydrogens(found) is found


def test_hydrogens_that_are_added_mark_an_experimental_geometry() -> None:
    angles = np.arange(6) * np.pi / 3
    bare = crystal([(6, (4.5 + 1.39 * np.cos(a), 4.5 + 1.39 * np.sin(a), 4.5)) for a in angles])
    assert prepare(bare, PreparationConfig(add_hydrogens=True)).experimental == 1
    assert not prepare(bare, PreparationConfig("relaxed", add_hydrogens=True)).experimental
    assert not prepare(bare).experimental


# --- all together


@given(seed=st.integers(0, 10_000), spread=st.floats(0.0, 0.3), n=st.integers(1, 2))
@settings(max_examples=40)
def test_preparing_twice_is_preparing_once(seed: int, spread: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    structure = crystal(FORMATE, WATER)
    noise = rng.normal(scale=spread, size=structure.frac_coords.shape) / EDGE
    structure = doubled(replace(structure, frac_coords=structure.frac_coords + noise), (1, 1, n))
    once = prepare(structure, EVERY_STEP)
    assert prepare(once, EVERY_STEP) is once
    for name, step in STEPS.items():
        found = step(structure)
        assert step(found) is found, name


@pytest.mark.parametrize("path", sorted(shipped_folder("examples").glob("*.cif")), ids=lambda p: p.stem)
def test_examples_are_prepared_once_and_say_what_was_done(path) -> None:
    (raw,) = read_cif(path.read_text())
    once = prepare(raw)
    assert prepare(once) is once
    told = set(notes(once)) - set(notes(raw))
    assert told <= PREPARATION_NOTES <= NOTES
    changed = once.n_atoms != raw.n_atoms or not np.array_equal(once.frac_coords, raw.frac_coords)
    assert changed == bool(told)


def test_every_step_can_be_switched_off() -> None:
    raw = doubled(crystal(FORMATE, WATER))
    off = PreparationConfig("relaxed", hydrogen_lengths=False, bond_lengths=False, primitive_cell=False)
    assert prepare(raw, off) is raw
    steps = ["guests-removed", "hydrogen-lengths", "bond-lengths", "primitive-cell"]
    assert notes(prepare(raw, EVERY_STEP)) == steps


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"guests: .*keep, remove"):
        PreparationConfig(guests="drop")  # type: ignore[arg-type]
