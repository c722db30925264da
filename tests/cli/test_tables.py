from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest

from mofgap.cli.tables import print_json, show
from mofgap.screening.row import shortened

NAME = "MIL-53-Al-closed_SABWAU_relaxed_with_PBE-D3"
WORDS = "a title of several words that is long enough to be broken"
ROWS = [{"name": NAME, "words": WORDS, "gap": 1.23456789}]
COLUMNS = {"name": "structure", "words": "title", "gap": "gap / eV"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def test_a_terminal_gets_a_table_whose_names_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    show(ROWS, COLUMNS)
    text = re.sub("\x1b[^m]*m", "", stream.getvalue())
    assert shortened(NAME) in text and "1.235" in text and "gap / eV" in text
    assert shortened(NAME).startswith("MIL-53-Al") and shortened(NAME).endswith("PBE-D3")
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_gap_keeps_its_error_bar_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    numbers = {f"n{i}": f"heading {i}" for i in range(5)}
    row = {"name": NAME, "gap": "2.57 ± 0.86"} | dict.fromkeys(numbers, 1)
    show([row], {"name": "structure", "gap": "gap / eV"} | numbers)
    lines = re.sub("\x1b[^m]*m", "", stream.getvalue()).splitlines()
    assert "2.57 ± 0.86" in lines[1] and all(len(line) <= 80 for line in lines)


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    show(ROWS, COLUMNS)
    assert shortened(NAME) in stream.getvalue() and "\x1b[3" not in stream.getvalue()


def test_a_pipe_gets_every_digit_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROWS[0] | {"nothing": None}], COLUMNS)
    head, line = capsys.readouterr().out.splitlines()
    assert head.split("\t") == ["name", "words", "gap", "nothing"]
    assert line.split("\t") == [NAME, WORDS, "1.23457", ""]
    show([], COLUMNS)
    assert capsys.readouterr().out == "name\twords\tgap\n"


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([{"a": np.float64("nan"), "b": np.int64(2), "c": "é"}])
    assert json.loads(capsys.readouterr().out) == [{"a": None, "b": 2, "c": "é"}]
