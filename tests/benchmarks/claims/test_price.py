from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.claims import price


@pytest.fixture
def scores() -> pd.DataFrame:
    rows = [
        ("circuit_logic", "test", "ensemble", 5, "nll", 0.5, 2),
        ("circuit_logic", "test", "ensemble", 5, "auroc_errors_epistemic", 0.7, 2),
        ("circuit_logic", "test", "ensemble", 5, "auroc_errors", 0.8, 2),
        ("circuit_logic", "far", "ensemble", 5, "nll", 9.0, 2),
        ("circuit_logic", "far", "ensemble", 5, "auroc_shifted", 0.6, 2),
        ("circuit_logic", "test", "balora-closed-form", 0, "nll", 0.4, 2),
        ("circuit_logic", "test", "balora", 2, "nll", 0.45, 2),
        ("circuit_logic", "test", "balora", 128, "nll", 0.3, 1),
    ]
    columns = ["task", "split", "way", "n_samples", "score", "mean", "n_trainings"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def cost() -> pd.DataFrame:
    seconds = {"lora": 10.0, "balora": 15.0, "balora-rows": 40.0}
    rows = [{"task": "circuit_logic", "method": name, "cpu_seconds": each} for name, each in seconds.items()]
    return pd.DataFrame(rows)


def test_an_ensemble_costs_a_training_and_a_pass_for_each_member(scores, cost) -> None:
    found = price.priced(scores, cost).set_index("way")
    ensemble, closed = found.loc["ensemble"], found.loc["balora-closed-form"]
    assert (ensemble.trainings, ensemble.training_cost, ensemble.passes) == (5, 5.0, 5)
    assert (closed.trainings, closed.training_cost, closed.passes) == (1, 1.5, 5)
    assert (ensemble.errors_by_spread, ensemble.errors_by_total, ensemble.nll) == (0.7, 0.8, 0.5)


def test_samples_that_only_some_trainings_have_are_left_out(scores) -> None:
    wide = price.summary(scores)
    assert ("circuit_logic", "balora", 2) in wide.index
    assert ("circuit_logic", "balora", 128) not in wide.index


def test_scores_of_shifted_labels_do_not_stand_for_those_of_test_inputs(scores) -> None:
    wide = price.summary(scores).loc["circuit_logic", "ensemble", 5]
    assert wide["nll"] == 0.5
    assert wide["auroc_shifted"] == 0.6


@pytest.mark.parametrize(
    ("way", "method"),
    [("laplace", "lora"), ("balora-rows", "balora-rows"), ("blob-scaled", "blob"), ("balora-near", "balora")],
)
def test_a_way_to_predict_is_paid_by_its_own_method(way: str, method: str) -> None:
    assert price.method_of(way) == method


def test_the_picture_has_a_pair_of_panels_for_each_comparison(scores, cost) -> None:
    figure = price.drawn({"one": price.priced(scores, cost), "two": price.priced(scores, cost)})
    assert len(figure.axes) == 4
