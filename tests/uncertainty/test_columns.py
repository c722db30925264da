import numpy as np
import pytest

from mofgap.uncertainty.columns import check_level, columns


def test_columns_come_back_in_order_as_floats():
    first, second = columns(b=[1, 2], a_std=(0, 3))
    assert first.tolist() == [1, 2] and second.tolist() == [0, 3]
    assert first.dtype == second.dtype == np.float64
    assert [len(column) for column in columns(a=[], b=[])] == [0, 0]


@pytest.mark.parametrize(
    ("named", "names"),
    [
        ({"y_true": [1, 2], "y_std": [1]}, r"y_std.*1.*y_true.*2"),
        ({"a": [1, 2], "b": [1, 2], "c": [1]}, r"c.*1.*a.*2"),
        ({"y_pred": [1, np.nan, np.inf]}, r"y_pred.*2"),
        ({"lo": [1, np.inf]}, r"lo.*1"),
        ({"y_std": [1, -1, -2]}, r"y_std.*2"),
        ({"y_pred": [[1, 2]]}, r"y_pred.*\(1, 2\)"),
    ],
)
def test_a_bad_column_is_named(named, names):
    with pytest.raises(ValueError, match=names):
        columns(**named)


def test_only_a_std_may_not_be_negative():
    assert columns(y_pred=[-1.0])[0] == [-1.0]


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_level_lies_between_0_and_1(level):
    with pytest.raises(ValueError, match=f"level.*{level}"):
        check_level(level)
