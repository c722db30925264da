from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mofgap.configuration import ConfigurationError, dump, from_dict, load
from mofgap.study.config import Ablation, ComparisonConfig, JudgementConfig, Recipe, SplitConfig
from mofgap.study.engine.config import RunConfig
from mofgap.study.methods.method import method_of, uncorrected
from mofgap.study.methods.registry import METHODS

TABLE = {"data": {"table": "t.parquet"}}


def read(**sections: object) -> ComparisonConfig:
    return from_dict(ComparisonConfig, TABLE | sections)


def test_an_ablation_changes_one_thing_of_the_recipe() -> None:
    recipe = Ablation(kl_weight=0.0).applied(Recipe(rank=16))
    assert recipe == Recipe(rank=16, kl_weight=0.0)
    for wrong in ({}, {"rank": 4, "noise": "rows"}):
        with pytest.raises(ConfigurationError, match="changes one thing"):
            read(ablations={"wrong": wrong})


def test_whatever_an_ablation_can_change_is_of_the_recipes_type_and_range() -> None:
    with pytest.raises(
        ConfigurationError, match=r"ablations.wrong.prior_rate: must be above 0.0 and below 1.0"
    ):
        read(ablations={"wrong": {"prior_rate": 1.5}})


def test_the_split_of_an_ablation_is_defined() -> None:
    with pytest.raises(ConfigurationError, match=r"ablations.rank-4.split: no split 'others'"):
        read(ablations={"rank-4": {"rank": 4, "split": "others"}})


def test_an_unknown_key_is_told_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"recipe\.epoch: unknown key; did you mean 'epochs'"):
        read(recipe={"epoch": 3})


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "without"},
        {"element": "Co"},
        *({"kind": "without", "element": name} for name in ("Xx", "Hoh")),
    ],
)
def test_an_element_is_one_and_goes_with_its_kind_of_split(wrong: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="element"):
        from_dict(SplitConfig, wrong)


def test_adapters_on_no_layer_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="modules"):
        read(recipe={"modules": []})


@pytest.mark.parametrize("name", METHODS)
def test_an_ablation_is_not_named_like_a_method(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ablations: '{name}' is the name of a method"):
        read(ablations={name: {"rank": 4}})


def test_an_unknown_method_is_told_the_nearest() -> None:
    with pytest.raises(ConfigurationError, match=r"wrong\.method: .*did you mean 'balora'"):
        read(ablations={"wrong": {"method": "balorra", "rank": 4}})
    with pytest.raises(ConfigurationError, match=r"trainings\.others: unknown method 'lora'"):
        read(splits={"split": {"trainings": {"others": {"lora": 2}}}})


def test_the_estimators_that_can_be_judged_are_those_of_balora() -> None:
    judged = get_args(get_type_hints(JudgementConfig)["estimator"])
    assert {uncorrected(name) for name in judged} == {each.name for each in method_of("balora").estimators}


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "", "a b", "-a"])
def test_names_stay_in_their_folder(name: str) -> None:
    with pytest.raises(ConfigurationError, match="splits: "):
        read(splits={name: {}})
    with pytest.raises(ConfigurationError, match="ablations: "):
        read(ablations={name: {"rank": 4}})


def test_an_empty_list_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"splits: name at least one"):
        read(splits={})
    with pytest.raises(ConfigurationError, match=r"prediction\.samples: "):
        read(prediction={"samples": []})


def test_numbers_of_draws_rise() -> None:
    with pytest.raises(ConfigurationError, match="samples: expected rising numbers"):
        read(prediction={"samples": [4, 2]})


def test_an_estimator_with_neighbours_needs_the_correction() -> None:
    asked = {"estimator": "balora-weights+neighbours"}
    with pytest.raises(ConfigurationError, match=r"estimator: .* needs prediction\.neighbour_correction"):
        read(judgement=asked)
    assert read(judgement=asked, prediction={"neighbour_correction": True}).prediction.neighbour_correction


def test_a_written_configuration_reads_back(tmp_path: Path) -> None:
    config = read(
        splits={"split": {}, "without-Co": {"kind": "without", "element": "Co"}},
        ablations={"rank-4": {"rank": 4}, "last": {"blocks": [4]}},
    )
    path = tmp_path / "config.yaml"
    path.write_text(dump(config))
    assert load(ComparisonConfig, path) == config


def test_the_shipped_configuration_is_valid() -> None:
    root = Path(__file__).parents[2]
    config = load(RunConfig, root / "configs/qmof.yaml").comparison
    assert config is not None
    assert {split.kind for split in config.splits.values()} == {"column", "grouped", "without"}
