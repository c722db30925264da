from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from mofgap.configuration import ConfigurationError
from mofgap.study.config import ComparisonConfig, ComputeConfig
from mofgap.study.engine import comparison as stages


def test_a_package_that_is_missing_is_told_before_the_work(
    tiny_config: ComparisonConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"mofgap\[study\]"):
        stages.prepare(tiny_config, tmp_path)


def test_no_number_of_jobs_changes_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert {stages._threads(ComputeConfig(device="cpu", jobs=jobs)) for jobs in (1, 2, 8)} == {"1"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert stages._threads(ComputeConfig(jobs=2)) == "4"
