"""Joins by identifier, and lists of everything that is left out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from mofgap.crystals.crystal import Crystal
from mofgap.crystals.dataset import read_table, table_crystals
from mofgap.crystals.entry import ReadFailure
from mofgap.datasets import table
from mofgap.datasets.groups import group_of
from mofgap.datasets.importing import Imported, Skip, gap_of, import_table, write_skipped
from mofgap.datasets.label_table import LabelTable, read_label_table
from mofgap.datasets.record import DatasetError, Record

GAPS_EV = {"qmof-000000a": 0.4, "qmof-000000b": 3.25, "qmof-000000c": 3.5, "qmof-000000d": 3.125}
TARGET = {"gap_ev": "gap_ev"}
COLUMNS = {"?split": "split", "?group": "group", "?name": "name", "?refcode": "refcode", **TARGET}


def labels(path: Path, text: str, id_name: str | None = None) -> LabelTable:
    path.write_text(text, encoding="utf-8")
    return read_label_table(path, id_name, COLUMNS)


def imported(
    crystals: list[Crystal], labels: LabelTable | None, output: Path, **more: Any
) -> tuple[Imported, dict[str, str]]:
    """What an import did, and the kind of reason for each thing left out."""
    done = import_table((Record(c) for c in crystals), labels, output, TARGET, **more)
    return done, {skip.structure_id: skip.reason.split(":")[0] for skip in done.skipped}


def whole(gaps: dict[str, float] = GAPS_EV) -> str:
    return "structure_id,gap_ev\n" + "".join(f"{name},{gap}\n" for name, gap in gaps.items())


def test_the_table_is_what_training_reads(tmp_path: Path, crystals: list[Crystal]) -> None:
    done, skipped = imported(crystals, labels(tmp_path / "l.csv", whole()), tmp_path / "t.parquet")
    assert (done.n_structures, done.n_labels, skipped) == (4, {"gap_ev": 4}, {})
    frame = read_table(tmp_path / "t.parquet")
    assert dict(zip(frame.structure_id, frame.gap_ev, strict=True)) == GAPS_EV
    for found, crystal in zip(table_crystals(frame), crystals, strict=True):
        assert (found.cell == crystal.cell).all()
        assert (found.frac_coords == crystal.frac_coords).all()
        assert (found.atomic_numbers == crystal.atomic_numbers).all()
    assert frame.n_atoms.tolist() == [c.n_atoms for c in crystals]
    assert frame.reduced_formula[2] == "C8H5AlO5"


def test_the_order_of_rows_means_nothing(tmp_path: Path, crystals: list[Crystal]) -> None:
    for seed in range(5):
        names, shuffled = list(GAPS_EV), list(crystals)
        random.Random(seed).shuffle(names)
        random.Random(seed + 10).shuffle(shuffled)
        text = "name,qmof_id,gap_ev\n" + "".join(f"x{i},{n},{GAPS_EV[n]}\n" for i, n in enumerate(names))
        imported(shuffled, labels(tmp_path / "l.csv", text), tmp_path / "t.parquet")
        frame = pd.read_parquet(tmp_path / "t.parquet")
        assert dict(zip(frame.structure_id, frame.gap_ev, strict=True)) == GAPS_EV


def test_a_label_that_two_structures_could_mean_is_refused(tmp_path: Path, crystals: list[Crystal]) -> None:
    first, second = replace(crystals[0], structure_id="A"), replace(crystals[1], structure_id="A.vasp")
    found = labels(tmp_path / "l.csv", "structure_id,gap_ev\nA.vasp,2.0\n")
    done = import_table([Record(second), Record(first)], found, tmp_path / "t.parquet", TARGET)
    assert pd.read_parquet(tmp_path / "t.parquet").structure_id.tolist() == ["A.vasp"] and done.skipped
    with pytest.raises(DatasetError, match=r"A\.vasp is the label of .*write whole names of files"):
        import_table([Record(first), Record(second)], found, tmp_path / "u.parquet", TARGET)
    assert not (tmp_path / "u.parquet").exists()
    found = labels(tmp_path / "l.csv", "structure_id,gap_ev\nA.vasp.cif,2.0\nA.cif,1.0\n")
    import_table([Record(first), Record(second)], found, tmp_path / "u.parquet", TARGET)
    assert pd.read_parquet(tmp_path / "u.parquet").gap_ev.tolist() == [1.0, 2.0]


def test_everything_left_out_is_listed_with_its_reason(tmp_path: Path, crystals: list[Crystal]) -> None:
    text = (
        "structure_id,gap_ev\nqmof-000000a.cif,0.4\nqmof-000000b,much\nqmof-000000d,3.0\n"
        "qmof-000000d,3.125\nnobody,1.0\nqmof-000000e,-1\nfailed,1\n,2.0\ntwice,1\ntwice,1\n"
    )
    more = [
        *crystals,
        replace(crystals[0], source="second.cif"),
        replace(crystals[0], structure_id="qmof-000000e"),
        replace(crystals[1], structure_id="twice"),
    ]
    entries = [Record(c) for c in more] + [ReadFailure("failed.cif", "failed", "empty-file: it is empty")]
    done = import_table(entries, labels(tmp_path / "l.csv", text), tmp_path / "t.parquet", TARGET)
    reasons = [(skip.structure_id, skip.reason) for skip in done.skipped]
    assert reasons == [
        ("qmof-000000b", "bad-label: gap_ev: 'much' is no number"),
        ("qmof-000000c", f"missing-label: not in {tmp_path / 'l.csv'}"),
        (
            "qmof-000000d",
            f"conflicting-labels: labelled more than once, differently, in {tmp_path / 'l.csv'}",
        ),
        ("qmof-000000a", f"duplicate-structure: read already from {crystals[0].source}"),
        ("qmof-000000e", "bad-label: gap_ev: -1 eV is negative"),
        ("failed", "empty-file: it is empty"),
        ("", "no-identifier: a label without a name"),
        ("nobody", "missing-structure: labelled, but no structure of that name"),
        ("twice", "repeated-label: labelled more than once with the same values"),
    ]
    assert pd.read_parquet(tmp_path / "t.parquet").structure_id.tolist() == ["qmof-000000a", "twice"]


def test_one_of_several_gaps_is_enough(tmp_path: Path, crystals: list[Crystal]) -> None:
    targets = {"pbe": "pbe_gap_ev", "hse": "hse06_gap_ev"}
    values = [{"pbe": 1.0, "hse": 2.0}, {"pbe": None, "hse": 2.0}, {"pbe": float("nan")}, {"pbe": "na"}]
    entries = [Record(c, v) for c, v in zip(crystals, values, strict=True)]
    done = import_table(entries, None, tmp_path / "t.parquet", targets)
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert done.n_labels == {"pbe_gap_ev": 1, "hse06_gap_ev": 2}
    assert frame.pbe_gap_ev.isna().tolist() == [False, True]
    assert [skip.reason for skip in done.skipped] == ["missing-label: no pbe or hse"] * 2


def test_structures_alone_need_no_labels(tmp_path: Path, crystals: list[Crystal]) -> None:
    done = import_table([Record(c) for c in crystals], None, tmp_path / "t.parquet", {})
    assert done.n_structures == 4
    assert "gap_ev" not in pd.read_parquet(tmp_path / "t.parquet").columns


def test_a_name_that_no_structure_has_is_an_error(tmp_path: Path, crystals: list[Crystal]) -> None:
    entries = [Record(c, {"band_gap": 1.0}) for c in crystals]
    with pytest.raises(DatasetError, match="no column 'bandgap'; did you mean 'band_gap'"):
        import_table(entries, None, tmp_path / "t.parquet", {"bandgap": "gap_ev"})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DatasetError, match="no column 'hse'; known: band_gap"):
        import_table(entries, None, tmp_path / "t.parquet", {"band_gap": "gap_ev", "hse": "hse_ev"})
    assert list(tmp_path.iterdir()) == []


def test_structures_without_names_are_not_joined(tmp_path: Path, crystals: list[Crystal]) -> None:
    entries = [Record(c, numbered=True) for c in crystals]
    with pytest.raises(DatasetError, match="identifiers"):
        import_table(entries, labels(tmp_path / "l.csv", whole()), tmp_path / "t.parquet", TARGET)
    assert not (tmp_path / "t.parquet").exists()


def test_pieces_make_the_same_table(
    tmp_path: Path, crystals: list[Crystal], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [replace(c, structure_id=f"{c.structure_id}-{i}") for i in range(3) for c in crystals]
    gaps = {c.structure_id: i / 4 for i, c in enumerate(many)}
    for name, n_rows in (("one", 512), ("some", 5), ("each", 1)):
        monkeypatch.setattr(table, "ROWS_AT_ONCE", n_rows)
        imported(many, labels(tmp_path / "l.csv", whole(gaps)), tmp_path / f"{name}.parquet")
    one, some, each = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "some", "each"))
    pd.testing.assert_frame_equal(one, some)
    pd.testing.assert_frame_equal(one, each)
    assert pq.ParquetFile(tmp_path / "some.parquet").num_row_groups == 3


def test_structures_pass_one_after_the_other(
    tmp_path: Path, crystals: list[Crystal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held at once is bounded by ROWS_AT_ONCE, however many there are."""
    monkeypatch.setattr(table, "ROWS_AT_ONCE", 4)
    alive: list[int] = []

    class Counted(Record):
        n_alive = 0

        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            Counted.n_alive += 1

        def __del__(self) -> None:
            Counted.n_alive -= 1

    def stream() -> Iterator[Record]:
        for i in range(200):
            yield Counted(replace(crystals[0], structure_id=str(i), cell=crystals[0].cell + i))
            alive.append(Counted.n_alive)

    import_table(stream(), None, tmp_path / "t.parquet", {})
    assert max(alive) <= 6
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 200


def test_a_failure_leaves_the_earlier_table(tmp_path: Path, crystals: list[Crystal]) -> None:
    (tmp_path / "t.parquet").write_text("earlier")

    def broken() -> Iterator[Record]:
        yield Record(crystals[0])
        raise DatasetError("the archive is damaged")

    with pytest.raises(DatasetError, match="damaged"):
        import_table(broken(), None, tmp_path / "t.parquet", {})
    assert (tmp_path / "t.parquet").read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["t.parquet"]


def test_groups_and_splits_of_the_source_are_kept(tmp_path: Path, crystals: list[Crystal]) -> None:
    text = "structure_id,gap_ev,split,group\n" + "".join(
        f"{name},{gap},train,g{i % 2}\n" for i, (name, gap) in enumerate(GAPS_EV.items())
    )
    imported(
        crystals,
        labels(tmp_path / "l.csv", text),
        tmp_path / "t.parquet",
        texts={"?split": "split", "?group": "group", "?name": "name"},
    )
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert frame.group.tolist() == ["g0", "g1", "g0", "g1"]
    assert frame.split.tolist() == ["train"] * 4
    assert "name" not in frame.columns


def test_groups_are_made_where_there_are_none(tmp_path: Path, crystals: list[Crystal]) -> None:
    text = "structure_id,gap_ev,name\n" + "".join(
        f"{name},{gap},{refcode}\n"
        for (name, gap), refcode in zip(
            GAPS_EV.items(), ["ABCDEF_FSR", "GHIJKL", "ABCDEF01", "tob-1"], strict=True
        )
    )
    imported(crystals, labels(tmp_path / "l.csv", text), tmp_path / "t.parquet")
    group = pd.read_parquet(tmp_path / "t.parquet").group
    assert group[0] == group[2]
    assert group.nunique() == 3


def test_groups_are_those_that_a_training_would_make(tmp_path: Path, crystals: list[Crystal]) -> None:
    refcodes = zip(GAPS_EV.items(), ["ABCDEF.cif", "GHIJKL", "ABCDEF01.cif", ""], strict=True)
    text = "structure_id,gap_ev,refcode\n" + "".join(
        f"{name},{gap},{refcode}\n" for (name, gap), refcode in refcodes
    )
    path = tmp_path / "t.parquet"
    imported(crystals, labels(tmp_path / "l.csv", text), path, texts={"?refcode": "refcode"})
    frame = pd.read_parquet(path)
    assert frame.group.tolist() == group_of(frame.drop(columns="group")).tolist()
    assert frame.group[0] == frame.group[2]


def test_where_a_table_comes_from_is_written_into_it(tmp_path: Path, crystals: list[Crystal]) -> None:
    imported(
        crystals, labels(tmp_path / "l.csv", whole()), tmp_path / "t.parquet", about={"licence": "CC BY 4.0"}
    )
    metadata = pq.read_schema(tmp_path / "t.parquet").metadata
    assert json.loads(metadata[b"mofgap"]) == {"licence": "CC BY 4.0"}


def test_per_atom_quantities_are_columns(tmp_path: Path, crystals: list[Crystal]) -> None:
    charge = np.arange(crystals[0].n_atoms, dtype=np.float32)
    entries = [Record(crystals[0], atoms={"pbe_ddec6_charge_e": charge}), Record(crystals[1])]
    import_table(entries, None, tmp_path / "t.parquet", {})
    frame = pd.read_parquet(tmp_path / "t.parquet")
    assert frame.pbe_ddec6_charge_e[0].tolist() == charge.tolist()
    assert frame.pbe_ddec6_charge_e[1] is None
    assert "pbe_magmom_mu_b" not in frame.columns


class TestLabelTables:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("", "it is empty"),
            ("a,gap_ev\n1,2\n", "no identifier column"),
            ("structure_id;gap_ev\na;1,5\n", "separated by semicolons; save it with commas"),
            ("structure_id\tgap_ev\na\t1.5\n", "separated by tabs; save it with commas"),
            ("structure_id,gap\na,1\n", "no column 'gap_ev'; did you mean 'gap'"),
            ("structure_id,gap_ev,gap_ev\na,1,2\n", "column 'gap_ev' is there more than once"),
            ("name,gap_ev,split,split\na,1,train,val\n", "column 'split' is there more than once"),
            ("name,name,gap_ev\na,x,2\n", "column 'name' is there more than once"),
            ('name,gap_ev\n"a,1\nb,2\n', "line 3: unexpected end of data"),
            ("name,gap_ev\na,1,5\n", "line 2: more values than columns"),
        ],
    )
    def test_that_cannot_be_used_say_why(self, tmp_path: Path, text: str, words: str) -> None:
        with pytest.raises(DatasetError, match=rf"l\.csv[:,] {words}"):
            labels(tmp_path / "l.csv", text)

    def test_may_be_of_a_spreadsheet(self, tmp_path: Path) -> None:
        (tmp_path / "l.csv").write_bytes("\ufeffrefcode,gap_ev\r\n007,1.5\r\n\r\n".encode())
        read = read_label_table(tmp_path / "l.csv", None, COLUMNS)
        assert read.rows["007"]["gap_ev"] == "1.5"

    def test_may_have_tabs_and_an_identifier_of_another_name(self, tmp_path: Path) -> None:
        for name in ("l.tsv", "L.TSV"):
            (tmp_path / name).write_text("code\tgap_ev\na b\t1.5\n")
            assert read_label_table(tmp_path / name, "code", COLUMNS).rows["a b"]["gap_ev"] == "1.5"

    def test_of_excel_keep_their_columns_beside_one_without_a_name(self, tmp_path: Path) -> None:
        pd.DataFrame([["a", 3.0, 1.5]], columns=["name", "", "gap_ev"]).to_excel(
            tmp_path / "l.xlsx", index=True
        )
        assert read_label_table(tmp_path / "l.xlsx", None, COLUMNS).rows["a"]["gap_ev"] == 1.5

    def test_of_excel_are_refused_with_two_columns_of_one_name(self, tmp_path: Path) -> None:
        two = pd.DataFrame([["a", 3.0, 1.5]], columns=["name", "gap_ev", "gap_ev"])
        two.to_excel(tmp_path / "l.xlsx", index=False)
        with pytest.raises(DatasetError, match=r"l\.xlsx: column 'gap_ev' is there more than once"):
            read_label_table(tmp_path / "l.xlsx", None, COLUMNS)

    def test_of_another_encoding_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "l.csv").write_bytes(b"structure_id,gap_ev\n\xe9,1\n")
        with pytest.raises(DatasetError, match="no text in UTF-8"):
            read_label_table(tmp_path / "l.csv", None, COLUMNS)

    def test_that_are_missing_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"none\.csv: no such file; check the path$"):
            read_label_table(tmp_path / "none.csv", None, COLUMNS)


@pytest.mark.parametrize(
    ("value", "gap"),
    [("1.5", 1.5), (0, 0.0), (" 2e-1 ", 0.2), ("", None), ("na", None), (None, None), (float("nan"), None)],
)
def test_gaps_are_numbers_or_missing(value: Any, gap: float | None) -> None:
    assert gap_of(value) == (gap, "")


@pytest.mark.parametrize(
    "value", ["1,5", "1_0", 10**400, "inf", float("inf"), True, [1], np.arange(2), "-0.1", -3]
)
def test_other_values_are_no_gaps(value: Any) -> None:
    gap, reason = gap_of(value)
    assert gap is None and reason


def test_names_that_are_no_text_are_left_out(tmp_path: Path, crystals: list[Crystal]) -> None:
    odd = replace(crystals[0], structure_id="x\udcff", source="x\udcff.cif")
    records = [Record(odd), Record(crystals[1])]
    done = import_table(records, None, tmp_path / "t.parquet", {}, texts={})
    assert done.n_structures == 1 and [skip.reason.split(":")[0] for skip in done.skipped] == ["bad-name"]
    write_skipped(tmp_path / "s.csv", done.skipped)
    assert pd.read_csv(tmp_path / "s.csv").source[0] == r"x\udcff.cif"


def test_the_list_of_an_earlier_import_does_not_stay(tmp_path: Path) -> None:
    write_skipped(tmp_path / "s.csv", [Skip("a", "a.cif", "no-atoms: nothing, at all")])
    assert pd.read_csv(tmp_path / "s.csv").reason[0] == "no-atoms: nothing, at all"
    write_skipped(tmp_path / "s.csv", [])
    assert not (tmp_path / "s.csv").exists()


def test_two_writers_of_one_table_do_not_mix(tmp_path: Path, crystals: list[Crystal]) -> None:
    path = tmp_path / "t.parquet"
    with table.TableWriter(path, [], [], {}) as first, table.TableWriter(path, [], [], {}) as second:
        first.add(Record(crystals[0]), {})
        second.add(Record(crystals[1]), {})
        second.add(Record(crystals[2]), {})
    assert len(read_table(path)) == 1, "the first ends last"
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
