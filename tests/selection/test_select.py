from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app
from mofgap.gap.predictor import GapPredictor
from mofgap.report.screened import screened
from mofgap.screening.origin import ATTRIBUTE, MODEL_DIGEST, origin_of, write_origin
from mofgap.screening.table import read_table
from mofgap.selection import select as selection
from mofgap.selection.candidates import GOALS, CandidateError, candidates_for, read_candidates
from mofgap.selection.select import likeness_length, select, select_from, whitened
from mofgap.shipped import CONFIG, shipped_folder
from mofgap.uncertainty.novelty import Novelty, NoveltyIndex
from mofgap.whole_file import sha256_of

WriteCifs = Callable[[Path, int], list[Path]]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, write_cifs: WriteCifs, tiny: GapPredictor) -> Path:
    """Six structures, three copies of one of them, a member of an archive and a failure."""
    folder = tmp_path_factory.mktemp("screened")
    paths = write_cifs(folder / "cifs", 7)
    for i in range(3):
        shutil.copy(paths[0], folder / "cifs" / f"copy{i}.cif")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.write(paths[6], "deep/s6.cif")
    paths[6].write_text("")
    frame = mofgap.screen([str(folder / "cifs"), str(folder / "more.zip")], (1.8, 3.0), model=tiny)
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.parametrize("goal", GOALS)
def test_copies_and_failures_are_left_out(table: Path, tiny: GapPredictor, goal: str) -> None:
    found = select(read_candidates(table), tiny, goal, 20)  # type: ignore[arg-type]
    names = found.table.structure_id.tolist()
    assert len(names) == 7 and len({"copy0", "copy1", "copy2", "s0"} & set(names)) == 1
    assert {"s1", "s2", "s3", "s4", "s5", "s6"} < set(names)  # s6 is the member of the archive
    assert [c.structure_id for c in found.crystals] == names and not found.skipped
    assert found.table.gain.is_monotonic_decreasing and found.table.order.tolist() == list(range(1, 8))
    np.testing.assert_allclose(found.table.gain, found.table.quality * found.table.distinct)


def test_what_the_model_was_trained_on_is_left_out(
    table: Path, tiny: GapPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, score = read_candidates(table), NoveltyIndex.score
    known = frame.novelty[frame.structure_id == "s4"].item()

    def scored(self: NoveltyIndex, features: np.ndarray, atomic_numbers: list[np.ndarray]) -> Novelty:
        found = score(self, features, atomic_numbers)
        return replace(found, in_training=np.abs(found.percentile - known) < 1e-4)

    assert (np.abs(frame.novelty - known) < 1e-4).sum() == 1
    monkeypatch.setattr(NoveltyIndex, "score", scored)
    found = select(frame, tiny, "explore", 20)
    assert len(found.table) == 6 and "s4" not in set(found.table.structure_id)
    (trained,) = found.skipped
    assert trained.endswith("s4.cif [s4]: the model was trained on it")
    # Its gap may be unknown all the same, as that of HSE06 is where the index has a PBE gap alone.
    monkeypatch.setattr(GapPredictor, "_gap_is_known", lambda predictor, found: np.zeros(1, dtype=bool))
    assert "s4" in set(select(frame, tiny, "explore", 20).table.structure_id)


def test_a_file_whose_atoms_moved_is_left_out(
    tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path
) -> None:
    paths = write_cifs(tmp_path, 3)
    mofgap.screen([str(p) for p in paths], (1.8, 3.0), model=tiny).to_csv(tmp_path / "t.csv", index=False)
    text = paths[1].read_text()
    line = next(line for line in text.splitlines() if line.startswith("_cell_length_a"))
    paths[1].write_text(text.replace(line, "_cell_length_a 9.9"))
    found = select(read_candidates(tmp_path / "t.csv"), tiny, "explore", 3)
    assert sorted(found.table.structure_id) == ["s0", "s2"]
    (said,) = found.skipped
    assert said.startswith(f"{paths[1]} [s1]: the file changed since it was screened; or it was prepared")
    frame = read_candidates(tmp_path / "t.csv")
    frame.attrs[ATTRIBUTE] = {"geometry": "auto"}
    assert select(frame, tiny, "explore", 3).skipped[0].endswith("changed since it was screened")


@pytest.mark.parametrize("budget", [2.5, "3", True, None])
def test_a_budget_is_a_whole_number(table: Path, budget: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        select_from(read_candidates(table), budget, "both", None, None, None, [])  # type: ignore[arg-type]


def test_the_budget_takes_the_first_of_them(table: Path, tiny: GapPredictor) -> None:
    frame = read_candidates(table)
    whole, part = select(frame, tiny, "both", 20), select(frame, tiny, "both", 3)
    pd.testing.assert_frame_equal(part.table, whole.table[:3])


def test_a_shortlist_of_copies_is_gone_beyond(
    table: Path, tiny: GapPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = read_candidates(table)
    whole = select(frame, tiny, "both", 20)
    monkeypatch.setattr(selection, "SHORTLIST", 0)
    monkeypatch.setattr(selection, "SHORTEST_LIST", 2)
    pd.testing.assert_frame_equal(select(frame, tiny, "both", 20).table, whole.table)
    gone = frame.assign(file=frame.file.where(frame.structure_id == whole.table.structure_id[0], "gone.cif"))
    assert len(select(gone, tiny, "both", 1).skipped) == 1, "the first two suffice"


def test_of_copies_one_is_read_again_and_another_where_that_is_gone(
    table: Path, tiny: GapPredictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, asked = read_candidates(table), list[str]()
    read_again = selection.read_again

    def counted(files: Iterable[str], *rest: Any, **how: Any) -> Any:
        asked.extend(names := list(files))
        return read_again(names, *rest, **how)

    monkeypatch.setattr(selection, "read_again", counted)
    copies = frame[frame.structure_id.isin(["copy0", "copy1", "copy2", "s0"])]
    whole = select(frame, tiny, "both", 20)
    assert len(asked) == 7 and len(set(asked) & set(copies.file)) == 1
    (first,) = set(asked) & set(copies.file)
    gone = frame.assign(file=frame.file.where(frame.file != first, "gone.cif"))
    found = select(gone, tiny, "both", 20)
    assert len(found.skipped) == 1 and set(found.table.formula) == set(whole.table.formula)
    assert len(set(found.table.file) & set(copies.file)) == 1
    assert len(select(gone, tiny, "both", 1).table) == 1


def test_the_selection_does_not_depend_on_the_order_of_the_table(
    table: Path, tiny: GapPredictor, tmp_path: Path
) -> None:
    shuffled = pd.read_csv(table).sample(frac=1, random_state=3)
    shuffled.to_csv(tmp_path / "table.csv", index=False)
    results = [select(read_candidates(path), tiny, "window", 4) for path in (table, tmp_path / "table.csv")]
    pd.testing.assert_frame_equal(results[0].table, results[1].table)


def test_atoms_written_twice_do_not_count_twice(
    tiny: GapPredictor, write_cifs: WriteCifs, tmp_path: Path
) -> None:
    (path,) = write_cifs(tmp_path, 1)
    text = path.read_text()
    path.write_text(text + text[text.index("\nZn1 ") + 1 :])
    mofgap.screen(path, (1.8, 3.0), model=tiny).to_csv(tmp_path / "table.csv", index=False)
    found = select(read_candidates(tmp_path / "table.csv"), tiny, "both", 1)
    assert found.table.structure_id.tolist() == ["s0"] and not found.skipped


def test_what_cannot_be_read_again_is_named(table: Path, tiny: GapPredictor) -> None:
    frame = read_candidates(table)
    frame.loc[frame.structure_id == "s1", "file"] = "gone.cif"
    frame.loc[frame.structure_id == "s2", "formula"] = "CH4"
    frame.loc[frame.structure_id == "s3", "file"] = "odd\ufffd.cif"
    frame.loc[frame.structure_id == "s4", "structure_id"] = "block"
    found = select(frame, tiny, "explore", 20)
    assert len(found.table) == 3
    assert sorted(line.split("]: ")[1].split(";")[0] for line in found.skipped) == [
        "its name has characters that no table holds",
        "the file changed since it was screened",
        "the file holds no structure of that name",
        "there is no such file here",
    ]
    for name, why in {"gone.cif": "no such file", "stdin": "it came from standard input; save it"}.items():
        with pytest.raises(CandidateError, match=why):
            select(frame.assign(file=name), tiny, "explore", 20)
    frame = read_candidates(table)
    frame.loc[frame.structure_id == "s1", "n_atoms"] = pd.NA
    (line,) = select(frame, tiny, "explore", 20).skipped
    assert "the file changed since it was screened" in line


def test_a_short_selection_says_what_it_lacks(table: Path, model_folder: Path, tmp_path: Path) -> None:
    frame = read_table(table)
    frame = frame[frame.structure_id.isin(["s1", "s2", "s3"])]
    frame.assign(file=frame.file.where(frame.structure_id != "s2", "gone.cif")).to_csv(tmp_path / "t.csv")
    arguments = ["select", str(tmp_path / "t.csv"), "--model", str(model_folder), "--budget", "3"]
    done = CliRunner().invoke(app, [*arguments, "--goal", "explore"])
    assert done.stderr.endswith("only 2 of 3: 1 candidate skipped, see above\n")


def test_whitened_features_are_those_of_the_index(tiny: GapPredictor) -> None:
    index = tiny.novelty
    assert likeness_length(index) > 0
    origin = whitened(index.mean[None], index)
    np.testing.assert_allclose(origin, 0, atol=1e-6)


def test_command_writes_selection_and_inputs(table: Path, model_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "next"
    arguments = ["select", str(table), "--model", str(model_folder), "--budget", "2", "-o", str(output)]
    done = CliRunner().invoke(app, [*arguments, "--write-inputs", "vasp", "--window", "2", "3"])
    assert done.exit_code == 0, done.output
    shown = pd.read_csv(io.StringIO(done.stdout), sep="\t")
    written = pd.read_csv(output / "selection.csv")
    assert shown.structure_id.tolist() == written.structure_id.tolist()
    assert (shown.level_of_theory == "PBE").all() and (written.level_of_theory == "PBE").all()
    folders = sorted(path.name for path in output.iterdir() if path.is_dir())
    assert folders == [f"{i}_{name}" for i, name in enumerate(written.structure_id, start=1)]
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "--force" in again.output
    for more in (["--write-inputs", "cif", "--force"], ["--force"]):
        mixed = CliRunner().invoke(app, [*arguments, *more], env={"COLUMNS": "400"})
        assert mixed.exit_code == 2 and f"({folders[0]} ...)" in mixed.output
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == folders


def test_force_spares_a_selection_that_is_an_input(table: Path, model_folder: Path, tmp_path: Path) -> None:
    how = ["--model", str(model_folder), "--window", "2", "3", "--force", "-o", str(tmp_path)]
    earlier = tmp_path / "selection.csv"
    assert CliRunner().invoke(app, ["select", str(table), "--budget", "1", *how]).exit_code == 0
    before = earlier.read_bytes()
    for given in ([str(table), "--without", str(earlier)], [str(earlier)]):
        again = CliRunner().invoke(app, ["select", *given, *how], env={"COLUMNS": "300"})
        assert again.exit_code == 2 and "selection.csv is an input" in again.output
    assert earlier.read_bytes() == before


def test_a_folder_of_other_inputs_keeps_its_selection(
    table: Path, tiny: GapPredictor, tmp_path: Path
) -> None:
    chosen = [mofgap.select(table, budget, window=(2, 3), model=tiny) for budget in (2, 1)]
    chosen[0].write(tmp_path, "poscar")
    before = (tmp_path / "selection.csv").read_bytes()
    for other, inputs in ((chosen[1], "cif"), (chosen[1], "xyz")):
        with pytest.raises(ValueError, match=r"earlier selection|kind must be"):
            other.write(tmp_path, inputs)  # type: ignore[arg-type]
    assert (tmp_path / "selection.csv").read_bytes() == before


@pytest.mark.parametrize("level", ["HSE06 at PBE-D3(BJ) geometry", "=cmd"])
def test_inputs_are_of_the_table_s_level(level: str, table: Path, model_folder: Path, tmp_path: Path) -> None:
    pd.read_csv(table).assign(level_of_theory=level).to_csv(tmp_path / "table.csv", index=False)
    arguments = ["select", str(tmp_path / "table.csv"), "--model", str(model_folder), "--budget", "1"]
    output = tmp_path / "next"
    done = CliRunner().invoke(app, [*arguments, "-o", str(output), "--write-inputs", "vasp"])
    assert done.exit_code == 0, done.output
    (folder,) = (path for path in output.iterdir() if path.is_dir())
    hybrid = level.startswith("HSE06")
    assert (folder / "INCAR.hse06").exists() == hybrid
    assert ("gaps are of =cmd, the inputs of PBE" in done.stderr) == (not hybrid)
    assert ("'=cmd" in (output / "selection.csv").read_text()) == (not hybrid)


def test_what_deserves_a_look_is_told(table: Path, model_folder: Path, tmp_path: Path) -> None:
    words = "missing-hydrogens: no H near C"
    pd.read_csv(table).assign(status="warning", warnings=words).to_csv(tmp_path / "table.csv", index=False)
    arguments = ["select", str(tmp_path / "table.csv"), "--model", str(model_folder), "--budget", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 and done.stderr.startswith("warning: ") and words in done.stderr
    note = "same-refcode: likely the same compound as s0 (MIBQAR, 4.65 eV), a training structure"
    pd.read_csv(table).assign(status="ok", warnings=f"duplicate: of a | {note}").to_csv(
        tmp_path / "t.csv", index=False
    )
    noted = CliRunner().invoke(app, ["select", str(tmp_path / "t.csv"), *arguments[2:]])
    assert noted.stderr.startswith("note: ") and note in noted.stderr and "duplicate" not in noted.stderr


def test_structures_with_a_warning_can_be_left_out(table: Path, model_folder: Path, tmp_path: Path) -> None:
    frame = read_table(table)
    names = frame.structure_id.isin(["s1", "s2"]).map({True: "warning", False: "ok"})
    frame.assign(status=names.where(frame.status != "failed", "failed")).to_csv(
        tmp_path / "t.csv", index=False
    )
    chosen = mofgap.select(tmp_path / "t.csv", model=str(model_folder))
    kept = mofgap.select(tmp_path / "t.csv", model=str(model_folder), warnings="drop")
    assert set(chosen.table.structure_id) - set(kept.table.structure_id) == {"s1", "s2"}
    frame.assign(status="warning").to_csv(tmp_path / "t.csv", index=False)
    arguments = ["select", str(tmp_path / "t.csv"), "--model", str(model_folder), "--warnings", "drop"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1 and "each row has a warning" in done.output


def test_what_was_computed_is_left_out(table: Path, model_folder: Path, tmp_path: Path) -> None:
    """By a table of labels with names of files, or by an earlier selection."""
    common = ["select", str(table), "--model", str(model_folder), "--goal", "explore", "--budget", "1"]
    ran = CliRunner().invoke(app, [*common, "-o", str(tmp_path / "first")])
    assert ran.exit_code == 0, ran.output
    first = pd.read_csv(tmp_path / "first" / "selection.csv").structure_id[0]
    (tmp_path / "labels.csv").write_text(f"structure_id,gap_ev\n{first}.cif,2.0\n")
    for known in (tmp_path / "labels.csv", tmp_path / "first" / "selection.csv"):
        ran = CliRunner().invoke(app, [*common, "--without", str(known), "--json"])
        assert ran.exit_code == 0, ran.output
        assert json.loads(ran.stdout)[0]["structure_id"] != first
    every = pd.read_csv(table)[["structure_id"]].to_csv(index=False)
    (tmp_path / "labels.csv").write_text(every)
    ran = CliRunner().invoke(app, [*common, "--without", str(tmp_path / "labels.csv")])
    assert ran.exit_code == 1 and "names each candidate" in ran.stderr
    (tmp_path / "labels.csv").write_text("structure_id,gap_ev\nelsewhere,1.0\n")
    ran = CliRunner().invoke(app, [*common, "--without", str(tmp_path / "labels.csv")])
    assert ran.exit_code == 1 and "names none of the candidates" in ran.stderr


@pytest.mark.parametrize("names", ["copy1", "b1/copy1.cif\nb2/copy1.cif"])
def test_copies_of_what_was_computed_are_left_out(names: str, table: Path, tmp_path: Path) -> None:
    lines = [f"{name},2.0" for name in names.split("\n")]
    (tmp_path / "labels.csv").write_text("\n".join(["structure_id,gap_ev", *lines]))
    left = candidates_for(table, "explore", None, "last", tmp_path / "labels.csv").structure_id
    assert not {"copy0", "copy1", "copy2", "s0"} & set(left) and len(left)


def test_an_unknown_choice_selects_nothing(table: Path, model_folder: Path) -> None:
    for wrong, words in (
        ({"warnings": "Drop"}, "warnings must be one of"),
        ({"disorder": "foo"}, "disorder must"),
    ):
        with pytest.raises(ValueError, match=words):
            mofgap.select(table, model=str(model_folder), **wrong)  # type: ignore[arg-type]


def test_files_count_from_the_table_too(
    table: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = shutil.copytree(table.parent, tmp_path / "moved")
    frame = pd.read_csv(table)
    files = frame.file.str.removeprefix(f"{table.parent}/")
    frame.assign(file=files).to_csv(moved / "table.csv", index=False)
    monkeypatch.chdir(tmp_path)
    how = ["--model", str(model_folder), "--budget", "1"]
    done = CliRunner().invoke(app, ["select", str(moved / "table.csv"), *how])
    assert done.exit_code == 0, done.output


def test_a_selection_is_a_table_again(table: Path, model_folder: Path, tmp_path: Path) -> None:
    arguments = ["--model", str(model_folder), "--budget", "3", "-o"]
    assert not CliRunner().invoke(app, ["select", str(table), *arguments, str(tmp_path / "a")]).exit_code
    first = tmp_path / "a" / "selection.csv"
    done = CliRunner().invoke(app, ["select", str(first), *arguments, str(tmp_path / "b")])
    assert done.exit_code == 0, done.output
    names = [pd.read_csv(path).structure_id.tolist() for path in (first, tmp_path / "b" / "selection.csv")]
    assert names[0] == names[1] and len(names[0]) == 3
    assert screened(read_table(first)).ranked["rank"].is_monotonic_increasing


def test_command_says_what_is_wrong(table: Path, model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    pd.read_csv(table).assign(model="another").to_csv(other, index=False)
    for path, message in ((other, "another"), (tmp_path / "none.csv", "no such file")):
        done = CliRunner().invoke(app, ["select", str(path), "--model", str(model_folder)])
        assert done.exit_code == 1 and message in done.output and "Traceback" not in done.output
    done = CliRunner().invoke(app, ["select", str(table), "--window", "3", "1"])
    assert done.exit_code == 2 and "lower end first" in done.output
    far = ["select", str(table), "--model", str(model_folder), "--window", "90", "99"]
    done = CliRunner().invoke(app, [*far, "-o", str(tmp_path / "next")])
    assert done.exit_code == 1 and "any chance" in done.output and not (tmp_path / "next").exists()
    done = CliRunner().invoke(app, ["select", str(table), "-o", str(tmp_path / "next.csv")])
    assert done.exit_code == 2 and "name a folder" in done.output and not (tmp_path / "next.csv").exists()
    done = CliRunner().invoke(app, ["select", str(other)])
    assert done.exit_code == 1 and "another, as --model" in done.output


def test_another_model_of_the_same_name_is_refused(table: Path, model_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copy(table, tmp_path / "table.csv"))
    for digest, words in ((sha256_of(model_folder / CONFIG), ""), ("0" * 64, "another model of the name")):
        write_origin(copy, {MODEL_DIGEST: digest})
        done = CliRunner().invoke(app, ["select", str(copy), "--model", str(model_folder), "--budget", "1"])
        assert done.exit_code == bool(words) and words in " ".join(done.output.split()), done.output


def test_a_shipped_model_need_not_be_named(tmp_path: Path) -> None:
    example = sorted(shipped_folder("examples").glob("*.cif"))[0]
    mofgap.screen(example, (0.0, 9.0), level="pbe").to_csv(tmp_path / "t.csv", index=False)
    done = CliRunner().invoke(app, ["select", str(tmp_path / "t.csv")])
    assert done.exit_code == 0 and example.stem in done.output


def test_a_selection_loses_the_record_of_an_earlier_one(
    table: Path, tiny: GapPredictor, tmp_path: Path
) -> None:
    chosen = mofgap.select(table, 1, "window", model=tiny)
    chosen.table.attrs[ATTRIBUTE] = {"disorder": "majority"}
    chosen.write(tmp_path / "picked")
    assert origin_of(read_table(tmp_path / "picked" / "selection.csv"))
    chosen.table.attrs.clear()
    chosen.write(tmp_path / "picked")
    assert not origin_of(read_table(tmp_path / "picked" / "selection.csv"))
