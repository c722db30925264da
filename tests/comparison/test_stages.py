from __future__ import annotations

import os

import pytest
import torch

from mofgap.comparison import stages
from mofgap.comparison.config import ComputeConfig


def test_no_number_of_jobs_changes_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert {stages._threads(ComputeConfig(device="cpu", jobs=jobs)) for jobs in (1, 2, 8)} == {"1"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert stages._threads(ComputeConfig(jobs=2)) == "4"
