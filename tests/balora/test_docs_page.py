"""docs/balora.md: its lines run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "balora.md"


def test_the_lines_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line]) <= 25
    scope: dict[str, object] = {}
    exec(code, scope)
    x, y, mean, std, samples, merged = (
        scope[name] for name in ("x", "y", "mean", "std", "samples", "merged")
    )
    assert samples.shape == (16, 200, 1)  # type: ignore[attr-defined]
    assert (mean - y).abs().mean() < 0.5 * y.abs().mean()  # type: ignore[operator,attr-defined]
    assert (std > 0).all()  # type: ignore[operator,attr-defined]
    assert (merged(x) - mean).abs().max() < 1e-4  # type: ignore[operator]
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
