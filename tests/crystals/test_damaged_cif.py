import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mofgap.crystals.cif import read_cif, read_cif_bytes
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.entry import ReadFailure
from tests.crystals.test_cif import CIFS, GOOD, only


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("'C H O2 Zn'", f"'C{'9' * 400}'"),
        ("'C H O2 Zn'", "'C0'"),
        ("'x, y, z'", f"'x, y, z+{'9' * 90}'"),
        ("_cell_length_a 6.0", "_cell_length_a 1e300"),
        ("_cell_length_a 6.0", "_cell_length_a 1e-300"),
        ("0.31000", "-1e300"),
        ("0.31000", "1e18"),
    ],
)
def test_absurd_numbers_warn_of_nothing_on_the_terminal(before, after):
    assert before in GOOD
    (entry,) = read_cif(GOOD.replace(before, after))
    assert isinstance(entry, ReadFailure) or entry.n_atoms == 5


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("_cell_length_b 6.0", "_cell_length_b 1e5", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b -6.0", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b nan", "bad-cell"),
        ("_cell_length_b 6.0", "_cell_length_b 0.001", "bad-cell"),
        ("_cell_angle_beta 90", "_cell_angle_beta 0", "bad-cell"),
        ("_cell_angle_beta 90", "_cell_angle_beta 270", "bad-cell"),
        ("_cell_angle_beta 90", "_cell_angle_beta ?", "no-cell"),
        ("_cell_length_b 6.0", "_cell_length_b .", "no-cell"),
        ("_cell_length_a", "_symmetry_Int_Tables_number 1x\n_cell_length_a", "bad-value"),
        ("0.31000", "nan", "missing-coordinates"),
        (
            "a 6.0\n_cell_length_b 6.0\n_cell_length_c 6.0",
            "a 990\n_cell_length_b 990\n_cell_length_c 990",
            "bad-cell",
        ),
    ],
)
def test_absurd_values_are_refused_quickly(before, after, reason):
    assert before in GOOD
    assert only(read_cif(GOOD.replace(before, after))).reason.startswith(f"{reason}: ")


@pytest.mark.parametrize("axis", ["y", "z"])
@pytest.mark.parametrize("kind", ["fract", "Cartn"])
def test_a_missing_column_of_coordinates_is_refused(axis, kind):
    text = (CIFS / "cartesian.cif").read_text() if kind == "Cartn" else GOOD
    text = text.replace(f"_atom_site_{kind}_{axis}", f"_atom_site_other_{axis}")
    assert only(read_cif(text)).reason.startswith("missing-coordinates: ")


def test_empty_lines_do_not_cost_quadratic_time():
    assert only(read_cif("\n" * 300_000)).reason.startswith("empty-file")
    assert only(read_cif("\n" * 300_000 + GOOD)).n_atoms == 5


LINES = GOOD.splitlines(keepends=True)


@st.composite
def mutated(draw):
    """The bytes of a good CIF after a few accidents."""
    lines = list(LINES)
    for _ in range(draw(st.integers(0, 3))):
        del lines[draw(st.integers(0, len(lines) - 1))]
    if draw(st.booleans()):
        i, j = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines) - 1))
        lines[i], lines[j] = lines[j], lines[i]
    data = bytearray("".join(lines).encode())
    for _ in range(draw(st.integers(0, 4))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data)


@settings(max_examples=150)
@given(mutated(), st.sampled_from(["refuse", "majority"]))
def test_accidents_never_raise(data, disorder):
    entries = read_cif_bytes(data, "accident.cif", disorder=disorder)
    assert entries
    for entry in entries:
        if isinstance(entry, Crystal):
            assert 0 < entry.n_atoms <= 1000
            assert np.isfinite(entry.frac_coords).all()
            assert entry.volume > 0
            assert entry.atomic_numbers.min() > 0
        else:
            assert ": " in entry.reason
