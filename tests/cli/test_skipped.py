"""What is said of structures that were left out."""

from __future__ import annotations

import pandas as pd
import pytest

from mofgap.cli.skipped import tell_left_out, tell_skipped
from mofgap.training.labels import Labels


def test_few_are_named_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with its reason."""
    tell_skipped(["a: no label", "b.cif: no atoms"])
    assert capsys.readouterr().err == "skipped a: no label\nskipped b.cif: no atoms\n"


def test_many_are_counted_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Nine thousand rows without a label do not bury what else is said."""
    tell_skipped([f"row{i}: no gap" for i in range(9000)] + ["x.cif: no cell"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["skipped 8980 more: no gap", "skipped 1 more: no cell"]


def test_nothing_is_said_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No empty line either."""
    tell_skipped([])
    assert capsys.readouterr().err == ""


def test_what_is_done_with_faulty_files_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Calibration leaves out some of them, and says how many afterwards."""
    labels = Labels(pd.DataFrame(), "gap_ev", ("a: no label",), (), ("b: its file is probably faulty: x",))
    tell_left_out(labels, "warning:")
    assert capsys.readouterr().err == "skipped a: no label\nwarning: b: its file is probably faulty: x\n"
