from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mofgap.crystals.crystal import Crystal
from mofgap.report.screened import screened
from mofgap.report.screening_page import drawn_rows
from mofgap.report.structures import draw, drawings_of
from mofgap.screening.table import to_frame
from tests.report.test_screening_page import row


def test_structures_are_read_again_from_files_and_archives(
    write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    import zipfile

    write_cifs(tmp_path / "cifs", 3)
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.write(tmp_path / "cifs" / "s2.cif", "in/s2.cif")
    text = (tmp_path / "cifs" / "s0.cif").read_text()  # each atom twice, which is more than the row has
    (tmp_path / "cifs" / "s0.cif").write_text(text + text[text.index("\nZn1 ") + 1 :])
    rows = [
        row(1, "s0", file="cifs/s0.cif"),
        row(2, "s1", file="cifs/s1.cif", n_atoms=7),  # another structure than the one that was screened
        row(3, "s2", file="more.zip:in/s2.cif"),
        row(4, "gone", file="cifs/gone.cif"),
    ]
    table = screened(to_frame(rows))
    found = drawings_of(drawn_rows(table), [tmp_path / "nowhere", tmp_path])
    assert set(found) == {("cifs/s0.cif", "s0"), ("more.zip:in/s2.cif", "s2")}
    assert all("Zn" in drawing.symbols and len(drawing.cell) == 3 for drawing in found.values())


def test_a_structure_of_another_formula_is_not_drawn(
    write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    write_cifs(tmp_path, 2)
    path = tmp_path / "s1.cif"
    path.write_text(path.read_text().replace("\nO1 O ", "\nO1 C "))
    table = screened(to_frame([row(1, "s0", file="s0.cif"), row(2, "s1", file="s1.cif")]))
    assert set(drawings_of(drawn_rows(table), [tmp_path])) == {("s0.cif", "s0")}


def test_a_table_without_numbers_of_atoms_is_drawn_by_its_formulas(
    write_cifs: Callable[[Path, int], list[Path]], tmp_path: Path
) -> None:
    write_cifs(tmp_path, 2)
    frame = to_frame([row(1, "s0"), row(2, "s1", formula="CO2Zn")])
    for table in (frame.drop(columns="n_atoms"), frame.assign(n_atoms=None)):
        assert set(drawings_of(drawn_rows(screened(table)), [tmp_path])) == {("s0.cif", "s0")}


def test_drawings_complete_linkers_and_end_at_metals() -> None:
    # A chain -Zn-O-C-O-Zn- along a that crosses the face between C and the second O.
    cell = np.diag([8.0, 30.0, 30.0])
    x = np.array([4.0, 5.9, 7.2, 8.4 - 8.0])
    crystal = Crystal(cell, np.stack([x / 8, 0 * x, 0 * x], axis=1), np.array([30, 8, 6, 8]))
    drawing = draw(crystal)
    order = np.argsort(np.array(drawing.positions)[:, 0])
    # The O on the left is bonded to the C of the cell before, and so on to its Zn.
    assert [drawing.symbols[i] for i in order] == ["Zn", "O", "C", "O", "Zn", "O", "C", "O"]
    place = {int(atom): k for k, atom in enumerate(order)}
    bonds = sorted((min(place[i], place[j]), max(place[i], place[j])) for i, j in drawing.bonds)
    assert bonds == [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)]
    assert drawing.cell == cell.tolist()


def test_drawings_of_endless_networks_end() -> None:
    diamond = np.array([[0, 0, 0], [0.25, 0.25, 0.25]])
    cell = 3.57 * (1 - np.eye(3)) / 2
    drawing = draw(Crystal(cell, diamond, np.array([6, 6])))
    assert 8 <= len(drawing.symbols) <= 14


def test_metals_are_not_joined() -> None:
    crystal = Crystal(np.eye(3) * 9, np.array([[0, 0, 0], [0.28, 0, 0]]), np.array([29, 29]))
    assert draw(crystal).bonds == [] and draw(crystal).symbols == ["Cu", "Cu"]
