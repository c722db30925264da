from __future__ import annotations

import math
import subprocess
import sys

import pytest

from mofgap.study.engine.sources import imported
from mofgap.study.methods.method import NEIGHBOURS, estimators, method_of, method_with, methods
from mofgap.study.methods.registry import METHODS


def test_each_estimator_is_of_one_method_with_and_without_neighbours() -> None:
    assert len(estimators()) == sum(len(method.estimators) for method in methods())
    for name in ("full", "full" + NEIGHBOURS, "lora-ensemble" + NEIGHBOURS, "mc-dropout"):
        assert method_with(name).kind == "trained" and method_with(name).is_network
    scratch, composition, others = map(method_with, ("scratch" + NEIGHBOURS, "composition", "theirs"))
    assert scratch.kind == "baseline" and scratch.is_network
    assert composition.kind == "baseline" and not composition.is_network
    assert others is method_of("published") and others.kind == "published" and not others.is_network


@pytest.mark.parametrize(
    ("estimator", "n_samples", "passes"),
    [
        ("lora", 0, 1),
        ("lora-ensemble", 5, 5),
        ("balora-closed-form", 0, 3),  # a backward pass is two
        ("balora-weights", 8, 8),
        ("full" + NEIGHBOURS, 0, 1),  # its neighbours go by activations, without gradients
        ("scratch" + NEIGHBOURS, 0, 1),
        ("laplace", 0, 1),
        ("lora" + NEIGHBOURS, 0, 3),
        ("balora-distance" + NEIGHBOURS, 0, 3),
        ("lora-ensemble" + NEIGHBOURS, 5, 15),
        ("balora-weights" + NEIGHBOURS, 8, 11),
    ],
)
def test_a_prediction_costs_its_passes(estimator: str, n_samples: int, passes: float) -> None:
    assert method_with(estimator).cost(estimator, n_samples) == passes


def test_what_is_no_network_has_no_passes() -> None:
    assert all(math.isnan(method_with(name).cost(name, 0)) for name in ("composition", "mean", "alignn"))


def reached(*modules: str) -> set[str]:
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += imported(name)
    return {name.removeprefix("mofgap.study.methods.") for name in found if "study.methods." in name}


def test_a_change_of_one_method_makes_no_result_of_another_stale() -> None:
    mine = {type(method).__module__.rpartition(".")[2] for method in methods()}
    assert not reached(method_of("balora").training) & {*mine, "passes", "last_layer", "boosting"}
    predicted = reached("mofgap.study.methods.prediction", type(method_of("laplace")).__module__)
    assert predicted & {*mine, "passes", "last_layer", "boosting"} == {"laplace", "passes", "last_layer"}


def test_a_plan_imports_nothing_that_only_the_work_needs() -> None:
    code = "from mofgap.study.methods.method import methods; methods(); import sys; "
    code += "print([m for m in ('torch', 'pandas', 'sklearn', 'pymatgen') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", METHODS
