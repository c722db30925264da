import numpy as np
import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.formula import formula_sum
from tests.crystals.test_disorder import majority, only

# Atoms of a 1,4-phenylene: element, place along the axis that the ring turns about, and distance from it, Å.
PHENYLENE = [("C", 1.39, 0.0), ("C", -1.39, 0.0)] + [
    (element, side * along, around * off)
    for element, along, off in (("C", 0.695, 1.204), ("H", 1.235, 2.139))
    for side in (1, -1)
    for around in (1, -1)
]


def rotated_rings(groups, degrees, occupancy, operations=("x,y,z",), cell_angstrom=14.0):
    """A CIF of a dicarboxylate of zinc, its ring given once for each group, turned by an angle each."""
    columns = ["label", "type_symbol", "fract_x", "fract_y", "fract_z", "disorder_group"]
    columns += ["occupancy"] if occupancy is not None else []
    rows = [(e, x, 0, 0, ".", 1) for e, x in (("C", 2.88), ("C", -2.88), ("Zn", 5.2), ("Zn", -5.2))]
    rows += [("O", x, y, 0, ".", 1) for x in (3.5, -3.5) for y in (1.08, -1.08)]
    rows += [(e, x, 0, 0, ".", 1) for e, x, off in PHENYLENE if not off]
    for group, angle in zip(groups, np.radians(degrees), strict=True):
        for e, x, off in PHENYLENE:
            if off:
                rows.append((e, x, off * np.cos(angle), off * np.sin(angle), group, occupancy))
    lines = [f"_cell_length_{a} {cell_angstrom}" for a in "abc"]
    lines += [f"_cell_angle_{a} 90" for a in ("alpha", "beta", "gamma")]
    lines += ["loop_", "_symmetry_equiv_pos_as_xyz", *(f"'{op}'" for op in operations), "loop_"]
    lines += [f"_atom_site_{name}" for name in columns]
    for i, (e, x, y, z, group, share) in enumerate(rows):
        at = [f"{v / cell_angstrom + 0.5:.5f}" for v in (x, y, z)]
        lines.append(" ".join([f"{e}{i}", e, *at, str(group)] + ([str(share)] if len(columns) == 7 else [])))
    return "data_ring\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("groups", "degrees", "occupancy", "operations"),
    [
        *(((1, 2), (0, angle), 0.5, ("x,y,z",)) for angle in (30, 60, 90)),
        *(((".", "."), (0, angle), 0.5, ("x,y,z",)) for angle in (10, 15, 20, 30, 60, 90)),
        ((1, 2, 3), (0, 60, 120), 0.333, ("x,y,z",)),
        *(((-1,), (angle,), 0.5, ("x,y,z", "x,y,-z")) for angle in (15, 30, 60)),
        *(((group,), (angle,), 0.5, ("x,y,z", "x,y,-z")) for group in (1, ".") for angle in (20, 30, 45)),
        ((1, 2), (0, 60), None, ("x,y,z",)),
        ((1, 2), (0, 60), "?", ("x,y,z",)),
        ((1, 2), (0, 60), ".", ("x,y,z",)),
        ((-1,), (30,), None, ("x,y,z", "x,y,-z")),
    ],
)
def test_majority_keeps_one_orientation_of_a_ring_with_its_hydrogens(groups, degrees, occupancy, operations):
    text = rotated_rings(groups, degrees, occupancy, operations)
    crystal = majority(text)
    assert formula_sum(crystal.atomic_numbers) == "C8 H4 O4 Zn2"
    (failure,) = read_cif(text)
    assert failure.reason.startswith("partial-occupancy")


METHANOL = [
    ("O", 0.0, 0.0, 0.0),
    ("C", 1.42, 0.0, 0.0),
    ("H", -0.32, 0.9, 0.0),
    ("H", 1.78, -0.51, 0.89),
    ("H", 1.78, -0.51, -0.89),
    ("H", 1.78, 1.03, 0.0),
]


@pytest.mark.parametrize(
    ("space_group", "shift", "group"),
    [
        ("P -1", (0.3, 0.95, 0.3), "-1"),
        ("P 3", (0.2, 1.5, 0.0), "-1"),
        ("P 6", (0.2, 2.6, 0.0), "-1"),
        ("P -1", (0.3, 0.95, 0.3), "1"),
    ],
)
def test_one_image_of_a_guest_beside_a_symmetry_element_stays(space_group, shift, group):
    """Images of a negative group exclude each other, and those of any group that touch without a bond."""
    n = {"P -1": 2, "P 3": 3, "P 6": 6}[space_group]
    edge, gamma = 15.0, 120 if n > 2 else 90
    cell = np.array([[1, 0, 0], [np.cos(np.radians(gamma)), np.sin(np.radians(gamma)), 0], [0, 0, 1]]) * edge
    lines = [f"data_x\n_symmetry_space_group_name_H-M '{space_group}'", f"_cell_angle_gamma {gamma}"]
    lines += [f"_cell_length_{a} {edge}" for a in "abc"] + [f"_cell_angle_{a} 90" for a in ("alpha", "beta")]
    lines += ["loop_", *(f"_atom_site_{column}" for column in ("label", "type_symbol", "occupancy"))]
    lines += [*(f"_atom_site_fract_{a}" for a in "xyz"), "_atom_site_disorder_group"]
    lines += ["Zn1 Zn 1 0.333333 0.666667 0.5 ." if n > 2 else "Zn1 Zn 1 0.5 0.5 0.5 ."]
    for i, (element, *place) in enumerate(METHANOL):
        frac = (np.array(place) + shift) @ np.linalg.inv(cell)
        lines.append(f"{element}{i} {element} {1 / n:.4f} {' '.join(f'{x:.5f}' for x in frac)} {group}")
    crystal = majority("\n".join(lines) + "\n")
    n_zinc = int((crystal.atomic_numbers == 30).sum())
    assert formula_sum(crystal.atomic_numbers[crystal.atomic_numbers != 30]) == "C H4 O" and n_zinc


def test_a_group_without_an_alternative_or_occupancies_is_there():
    assert formula_sum(only(read_cif(rotated_rings((1,), (0,), None))).atomic_numbers) == "C8 H4 O4 Zn2"
