from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, NonNegativeFloat, NonNegativeInt

from mofgap.configuration import (
    ConfigurationError,
    digest,
    dump,
    from_dict,
    load,
    overridden,
    schema,
    to_dict,
)


@schema
class Training:
    """How it is trained."""

    epochs: int = Field(20, description="Passes over the training structures.", ge=1)
    rate: float = Field(1e-3, description="Peak learning rate.", gt=0.0, le=1.0)
    patience: int | None = Field(None, description="Stop after so many epochs without improvement.", ge=1)
    device: Literal["auto", "cpu"] = Field("auto", description="Where to train.")
    window: tuple[float, float] = Field((1.8, 3.0), description="Gap window, eV.")
    shuffle: bool = Field(True, description="Deal anew each epoch.")


@schema
class Whole:
    """All of it."""

    name: str = Field(description="Name of the run.")
    training: Training = Field(default_factory=Training)
    seeds: tuple[NonNegativeInt, ...] = Field((0, 1), description="A training each.")
    table: Path | None = Field(None, description="Where the labels are.")
    colour: Literal["red", "blue"] = Field("red", description="Of the curve.")
    weights: dict[str, NonNegativeFloat] = Field(default_factory=dict, description="By method.")
    stages: dict[str, Training] = Field(default_factory=dict, description="By stage.")

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: given twice")


def built(**values: object) -> Whole:
    return from_dict(Whole, {"name": "x", **values})


def test_values_reach_their_fields() -> None:
    config = built(
        training={"epochs": 3, "rate": 1, "window": [0, 1]}, table="a/b.csv", colour="blue", seeds=[4]
    )
    assert config.training == Training(epochs=3, rate=1.0, window=(0.0, 1.0))
    assert isinstance(config.training.rate, float)
    assert config.table == Path("a/b.csv")
    assert config.colour == "blue"
    assert config.seeds == (4,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainig": {}}, "trainig: unknown key; did you mean 'training'?"),
        ({"training": {"epoch": 3}}, "training.epoch: unknown key; did you mean 'epochs'?"),
        ({"training": {"zzzzz": 3}}, "training.zzzzz: unknown key; known: epochs, rate, "),
        ({"training": {"epochs": "many"}}, "training.epochs: expected a whole number, got the text 'many'"),
        ({"training": {"epochs": 2.5}}, "training.epochs: expected a whole number, got the number 2.5"),
        ({"training": {"epochs": True}}, "training.epochs: expected a whole number, got true"),
        ({"training": {"epochs": 0}}, "training.epochs: must be at least 1, got 0"),
        ({"training": {"rate": 0.0}}, "training.rate: must be above 0.0 and at most 1.0, got 0.0"),
        ({"training": {"rate": float("nan")}}, "training.rate: must be above 0.0 and at most 1.0, got nan"),
        ({"training": {"rate": 10**400}}, "training.rate: "),
        ({"training": {"window": [1, float("inf")]}}, "training.window[1]: must be finite, got inf"),
        ({"training": {"window": [1, float("nan")]}}, "training.window[1]: must be a number, got nan"),
        ({"weights": {"lora": float("inf")}}, "weights.lora: must be finite, got inf"),
        ({"training": {"rate": None}}, "training.rate: expected a number, got nothing (null)"),
        ({"training": {"patience": 0}}, "training.patience: must be at least 1, got 0"),
        (
            {"training": {"device": "cpi"}},
            "training.device: expected one of auto, cpu, got the text 'cpi'; did you",
        ),
        ({"training": {"window": [1]}}, "training.window: expected a list of 2 numbers, got [1]"),
        ({"training": {"window": [1, "b"]}}, "training.window[1]: expected a number, got the text 'b'"),
        ({"training": {"shuffle": 1}}, "training.shuffle: expected true or false, got the number 1"),
        ({"training": 3}, "training: expected keys with values, got the number 3"),
        ({"seeds": 3}, "seeds: expected a list, each a whole number, got the number 3"),
        ({"seeds": [0, -1]}, "seeds[1]: must be at least 0, got -1"),
        ({"seeds": [1, 1]}, "seeds: given twice"),
        ({"weights": {"lora": -1}}, "weights.lora: must be at least 0, got -1"),
        ({"stages": {"one": {"epochs": 0}}}, "stages.one.epochs: must be at least 1"),
        ({"name": 3}, "name: expected text, got the number 3"),
        ({"colour": "green"}, "colour: expected one of red, blue, got the text 'green'"),
    ],
)
def test_wrong_values_are_refused_with_what_is_right(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(**values)
    assert str(caught.value).startswith(message)


def test_an_instance_is_checked_like_a_file_however_often() -> None:
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"^epochs: expected a whole number, got the text 'a'$"):
            Training("a")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"^seeds: given twice$"):
        Whole("x", seeds=(1, 1))
    with pytest.raises(ConfigurationError, match=r"^epoch: unknown key; did you mean 'epochs'"):
        Training(epoch=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match="given twice"):
        Training(1, epochs=2)  # type: ignore[misc]
    with pytest.raises(ConfigurationError, match="more values than there are settings"):
        Training(*[1] * 9)  # type: ignore[arg-type, call-arg]


def test_an_instance_takes_lists_and_numbers_of_numpy() -> None:
    config = Training(np.int64(3), np.float64(0.5), window=np.array([1.0, 2.0]))  # type: ignore[arg-type]
    assert config == Training(3, 0.5, window=[1.0, 2.0])  # type: ignore[arg-type]
    assert type(config.epochs) is int and config.window == (1.0, 2.0)


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("naem: x\ntraining: {epochs: 0, device: gpu}\n")
    with pytest.raises(ConfigurationError) as caught:
        load(Whole, path)
    assert [problem.words.startswith(f"{path}: ") for problem in caught.value.problems] == [True] * 4
    told = str(caught.value).replace(f"{path}: ", "").splitlines()
    assert [line.partition(":")[0] for line in told] == ["name", "training.epochs", "training.device", "naem"]


def test_no_word_of_the_library_is_told() -> None:
    wrong = [{"name": "\ud800"}, {"name": "x", "seeds": {"a": 1}}, {"name": "x", "stages": [1]}, {"name": []}]
    for values in wrong:
        with pytest.raises(ConfigurationError) as caught:
            from_dict(Whole, values)
        assert not re.search(r"(?i)input|error|valid|pydantic|http", str(caught.value))


def test_a_missing_value_is_named_with_its_meaning() -> None:
    with pytest.raises(ConfigurationError, match=r"^name: must be given: Name of the run\.$"):
        from_dict(Whole, {})


def test_a_file_with_overrides(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("name: no\ntraining:\n  rate: 1e-4\n")
    config = load(
        Whole, path, ["training.epochs=5", "training.epochs=6", "seeds=[7, 8]", "training.patience=null"]
    )
    assert config.name == "no"
    assert config.training == Training(epochs=6, rate=1e-4)
    assert config.seeds == (7, 8)


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("name: x", ["training.epohcs=5"], "training.epohcs: unknown key; did you mean 'epochs'?"),
        ("name: x", ["training"], "'training': expected KEY=VALUE"),
        ("name: x", ["name.first=a"], "name.first: name is no section"),
        ("name: x", ["name=[1"], "line 1, column"),
        ("name: x\nname: y", [], 'line 2, column 1: found duplicate key "name"'),
        ("name: [x", [], "line 1, column 9: "),
        ("- a", [], "expected keys with values, got ['a']"),
        ("? [a, b]\n: 1", [], "not to be read: "),
        ("name: &a [*a]", [], "not to be read: "),
        ("[" * 3000, [], "no YAML: maximum recursion depth"),
        ("name: !!bool x", [], "no YAML: "),
        ("name: shipped:nosuch/table.csv", [], "this installation of mofgap carries no nosuch"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, overrides: list[str], message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load(Whole, path, overrides)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file"):
        load(Whole, tmp_path / "none.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"Is a directory; name a YAML file in it$"):
        load(Whole, tmp_path)


def test_overriding_leaves_its_argument_alone() -> None:
    values = {"training": {"epochs": 1}}
    assert overridden(values, ["training.epochs=2"]) == {"training": {"epochs": 2}}
    assert values == {"training": {"epochs": 1}}


def test_the_dump_documents_every_key(tmp_path: Path) -> None:
    config = Whole("x", stages={"one": Training(epochs=2)})
    text = dump(config)
    assert text.startswith("# All of it.\n\n# Name of the run.\nname: x\n# How it is trained.\ntraining:\n")
    assert "  # Peak learning rate. (above 0.0 and at most 1.0)\n  rate: 0.001\n" in text
    assert "  # Where to train. (auto, cpu)\n  device: auto\n" in text
    (tmp_path / "run.yaml").write_text(text)
    assert load(Whole, tmp_path / "run.yaml") == config


def test_the_digest_sees_values_and_nothing_else() -> None:
    assert digest(built()) == digest(from_dict(Whole, {"seeds": [0, 1], "name": "x"}))
    assert digest(built()) != digest(replace(built(), seeds=(0, 2)))
    assert digest(built()) != digest(replace(built(), table=Path("t")))
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    # The digest stands in run folders: a change of its recipe would make all of them stale.
    assert digest(Training()) == "97568382954b3bfd1dce5f301073cc25e437a82fe6042da699d6517d19b3b5bf"


texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
trainings = st.builds(
    Training,
    epochs=st.integers(1, 10**6),
    rate=st.floats(0, 1, exclude_min=True),
    patience=st.none() | st.integers(1, 99),
    device=st.sampled_from(["auto", "cpu"]),
    window=st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2),
    shuffle=st.booleans(),
)


@settings(max_examples=40)
@given(
    st.builds(
        Whole,
        name=texts,
        training=trainings,
        seeds=st.lists(st.integers(0, 2**63), unique=True, max_size=3).map(tuple),
        table=st.none() | texts.filter(lambda t: bool(t)).map(Path),
        colour=st.sampled_from(["red", "blue"]),
        weights=st.dictionaries(texts, st.floats(0, allow_infinity=False), max_size=2),
        stages=st.dictionaries(texts, trainings, max_size=2),
    )
)
def test_yaml_and_plain_values_give_back_what_went_in(
    tmp_path_factory: pytest.TempPathFactory, config: Whole
) -> None:
    assert from_dict(Whole, to_dict(config)) == config
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    path.write_text(dump(config), encoding="utf-8")
    assert load(Whole, path) == config
