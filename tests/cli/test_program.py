from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mofgap.__main__ import app

HEAVY = ("numpy", "gemmi", "pymatgen", "ase", "scipy")
SLOW = ("torch_geometric", "lightning", "pandas", "sklearn", "scipy.stats", "scipy.optimize", "matplotlib")


def loaded(names: tuple[str, ...], arguments: list[str], code: int = 0) -> tuple[list[str], str]:
    """Which of these modules the program has loaded when it ends with a code, and what it printed."""
    program = (
        "import sys; sys.argv = ['mofgap', *sys.argv[1:]]\n"
        "from mofgap.__main__ import app\n"
        "try: app()\n"
        f"except SystemExit as end: assert (end.code or 0) == {code}\n"
        f"print(*[name for name in {names} if name in sys.modules], sep=',')"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    printed, _, last = done.stdout.removesuffix("\n").rpartition("\n")
    return last.split(",") if last else [], printed


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["screen", "--help"], ["serve", "--help"]])
def test_help_and_version_load_nothing_heavy(arguments: list[str]) -> None:
    found, printed = loaded(("torch", *HEAVY, *SLOW), arguments)
    assert not found
    assert "mofgap" in printed


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (1, ["screen", "x.cif", "--model", "nothing"]),
        (1, ["explain", "gone.cif"]),
        (1, ["explain", __file__, "--model", "nothing"]),
        (1, ["select", "gone.csv"]),
        (2, ["select", "gone.csv", "-o", __file__]),
        (1, ["calibrate", "nothing", "gone.csv"]),
        (1, ["calibrate", "qmof-pbe", "gone.csv", "cifs"]),
        (1, ["calibrate", "qmof-pbe", __file__, "gone"]),
        (2, ["calibrate", "qmof-pbe", __file__, "-o", __file__]),
    ],
)
def test_what_cannot_work_is_refused_before_torch_is_loaded(code: int, arguments: list[str]) -> None:
    assert loaded(("torch", "pandas"), arguments, code) == ([], "")


def test_gathering_loads_nothing_heavy() -> None:
    assert loaded(("torch", *HEAVY, *SLOW), ["gather", "gone.jsonl", "-o", "x.csv"], 1) == ([], "")


def test_a_missing_window_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    table = tmp_path / "s.csv"
    names = "file,structure_id,status,formula,n_atoms,gap_ev,gap_std_ev,novelty,model,level_of_theory"
    table.write_text(f"{names}\na.cif,a,ok,ZnO,2,1.5,0.2,0.5,qmof-pbe,PBE-D3(BJ)\n")
    assert loaded(("torch",), ["select", str(table)], 1) == ([], "")


def test_a_screening_loads_nothing_that_would_double_its_start(
    tmp_path: Path, model_folder: Path, write_cifs: Callable[[Path, int], list[Path]]
) -> None:
    write_cifs(tmp_path / "in", 1)
    found, printed = loaded(
        ("torch", "torch._dynamo", *SLOW), ["screen", str(tmp_path / "in"), "--model", str(model_folder)]
    )
    assert found == ["torch"]
    assert "s0" in printed and "train-7" in printed


def test_output_on_a_terminal_ends_without_an_escape_sequence() -> None:
    """numba brings one where colorama is installed, as with the extra ``docs``."""
    program = (
        "import mofgap.__main__; from numba.core.errors import termcolor; print(type(termcolor()).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "NOPColorScheme\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage"),
        (["--window", "3", "1"], "lower end"),
        (["--window", "nan", "1"], "lower end"),
        (["--window", "inf", "inf"], "same infinity"),
        (["--rank-by", "window"], "needs a window"),
        (["--rank-by", "best"], "best"),
        (["-o", "table.txt"], ".parquet"),
        (["-o", "no-folder/table.csv"], "no-folder"),
        (["-o", "old.csv"], "--force"),
        (["-o", "folder.csv", "--force"], "is a folder"),
        (["-o", "half.csv"], "--resume"),
        (["-o", "old.csv", "--resume"], "complete"),
        (["--resume"], "needs -o"),
        (["-o", "new.csv", "--resume", "--force"], "contradicts"),
        (["--samples", "-1"], "samples"),
        (["--samples", "1", "--uncertainty", "rows"], "two or more"),
        (["--coverage", "0.4"], "coverage"),
        (["--novelty", "hide"], "last"),
        (["--novelti", "drop"], "--novelty"),
        (["--uncertainty", "guess"], "closed-form"),
        (["--level", "pbe0"], "hse06"),
        (["--level", "hse"], "did you mean 'hse06'?"),
        (["--max-atoms", "0"], "must be at least 1, got 0"),
        (["--max-atoms", "many"], "expected a whole number, got 'many'"),
        (["--coverage", "2"], "must be at most 0.99"),
        (["--window", "low", "high"], "expected a number, got 'low'"),
        (["--level", "both", "--model", "qmof-pbe"], "give a level or a model"),
    ],
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("old.csv").write_text("precious")
    Path("folder.csv").mkdir()
    Path("half.csv.partial.jsonl").write_text("")
    result = CliRunner().invoke(app, ["screen", *(["x.cif"] if arguments else []), *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert not any(word in result.output for word in ("Traceback", "Value error", "Input should"))
    assert Path("old.csv").read_text() == "precious"


def test_missing_model_says_which_there_are() -> None:
    result = CliRunner().invoke(app, ["screen", "x.cif", "--model", "no-such-model"])
    assert result.exit_code == 1
    assert "no-such-model" in result.output and "shipped" in result.output


def test_examples_are_copied_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "examples"
    assert CliRunner().invoke(app, ["examples", str(folder)]).exit_code == 0
    cifs = list(folder.glob("*.cif"))
    assert len(cifs) >= 20 and (folder / "README.md").exists()
    cifs[0].write_text("mine")
    again = CliRunner().invoke(app, ["examples", str(folder)])
    assert again.exit_code == 2 and "--force" in again.output and cifs[0].read_text() == "mine"
    assert CliRunner().invoke(app, ["examples", str(folder), "--force"]).exit_code == 0
    assert cifs[0].read_text() != "mine"


@pytest.mark.parametrize("arguments", [["screen", "x.cif", "-o"], ["explain", "x.cif", "-o"]])
def test_a_path_that_the_system_refuses_is_named_without_a_traceback(arguments: list[str]) -> None:
    path = f"{'n' * 300}.csv"
    done = CliRunner().invoke(app, [*arguments, path])
    assert done.exit_code and isinstance(done.exception, SystemExit)
    assert f"{path}: File name too long" in done.output.replace("\n", "")


@pytest.mark.parametrize("name", ["cfis", "cfis/*.cif", "empty"])
def test_a_mistyped_path_leaves_no_table_that_blocks_the_next_run(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    table = tmp_path / "gaps.csv"
    wrong = CliRunner().invoke(app, ["screen", str(tmp_path / name), "-o", str(table)])
    assert wrong.exit_code == 1 and "check the pa" in wrong.stderr
    assert f"{table} is not written" in wrong.stderr and [*tmp_path.iterdir()] == [tmp_path / "empty"]


def test_closed_streams_are_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mofgap data list --json >&- 2>{tmp_path / 'err'}"
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("arguments", ["--help", "--version", "screen --help"])
def test_a_full_disk_under_the_output_is_one_line(arguments: str) -> None:
    command = f"{sys.executable} -m mofgap {arguments} > /dev/full"
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "mofgap: cannot write: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [
        *(["report", "loop.csv"], ["select", "loop.csv"], ["explain", "loop.csv"]),
        *(["pretrain", "loop.csv"], ["calibrate", "qmof-pbe", "loop.csv", "."], ["train", "loop.csv", "."]),
    ],
)
def test_a_loop_of_links_is_not_told_as_a_missing_file(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    Path("loop.csv").symlink_to("loop.csv")
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code
    assert "loop.csv: Too many levels of symbolic links; check the path" in result.output


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        *((["report", ""], ""), (["select", ""], ""), (["gather", ""], ""), (["examples", ""], "")),
        *((["train", "", "."], ""), (["calibrate", "qmof-pbe", "", "."], ""), (["run", ""], "")),
        *((["screen", "x.cif", "-o", ""], "-o: "), (["serve", "--host", ""], "--host: ")),
    ],
)
def test_an_empty_argument_is_not_taken_for_the_working_folder(arguments: list[str], hint: str) -> None:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, arguments)
    assert result.exit_code == 2
    assert f"{hint}an empty argument; check the variable that it is from" in result.output
