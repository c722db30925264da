"""A short fuzzing of each reader, and what longer ones found."""

from __future__ import annotations

import warnings
from itertools import islice
from pathlib import Path

import pytest

from benchmarks.fuzz import TARGETS, Findings, mutations

FOUND = sorted(path for path in (Path(__file__).parents[1] / "fixtures/fuzz").iterdir() if "-" in path.name)
N_INPUTS = 40


@pytest.fixture(autouse=True)
def quiet() -> None:
    """As in a screening."""
    warnings.simplefilter("ignore")


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_fuzzing_found_is_read_or_refused_with_a_reason(path: Path, tmp_path: Path) -> None:
    name = path.name.partition("-")[0]
    findings = Findings(name if name in TARGETS else f".{name}", tmp_path)
    findings.look(path.read_bytes())
    assert not findings.kinds


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs_are_read_or_refused_with_a_reason(target: str, tmp_path: Path) -> None:
    findings = Findings(target, tmp_path)
    for data in islice(mutations(target, seed=0), N_INPUTS):
        findings.look(data)
    assert not findings.kinds


def test_a_fault_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> list[str]:
        raise KeyError(data)

    monkeypatch.setitem(TARGETS, "reader", fails)
    findings = Findings("reader", tmp_path)
    findings.look(b"data_")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"data_"]
