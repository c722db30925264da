"""Space groups as files state them: twice, in loops, by number alone, or in a short name."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from mofgap.crystals.cif import read_cif, read_cif_bytes
from mofgap.crystals.crystal import Crystal

OBLIQUE = {"a": (15, 16, 17, 105, 90, 90), "b": (15, 16, 17, 90, 105, 90), "c": (15, 16, 17, 90, 90, 105)}


def block(symmetry: str, cell: tuple[float, ...] = OBLIQUE["b"], name: str = "x") -> str:
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [
        f"data_{name}",
        *(f"_cell_{tag} {value}" for tag, value in zip(tags, cell, strict=True)),
        symmetry,
    ]
    lines += ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    lines += [*(f"_atom_site_fract_{axis}" for axis in "xyz"), "Zn1 Zn 0.0812 0.2231 0.1387", ""]
    return "\n".join(lines)


def listed(name: str, tag: str = "_symmetry_equiv_pos_as_xyz") -> str:
    return "\n".join(["loop_", tag, *(f"'{op.triplet()}'" for op in gemmi.SpaceGroup(name).operations())])


def only(text: str) -> Crystal:
    (crystal,) = read_cif(text)
    assert isinstance(crystal, Crystal)
    return crystal


@pytest.mark.parametrize(
    ("symmetry", "words"),
    [
        (
            "_space_group_name_H-M_alt 'P 1'\n_symmetry_space_group_name_H-M 'P 1 21/n 1'",
            "two space groups, P 1 and P 1 21/n 1",
        ),
        (
            listed("P 1", "_space_group_symop_operation_xyz") + "\n" + listed("P 1 21/n 1"),
            "1 operators listed and used, but a second list has 4",
        ),
        (
            listed("P 1 21/c 1", "_space_group_symop_operation_xyz") + "\n" + listed("P 1 21/n 1"),
            "4 operators listed and used, but a second list has 4 that differ",
        ),
        ("_space_group_name_Hall 'P 1'\n_symmetry_space_group_name_Hall '-P 2yn'", "P 1 and -P 2yn"),
        (
            "_space_group_name_H-M_alt 'P 21/c'\n_symmetry_space_group_name_H-M 'P 21/n'",
            "two settings of a space group, P 21/c and P 21/n",
        ),
        (
            "_space_group_name_H-M_alt 'P 1 2 1'\n_space_group_IT_number 3\n_symmetry_Int_Tables_number 14",
            "P 1 2 1 and number 14",
        ),
    ],
)
def test_symmetry_that_is_stated_twice_must_agree(symmetry: str, words: str) -> None:
    (warning,) = only(block(symmetry)).warnings
    assert warning.startswith("symmetry-disagreement") and words in warning


def test_a_name_in_a_loop_with_its_number_is_read() -> None:
    tags = "loop_\n_symmetry_space_group_name_H-M\n_symmetry_Int_Tables_number\n"
    crystal = only(block(f"{tags}'P 1 21/n 1' 14"))
    assert crystal.warnings == ()
    assert np.array_equal(crystal.frac_coords, only(block(listed("P 1 21/n 1"))).frac_coords)


def test_a_list_may_be_written_twice() -> None:
    twice = listed("P 1 21/n 1", "_space_group_symop_operation_xyz") + "\n" + listed("P 1 21/n 1")
    assert only(block(twice + "\n'x,  y,  z'")).warnings == ()


@pytest.mark.parametrize(
    ("setting", "number", "n_warnings"),
    [("C -1", 2, 0), ("P -1", 2, 0), ("P 1", 2, 1), ("C 1 2/m 1", 12, 0), ("C 1 2/m 1", 10, 1)],
)
def test_a_number_may_mean_a_setting_of_another_centring(setting: str, number: int, n_warnings: int) -> None:
    """Of number 2, C -1 lists four operators, P -1 two. Centred, P 2/m (10) is another group, C 2/m (12)."""
    cell = OBLIQUE["b"]
    crystal = only(block(listed(setting) + f"\n_symmetry_Int_Tables_number {number}", cell))
    assert len(crystal.warnings) == n_warnings


@pytest.mark.parametrize(
    ("short", "axis", "full"),
    [
        ("P 21/n", "a", "P 21/n 1 1"),
        ("P 21/n", "b", "P 1 21/n 1"),
        ("P 21/n", "c", "P 1 1 21/n"),
        ("P21/b", "a", "P 21/b 1 1"),
        ("P21/c", "b", "P 1 21/c 1"),
        ("C 2", "c", "C 1 1 2"),
        ("P m", "c", "P 1 1 m"),
        ("I 2/a", "c", "I 1 1 2/a"),
    ],
)
def test_the_unique_axis_of_a_short_name_is_that_of_the_cell(short: str, axis: str, full: str) -> None:
    crystal = only(block(f"_symmetry_space_group_name_H-M '{short}'", OBLIQUE[axis]))
    assert crystal.warnings == ()
    assert np.array_equal(crystal.frac_coords, only(block(listed(full), OBLIQUE[axis])).frac_coords)


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ("P 2_1/m 2_1/n 2_1/b", "P m n b"),
        ("P 42/m 2/m 2/c", "P 42/m m c"),
        ("P -3 2/c 1", "P -3 c 1"),
        ("P 1 2/m 1", "P 1 2/m 1"),
    ],
)
def test_a_full_name_means_the_group_of_the_short_one(full: str, short: str) -> None:
    cell = (15, 15, 17, 90, 90, 120 if "3" in short else 90)
    crystal = only(block(f"_space_group_name_H-M_full '{full}'", cell))
    assert crystal.warnings == ()
    assert np.array_equal(crystal.frac_coords, only(block(listed(short), cell)).frac_coords)


def test_files_that_were_appended_with_their_marks_are_all_read() -> None:
    mark = b"\xef\xbb\xbf"
    text = b"".join(mark + block("", name=name).encode() for name in ("one", "two"))
    assert [entry.structure_id for entry in read_cif_bytes(text, "both.cif")] == ["one", "two"]
