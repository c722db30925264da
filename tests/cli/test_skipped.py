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


def test_a_structure_that_is_left_out_for_its_warnings_is_not_said_to_be_used(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Calibration leaves out those whose charges do not add up."""
    faulty = (
        "a: its file is probably faulty: odd-valence, missing-charge",
        "b: its file is probably faulty: odd-valence",
    )
    labels = Labels(pd.DataFrame(), "gap_ev", (), (), faulty)
    tell_left_out(labels, {"missing-charge"})
    assert capsys.readouterr().err == f"used {faulty[1]}\nskipped {faulty[0]}\n"
    tell_left_out(labels)
    assert capsys.readouterr().err == f"used {faulty[0]}\nused {faulty[1]}\n"
