"""``mofgap screen`` as a process. A start costs seconds, so each test asks much of one run."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app

WriteCifs = Callable[[Path, int], list[Path]]
# Processes find the package that this one tests, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(mofgap.__file__).parents[1])}
WINDOW = ["--window", "1.8", "3.0"]


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mofgap", "screen", *map(str, arguments)]


def run(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:  # type: ignore[no-untyped-def]
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=200, env=ENVIRONMENT, **options
    )


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """A run whose list of inputs is still open."""
    return subprocess.Popen(
        command("-", *arguments),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # A shell may have told its background jobs, tests among them, to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def feed_until_journaled(process: subprocess.Popen[str], paths: list[Path], journal: Path) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(f"{path}\n" for path in paths))
    process.stdin.flush()
    for _ in range(2000):
        if journal.exists() and all(f'"source":"{path}"' in journal.read_text() for path in paths):
            return
        with pytest.raises(subprocess.TimeoutExpired):  # it ends when its list of inputs does
            process.wait(0.1)
    raise AssertionError("the run did not journal its inputs")


def test_good_folder_to_a_pipe(tmp_path: Path, model_folder: Path, write_cifs: WriteCifs) -> None:
    write_cifs(tmp_path / "in", 4)
    done = run("in", "--model", model_folder, *WINDOW, "--top", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    table = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["rank"] for row in table] == ["1", "2", "3"]
    inside = [float(row["p_in_window"]) for row in table]
    assert inside == sorted(inside, reverse=True) and 0 <= inside[-1] <= inside[0] <= 1
    assert {row["file"] for row in table} < {f"in/s{i}.cif" for i in range(4)}
    assert "4 structures" in done.stderr and "not calibrated" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr, "no colours and no progress bar in a pipe"


def test_all_bad_input_still_gives_the_table(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "empty.cif").write_text("")
    done = run("empty.cif", "gone.cif", "--model", model_folder, "-o", "t.json", cwd=tmp_path)
    assert done.returncode == 1
    assert [row["reason"].split(":")[0] for row in json.loads((tmp_path / "t.json").read_text())] == [
        "empty-file",
        "missing-file",
    ]
    assert "failed: gone.cif: missing-file" in done.stderr and "2 failed" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_a_list_of_nothing_leaves_nothing(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "none.txt").write_text("")
    for _ in range(2):
        with chdir(tmp_path):
            arguments = ["screen", "@none.txt", "--model", str(model_folder), "-o", "t.csv"]
            done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 1 and "no inputs" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["none.txt"]


def test_killed_and_interrupted_runs_resume_to_the_same_bytes(
    tmp_path: Path, model_folder: Path, write_cifs: WriteCifs
) -> None:
    paths = write_cifs(tmp_path / "in", 5)
    paths[1].write_text("data_x\n_cell_length_a 5\n")
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    options = ["--model", model_folder, *WINDOW]
    whole = run(f"@{tmp_path / 'list.txt'}", *options, "-o", tmp_path / "whole.csv")
    assert whole.returncode == 3
    assert f"failed: {paths[1]}: no-atoms" in whole.stderr
    expected = (tmp_path / "whole.csv").read_bytes()
    with (tmp_path / "whole.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)].count("failed") == 1

    output, journal = tmp_path / "out.csv", tmp_path / "out.csv.partial.jsonl"
    killed = start(*options, "-o", output)
    feed_until_journaled(killed, paths[:2], journal)
    killed.kill()
    killed.communicate()
    with journal.open("a") as file:
        file.write('{"source": "torn')

    interrupted = start(*options, "-o", output, "--resume")
    feed_until_journaled(interrupted, paths[:3], journal)
    interrupted.send_signal(signal.SIGINT)
    _, message = interrupted.communicate(timeout=100)
    assert interrupted.returncode == 130
    assert "2 inputs done before" in message and "--resume continues" in message
    assert "Traceback" not in message
    assert not output.exists()

    resumed = run("-", *options, "-o", output, "--resume", input="\n".join(map(str, paths)))
    assert resumed.returncode == 3 and "3 inputs done before" in resumed.stderr
    assert output.read_bytes() == expected
    assert not journal.exists()


def test_reader_that_leaves_early_causes_no_traceback() -> None:
    program = (
        "from mofgap.cli.tables import print_lines\n"
        "print_lines(['header', *('x' * 1000 for _ in range(10_000))])"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert writer.stdout is not None and writer.stderr is not None
    assert writer.stdout.readline() == "header\n"
    writer.stdout.close()
    assert writer.stderr.read() == "" and writer.wait() == 0
