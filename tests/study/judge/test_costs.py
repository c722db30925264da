from __future__ import annotations

import math

from mofgap.study.judge.costs import _Known


def test_one_unknown_value_makes_sum_and_largest_unknown_in_any_order() -> None:
    known, unknown = {"mb": 5.0}, dict[str, float]()
    for files in ([known, unknown], [unknown, known]):
        assert math.isnan(_Known(files).largest("mb")) and math.isnan(_Known(files).sum("mb"))
    assert _Known([known, {"mb": 7.0}]).largest("mb") == 7.0
