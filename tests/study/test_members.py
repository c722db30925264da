from __future__ import annotations

from dataclasses import fields, replace

import pytest

from mofgap.configuration import ConfigurationError
from mofgap.study.config import Ablation, ComparisonConfig, Recipe
from mofgap.study.members import member, members, predictions, training_settings
from mofgap.study.methods.method import methods
from mofgap.study.planned import Member

TRAINED = [method.name for method in methods() if method.adaptation]


def test_the_ensemble_is_made_of_lora_trainings_of_different_seeds(tiny_config: ComparisonConfig) -> None:
    (ensemble,) = [p for p in predictions(tiny_config) if p.name == "split/lora-ensemble-seed0"]
    assert ensemble.predictions == ("split/lora-seed0", "split/lora-seed1", "split/lora-seed2")
    trained = {m.name: m for m in members(tiny_config)}
    assert len({trained[name].seed for name in ensemble.members}) == 3


def test_names_are_unique_and_every_prediction_rests_on_what_there_is(tiny_config: ComparisonConfig) -> None:
    trained = [m.name for m in members(tiny_config)]
    predicted = [p.name for p in predictions(tiny_config)]
    assert len(set(trained)) == len(trained)
    assert len(set(predicted)) == len(predicted)
    for each in predictions(tiny_config):
        assert set(each.members) <= set(trained)
        assert set(each.predictions) <= set(predicted[: predicted.index(each.name)])


def test_published_predictions_stand_where_the_rows_are_those_of_the_table(
    tiny_config: ComparisonConfig,
) -> None:
    assert [p.split for p in predictions(tiny_config) if p.method == "published"] == ["split"]


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"kl_weight": 0.5}, {"balora"}),
        ({"noise": "rows"}, {"balora"}),
        ({"rank": 3}, {"lora", "dropout", "balora"}),
        ({"dropout": 0.4}, {"dropout"}),
        ({"kl_warmup": 0.5}, {"balora"}),
        ({"encoder_learning_rate": 0.1}, {"full", "scratch"}),
        ({"epochs": 7}, set(TRAINED)),
        ({"n_train": 25}, set()),  # its rows tell
    ],
)
def test_a_training_depends_on_what_its_method_reads(
    tiny_config: ComparisonConfig, change: dict[str, object], moved: set[str]
) -> None:
    before = tiny_config.recipe
    after = replace(before, **change)  # type: ignore[arg-type]
    found = {
        method
        for method in TRAINED
        if training_settings(Member("split", method, 0, before))
        != training_settings(Member("split", method, 0, after))
    }
    assert found == moved


def test_whatever_a_method_reads_is_a_setting_of_the_recipe() -> None:
    known = {field.name for field in fields(Recipe)}
    assert all({*method.reads, *method.reads_to_predict} <= known for method in methods())


def test_an_ablation_that_its_method_does_not_read_is_refused(tiny_config: ComparisonConfig) -> None:
    for method, change in (("full", {"rank": 4}), ("lora", {"kl_weight": 0.1})):
        idle = Ablation(method=method, **change)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=f"ablations.idle: {method} does not read"):
            members(replace(tiny_config, ablations={"idle": idle}))


def test_an_unknown_name_is_told_the_known(tiny_config: ComparisonConfig) -> None:
    with pytest.raises(ConfigurationError, match=r"split/lora-seed9.*split/balora-seed0"):
        member(tiny_config, "split/lora-seed9")


@pytest.mark.parametrize("name", ["composition", "mean", "laplace", "lora-ensemble"])
def test_a_method_without_trainings_of_its_own_can_be_left_out(
    tiny_config: ComparisonConfig, name: str
) -> None:
    def with_others(others: dict[str, int]) -> ComparisonConfig:
        splits = {
            split: replace(each, trainings=replace(each.trainings, lora=1, ensemble=2, others=others))
            for split, each in tiny_config.splits.items()
        }
        return replace(tiny_config, splits=splits)

    both, one = with_others({}), with_others({name: 0})
    assert {p.method for p in predictions(both)} - {p.method for p in predictions(one)} == {name}
    fewer = 1 if name == "lora-ensemble" else 0
    assert len(members(both)) - len(members(one)) == fewer * len(both.splits)
    with pytest.raises(ConfigurationError, match=rf"trainings\.others\.{name}: it has no trainings"):
        members(with_others({name: 2}))
