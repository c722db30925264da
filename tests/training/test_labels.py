from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mofgap.crystals.cif import read_cif
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import TableError
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.single import crystal_of
from mofgap.crystals.write import write_cif
from mofgap.screening.row import Row
from mofgap.screening.table import write_table
from mofgap.shipped import shipped_folder
from mofgap.training.labels import read_labels
from tests.training.conftest import spaced
from tests.training.test_label_splits import deal

Study = Callable[..., tuple[Path, Path]]


def test_labels_are_joined_to_structures_by_file_name(study: Study) -> None:
    path, cifs = study()
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.skipped == ()
    assert labels.frame.structure_id.tolist() == [f"mof-{i:03d}" for i in range(30)]
    assert labels.frame.gap_ev.tolist() == pytest.approx(np.linspace(0.5, 3, 30))
    assert labels.frame.atomic_numbers[3].tolist() == [30, 8, 6, 1]
    np.testing.assert_allclose(labels.frame.frac_coords[3], spaced(3).ravel(), atol=1e-6)
    rows = sorted(i for split in ("train", "val", "test") for i in labels.positions(split))
    assert rows == list(range(30))


def test_names_are_those_of_a_column_beside_the_identifier(study: Study) -> None:
    path, cifs = study(3)
    table = pd.read_csv(path).rename(columns={"name": "structure_id"})
    table = table.assign(name=["ABACUF01_FSR", "", "MIL-53"], other=1)
    twice = pd.concat([table, table[:1].assign(name="another")])
    twice.to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev", needed=())
    assert labels.names == ["ABACUF01", "", "MIL-53"]
    assert not labels.skipped and "labelled more than once with the same" in labels.notes[0]
    table.drop(columns="name").to_csv(path, index=False)
    assert read_labels(path, cifs, "gap_ev", needed=()).names == ["", "", ""]


def test_labels_may_name_the_file(study: Study) -> None:
    path, cifs = study()
    table = pd.read_csv(path)
    table["name"] += [".cif", ".cif.gz", ".CIF"] * 10
    table.to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.skipped == () and labels.frame.structure_id.tolist()[:3] == [
        "mof-000",
        "mof-001",
        "mof-002",
    ]


def test_structures_are_those_of_the_cifs_whatever_the_labels_hold_beside(study: Study) -> None:
    path, cifs = study(atomic_numbers=["[1 2]"] * 30, n_atoms=[7] * 30, frac_coords=[0] * 30)
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.frame.atomic_numbers[3].tolist() == [30, 8, 6, 1]


def test_labels_without_a_name_or_a_finite_gap_are_skipped(study: Study) -> None:
    path, cifs = study()
    table = pd.read_csv(path)
    table.loc[0, "gap_ev"] = np.inf
    pd.concat([table, pd.DataFrame({"name": ["", None], "gap_ev": [1.0, 2.0]})]).to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev")
    assert len(labels.frame) == 29
    assert labels.skipped == (
        "labels.csv, row 32: no name",
        "labels.csv, row 33: no name",
        "mof-000: no gap_ev between 0 and 25 eV",
    )


def test_a_file_that_is_probably_faulty_is_named(study: Study) -> None:
    path, cifs = study()
    sound = read_cif(next(shipped_folder("examples").glob("ZIF-8_*.cif")).read_text())[0]
    assert isinstance(sound, Crystal)
    (cifs / "mof-003.cif").write_text(write_cif(sound))
    faulty = read_labels(path, cifs, "gap_ev").faulty
    assert len(faulty) == 29 and not any(line.startswith("mof-003") for line in faulty)
    assert faulty[0].startswith("mof-000: its file is probably faulty: missing-hydrogens, ")


def test_disorder_and_large_cells_are_read_as_asked(study: Study) -> None:
    path, cifs = study()
    mof = cifs / "mof-003.cif"
    mof.write_text(mof.read_text().replace("_fract_z\n", "_fract_z\n_atom_site_occupancy\n"))
    lines = (f"{line} 0.6" if line.startswith(("Zn1", "O1", "C1", "H1")) else line for line in mof.open())
    mof.write_text("\n".join(line.replace("\n", "") for line in lines))
    assert "partial-occupancy" in read_labels(path, cifs, "gap_ev").skipped[0]
    assert not read_labels(path, cifs, "gap_ev", disorder="majority").skipped
    with pytest.raises(TableError, match="no label"):
        read_labels(path, cifs, "gap_ev", max_atoms=3)


def test_the_largest_cell_is_that_of_the_primitive_cell(study: Study) -> None:
    path, cifs = study()
    mof = cifs / "mof-003.cif"
    (small,) = read_cif(mof.read_text())
    assert isinstance(small, Crystal)
    twice = np.repeat(small.frac_coords / [2, 1, 1], 2, axis=0) + np.tile([[0, 0, 0], [0.5, 0, 0]], (4, 1))
    cell, numbers = small.cell * [[2], [1], [1]], np.repeat(small.atomic_numbers, 2)
    mof.write_text(write_cif(replace(small, cell=cell, atomic_numbers=numbers, frac_coords=twice)))
    labels = read_labels(path, cifs, "gap_ev", max_atoms=4)
    assert not labels.skipped and len(labels.frame.atomic_numbers[3]) == 4


@pytest.mark.parametrize("ending", ["", ".cif"])
def test_names_may_be_numbers_and_may_carry_the_ending(study: Study, ending: str) -> None:
    names = [f"{i:05d}" for i in range(30)]
    path, cifs = study(names=names)
    splits = ["train", "val", "test"] * 10
    named = pd.DataFrame({"file": [name + ending for name in names], "gap_ev": 1.0, "split": splits})
    named.to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.frame.structure_id.tolist() == names
    assert labels.skipped == ()


@pytest.mark.parametrize("names", [("A", "A.vasp"), ("B.vasp", "B")])
def test_a_label_goes_to_the_structure_of_that_very_name(study: Study, names: tuple[str, str]) -> None:
    """Files are read by alphabet, so that either comes first."""
    path, cifs = study(names=list(names))
    pd.DataFrame({"structure_id": [max(names)], "gap_ev": [2.0]}).to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev", needed=())
    assert labels.frame.structure_id.tolist() == [max(names)]
    assert [line.rpartition("/")[2] for line in labels.skipped] == [f"{min(names)}.cif: no label"]


def test_whatever_has_no_partner_is_listed(study: Study) -> None:
    path, cifs = study()
    (cifs / "mof-004.cif").rename(cifs / "stranger.cif")
    (cifs / "mof-007.cif").write_text("")
    (cifs / "again").mkdir()
    (cifs / "again" / "mof-009.cif").write_text((cifs / "mof-009.cif").read_text())
    labels = read_labels(path, cifs, "gap_ev")
    assert len(labels.frame) == 28
    skipped = "\n".join(labels.skipped)
    for expected in (
        "stranger.cif: no label",
        "mof-004: labelled, but no CIF",
        "mof-007: labelled, but no CIF",
        "mof-009.cif: mof-009 was read already",
    ):
        assert expected in skipped
    assert any("mof-007.cif: " in line for line in labels.skipped)
    assert len(labels.skipped) == 5


def test_gaps_that_are_none_are_listed(study: Study) -> None:
    gaps: list[object] = ["", "metal", -0.1, *np.linspace(0, 3, 27)]
    path, cifs = study(gap_ev=gaps)
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.skipped == tuple(f"mof-00{i}: no gap_ev between 0 and 25 eV" for i in range(3))
    assert labels.frame.gap_ev.min() == 0


def test_labels_that_contradict_are_left_out_and_the_same_one_again_is_listed(
    study: Study,
) -> None:
    path, cifs = study()
    given = pd.read_csv(path).astype({"gap_ev": str})
    again = given[1:2].assign(gap_ev=given.gap_ev[1] + "0")
    pd.concat([given, again]).to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev")
    assert (labels.skipped, len(labels.notes)) == ((), 1) and labels.notes[0].startswith("mof-001: ")
    assert len(labels.frame) == 30
    pd.concat([given, again.assign(gap_ev="7.5")]).to_csv(path, index=False)
    labels = read_labels(path, cifs, "gap_ev")
    assert labels.skipped == ("mof-001: labelled more than once, differently",)
    assert len(labels.frame) == 29


def test_a_file_of_several_structures_gives_none_its_own_label(study: Study) -> None:
    path, cifs = study()
    block = (cifs / "mof-001.cif").read_text()
    name = block.split("data_")[1].split()[0]
    other = block.replace(f"data_{name}", "data_other")
    (cifs / "mof-001.cif").write_text(block.replace(f"data_{name}", "data_first") + other)
    labels = read_labels(path, cifs, "gap_ev")
    assert "mof-001" not in set(labels.frame.structure_id)
    assert any(line.startswith("mof-001: ") for line in labels.skipped)


@pytest.mark.parametrize(
    ("target", "how", "message"),
    [
        ("gap_eV", {}, "no column 'gap_eV'; did you mean 'gap_ev'"),
        ("homo", {}, "no column 'homo'; known: name, gap_ev, part"),
        ("gap_ev", {"split_column": "parts"}, "no column 'parts'; did you mean 'part'"),
        ("gap_ev", {"split_column": "part"}, "part may be train, val, test, not 'validation'"),
    ],
)
def test_a_bad_column_is_named(study: Study, target: str, how: dict[str, str], message: str) -> None:
    path, cifs = study(part=["train", "validation"] * 15)
    with pytest.raises(TableError, match=message) as error:
        read_labels(path, cifs, target, **how)  # type: ignore[arg-type]
    assert "labels.csv" in str(error.value)


def test_each_kind_of_file_says_what_goes_with_it(study: Study, tmp_path: Path) -> None:
    path, cifs = study()
    with pytest.raises(TableError, match="name the folder of their CIFs"):
        read_labels(path, None, "gap_ev")
    with pytest.raises(TableError, match="holds structures itself"):
        read_labels(tmp_path / "table.parquet", cifs, "gap_ev")
    with pytest.raises(TableError, match=r"nowhere: missing-file: no such file or folder"):
        read_labels(path, tmp_path / "nowhere", "gap_ev")
    (tmp_path / "strangers").mkdir()
    with pytest.raises(TableError, match=r"strangers: no-structures: holds no structure"):
        read_labels(path, tmp_path / "strangers", "gap_ev")
    (tmp_path / "strangers" / "x.cif").write_text((cifs / "mof-001.cif").read_text())
    with pytest.raises(TableError, match=r"no label of .* belongs to a CIF"):
        read_labels(path, tmp_path / "strangers", "gap_ev")
    pd.DataFrame({"gap_ev": [1.0]}).to_csv(path, index=False)
    with pytest.raises(TableError, match=r"identifier.*structure_id"):
        read_labels(path, cifs, "gap_ev")


def test_why_no_structure_was_read_is_told(study: Study) -> None:
    path, cifs = study(1)
    (cifs / "mof-000.cif").write_text("")
    with pytest.raises(TableError, match=r"joined by file name\n.*mof-000\.cif: empty-file"):
        read_labels(path, cifs, "gap_ev")


def test_a_damaged_csv_is_named(study: Study) -> None:
    path, cifs = study(1)
    path.write_text("name;gap_ev\nmof-000;1,5\n")
    with pytest.raises(TableError, match=r"labels\.csv: separated by semicolons"):
        read_labels(path, cifs, "gap_ev")


@pytest.mark.parametrize("name", ["refcode", "mof_id", "filename"])
def test_names_may_stand_wherever_an_import_finds_them(study: Study, name: str) -> None:
    path, cifs = study()
    pd.read_csv(path).rename(columns={"name": name}).to_csv(path, index=False)
    assert read_labels(path, cifs, "gap_ev").skipped == ()


def test_columns_beside_the_labels_stay_where_they_are_asked_for(study: Study) -> None:
    family: list[object] = ["a", "NA", None] * 10
    path, cifs = study(family=family, note=list(range(30)))
    frame = read_labels(path, cifs, "gap_ev", keep=("family", "absent"), needed=()).frame
    assert not {"note", "absent"} & {*frame.columns}
    assert frame.family.isna().tolist() == [False, True, True] * 10


def test_a_missing_table_is_told(study: Study, tmp_path: Path) -> None:
    _, cifs = study()
    with pytest.raises(TableError, match=r"none\.csv: no such file; check the path$"):
        read_labels(tmp_path / "none.csv", cifs, "gap_ev")
    with pytest.raises(TableError, match=r"none\.parquet: no such file; check the path$"):
        read_labels(tmp_path / "none.parquet", None, "gap_ev")
    with pytest.raises(TableError, match=r"none\.csv: no such file; check the path$"):
        read_labels(tmp_path / "none.csv", None, "gap_ev")
    with pytest.raises(TableError, match=r"is a folder; name a table in it$"):
        read_labels(cifs.parent, cifs, "gap_ev")


@pytest.mark.parametrize(
    ("gaps", "message"),
    [
        (np.linspace(500, 4000, 30), "are they in meV"),
        ([0, 0, 0, 9.5, *np.linspace(500, 4000, 26)], "are they in meV"),
        (np.linspace(60, 290, 30), "are they in kJ/mol"),
        (np.linspace(1e8, 1e9, 30), "not in eV"),
        ([None] * 30, "none of the 30 values"),
        (np.linspace(-4, -1, 30), "between -4 and -1"),
    ],
)
def test_a_column_that_holds_no_gaps_in_ev_is_refused_with_its_likely_unit(
    study: Study, tmp_path: Path, tiny_frame: pd.DataFrame, gaps: list[object], message: str
) -> None:
    path, cifs = study(gap_ev=list(gaps))
    with pytest.raises(TableError, match=message) as error:
        read_labels(path, cifs, "gap_ev")
    assert "labels.csv" in str(error.value) and "gap_ev" in str(error.value)
    tiny_frame.assign(gap_ev=gaps).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(TableError, match=message):
        read_labels(tmp_path / "table.parquet", None, "gap_ev")


def test_a_few_gaps_in_another_unit_are_skipped_and_the_others_used(study: Study) -> None:
    path, cifs = study(gap_ev=[1500.0, 2300.0, *np.linspace(0.5, 3, 28)])
    assert len(read_labels(path, cifs, "gap_ev").skipped) == 2


def test_labels_may_be_the_excel_file_of_a_screening(study: Study, tmp_path: Path) -> None:
    path, cifs = study()
    rows = [
        Row(None, file=f"cifs/{name}.cif", structure_id=name, status="ok", gap_ev=gap)
        for name, gap in pd.read_csv(path).itertuples(index=False)
    ]
    write_table(tmp_path / "gaps.xlsx", rows)
    labels = read_labels(tmp_path / "gaps.xlsx", cifs, "gap_ev")
    assert deal(labels) == deal(read_labels(path, cifs, "gap_ev"))
    assert labels.frame.gap_ev.tolist() == pytest.approx(np.linspace(0.5, 3, 30))
    (tmp_path / "gaps.xlsx").write_bytes(b"none")
    with pytest.raises(TableError, match="no Excel file"):
        read_labels(tmp_path / "gaps.xlsx", cifs, "gap_ev")


def test_structures_are_prepared_as_in_a_screening(tmp_path: Path) -> None:
    cell = np.diag([9.0, 8.0, 7.0])
    frac = np.array([[0, 0, 0], [0.31, 0.05, 0], [0.5, 0.12, 0], [0.69, 0.05, 0], [0.5, 0.12 + 0.95 / 8, 0]])
    doubled = np.concatenate([frac, frac + np.array([0, 0, 1])]) / [1, 1, 2]
    raw = Crystal(cell * [[1], [1], [2]], doubled, np.tile([30, 8, 6, 8, 1], 2), "formate")
    (tmp_path / "formate.cif").write_text(write_cif(raw))
    (tmp_path / "labels.csv").write_text("name,gap_ev\nformate,3.0\n")
    frame = read_labels(tmp_path / "labels.csv", tmp_path / "formate.cif", "gap_ev", needed=()).frame
    read = crystal_of(tmp_path / "formate.cif", preparation=PreparationConfig())
    assert len(frame.atomic_numbers[0]) == 5 == read.n_atoms
    np.testing.assert_array_equal(frame.frac_coords[0], read.frac_coords.ravel())


def test_what_is_labelled_and_lost_is_told_before_what_has_no_label(study: Study) -> None:
    path, cifs = study()
    text = path.read_text().replace("mof-005,", "mof-gone,").replace("mof-007,", "mof-008x,")
    path.write_text(text)
    skipped = read_labels(path, cifs, "gap_ev").skipped
    assert [line.rpartition(": ")[2] for line in skipped] == [
        *["labelled, but no CIF of that name was read"] * 2,
        *["no label"] * 2,
    ]


def test_a_table_without_rows_is_refused_as_such(study: Study) -> None:
    labels, cifs = study(1)
    labels.write_text("structure_id,gap_ev\n")
    with pytest.raises(TableError, match="no row has a name; give names and gaps"):
        read_labels(labels, cifs, "gap_ev")
