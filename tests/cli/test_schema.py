"""A setting is declared once: options, arguments, keys and their documentation come from its field."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

import pytest
import torch
import typer
from pydantic import Field, NonNegativeInt
from typer.testing import CliRunner

import mofgap
from mofgap.__main__ import app
from mofgap.choices import BATCH_ATOMS, MAX_SEED, UNCERTAINTIES
from mofgap.cli import screen as verb
from mofgap.cli.options import refused
from mofgap.cli.schema import with_settings
from mofgap.configuration import ConfigurationError, dump, from_dict, schema
from mofgap.plain_words import bounds, choices, default_of, limits, meaning, settings_of
from mofgap.screening.config import ScreeningConfig
from mofgap.screening.levels import DEFAULT
from mofgap.screening.row import DEFAULT_COVERAGE
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine.config import RunConfig, ShardedScreening
from mofgap.training.config import PretrainConfig
from mofgap.training.job import TrainingJob
from mofgap.training.joint import JointConfig

FIELDS = settings_of(ScreeningConfig)
OPTIONS = inspect.signature(verb.screen).parameters
ARGUMENTS = inspect.signature(mofgap.screen).parameters


def words(text: str) -> str:
    """Without the ends of lines, and the marks of comments."""
    return " ".join(re.sub(r"^\s*#?", "", text, flags=re.MULTILINE).split())


@pytest.fixture(scope="module")
def printed() -> str:
    return CliRunner().invoke(app, ["config"]).stdout


@pytest.mark.parametrize("name", FIELDS)
def test_a_setting_of_a_screening_is_the_same_everywhere(name: str, printed: str) -> None:
    field, option, argument = FIELDS[name], OPTIONS[name], ARGUMENTS[name]
    kind, described = get_args(option.annotation)
    assert option.default == argument.default == getattr(ScreeningConfig(), name) == default_of(field)
    assert described.help == meaning(field) and field.description
    assert f"{name}: {meaning(field)}" in words(mofgap.screen.__doc__ or "")
    assert kind == get_type_hints(ScreeningConfig)[name] and choices(kind) == choices(field.annotation)
    section = printed[printed.index("\nscreening:") : printed.index("\nresources:")]
    if name == "workers":  # a run has resources.screen.cpus
        assert "  workers:" not in section
        return
    comment = f"{meaning(field)} ({limits(field)})".removesuffix(" ()")
    assert f"{comment} {name}: {json.dumps(field.default)}".replace('"', "") in words(section)


def test_a_range_is_that_of_the_option() -> None:
    ends = {name: get_args(OPTIONS[name].annotation)[1] for name in ("coverage", "samples")}
    assert (ends["coverage"].min, ends["coverage"].max) == (0.5, 0.99)
    assert (ends["samples"].min, ends["samples"].max) == (0, None)


def test_limits_and_defaults_are_those_of_what_does_the_work() -> None:
    assert get_args(get_type_hints(ScreeningConfig)["uncertainty"]) == UNCERTAINTIES
    config = ScreeningConfig()
    assert (config.max_atoms, config.batch_atoms, config.coverage) == (1000, 4000, 0.9)
    assert (BATCH_ATOMS, DEFAULT_COVERAGE) == (4000, 0.9)
    assert limits(FIELDS["coverage"]) == "at least 0.5 and at most 0.99"
    assert f"By default {DEFAULT}" in meaning(FIELDS["level"])


@pytest.mark.parametrize("cls", [RunConfig, ComparisonConfig, TrainingJob, PretrainConfig, JointConfig])
def test_no_seed_is_larger_than_torch_takes(cls: type) -> None:
    places, n_seeds = [cls], 0
    for place in places:
        for name, field in settings_of(place).items():
            kind = field.annotation
            places += [each for each in (kind, *get_args(kind)) if is_dataclass(each)]
            if name.endswith("seed"):
                assert bounds(field) == {"ge": 0, "le": MAX_SEED}
                n_seeds += 1
    assert n_seeds
    torch.manual_seed(MAX_SEED)


def test_what_decides_the_rows_and_their_ranks_is_everything_else_than_where_and_how_fast() -> None:
    config = ScreeningConfig(window=(1.8, float("inf")), top=3)
    # By these names journals and shards hold them, those begun before included.
    assert list(config.row_settings) == [
        *("window", "uncertainty", "samples", "seed"),
        *("batch_atoms", "max_atoms", "disorder", "coverage"),
        *("geometry", "guests", "add_hydrogens", "hydrogen_lengths", "bond_lengths", "primitive_cell"),
    ]
    assert config.row_settings["window"] == (1.8, float("inf"))
    assert config.rank_settings == {"rank_by": "window", "top": 3, "novelty": "keep", "duplicates": "keep"}
    elsewhere = {"model", "level", "device", "workers"}
    assert config.row_settings.keys() | config.rank_settings.keys() | elsewhere == FIELDS.keys()


def test_an_open_end_of_a_window_is_infinite() -> None:
    assert ScreeningConfig(window=(1.8, "inf")).window == (1.8, float("inf"))  # type: ignore[arg-type]
    assert ScreeningConfig(window=("-inf", 3)).window == (float("-inf"), 3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"window\[1\]: .* nothing \(null\); inf leaves an end open"):
        ScreeningConfig(window=(1.8, None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "key", "told"),
    [
        ({"window": (3.0, 1.8)}, "window", "lower end first"),
        ({"window": [1.0]}, "window", "a list of 2 numbers, or nothing"),
        ({"rank_by": "window"}, "rank_by", "needs a window"),
        ({"rank_by": "hihg"}, "rank_by", "did you mean 'high'"),
        ({"level": "both", "model": "qmof-pbe"}, "level", "not both"),
        ({"samples": 1, "uncertainty": "rows"}, "samples", "two or more"),
        ({"coverage": 1.0}, "coverage", "at most 0.99"),
        ({"top": 0}, "top", "at least 1"),
        ({"seed": "5"}, "seed", "expected a whole number, got the text '5'"),
        ({"seed": True}, "seed", "expected a whole number, got true"),
        ({"seed": 2**64}, "seed", "at most 18446744073709551615"),
    ],
)
def test_each_front_door_refuses_in_its_own_words(wrong: dict[str, Any], key: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{key}: .*{told}"):
        mofgap.screen([], **wrong)
    with pytest.raises(ConfigurationError, match=f"^screening.{key}: .*{told}"):
        from_dict(RunConfig, {"name": "x", "screening": {"inputs": ["a"], **wrong}})
    with pytest.raises(typer.BadParameter) as caught, refused():
        ScreeningConfig(**wrong)
    assert caught.value.param_hint == f"--{key.replace('_', '-')}" and told in caught.value.message


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"novel.*did you mean 'novelty'"):
        mofgap.screen([], novel="drop")
    with pytest.raises(ConfigurationError, match=r"^screening\.novel: unknown key; did you mean 'novelty'"):
        from_dict(RunConfig, {"name": "x", "screening": {"inputs": ["a"], "novel": "drop"}})
    done = CliRunner().invoke(app, ["screen", "x.cif", "--novel", "drop"], env={"COLUMNS": "200"})
    assert done.exit_code == 2 and "--novelty" in done.output


def test_what_a_run_has_once_for_all_is_no_key_of_its_screening() -> None:
    with pytest.raises(ConfigurationError, match=r"screening\.workers: unknown key"):
        from_dict(RunConfig, {"name": "x", "screening": {"inputs": ["a"], "workers": 2}})
    asked = ShardedScreening(inputs=("a",), top=5)  # type: ignore[call-arg]
    assert asked.in_processes(3) == ScreeningConfig(top=5, workers=3)


def test_an_open_window_survives_yaml() -> None:
    config = ShardedScreening(window=(2.0, float("inf")), inputs=("a",))  # type: ignore[call-arg]
    text = dump(RunConfig("x", screening=config))
    assert "window: [2.0, .inf]" in text


@schema
class Baking:
    """How bread is baked."""

    flour_g: int = Field(description="How much flour.", ge=1, json_schema_extra={"unit": "g"})
    salted: bool = Field(True, description="With salt.")
    hours: float = Field(1.5, description="How long.", gt=0.0)


def test_a_command_gets_an_option_for_each_setting() -> None:
    program = typer.Typer()

    @program.command()
    @with_settings(Baking, panels={"Time": ("hours",)}, flour_g="GRAMS")
    def bake(
        oven: Annotated[str, typer.Argument()],
        again: Annotated[bool, typer.Option()] = False,
        **settings: Any,
    ) -> None:
        typer.echo(f"{oven} {again} {Baking(**settings)}")

    done = CliRunner().invoke(program, ["stone", "--flour-g", "500", "--no-salted"])
    assert done.stdout == "stone False Baking(flour_g=500, salted=False, hours=1.5)\n"
    assert CliRunner().invoke(program, ["stone"]).exit_code == 2
    assert CliRunner().invoke(program, ["stone", "--flour-g", "0"]).exit_code == 2
    shown = CliRunner().invoke(program, ["--help"], env={"COLUMNS": "200"}).output
    assert shown.index("oven") < shown.index("GRAMS") < shown.index("--again")
    assert shown.index("--again") < shown.index("Time") < shown.index("--hours")  # under its own heading
    assert "How much flour. Unit: g." in shown


@schema
class Baked:
    """What was baked."""

    sizes: tuple[NonNegativeInt, ...] = Field((1, 2), description="How large.")
    names: tuple[str, ...] = Field((), description="What they are called.")


def test_items_of_a_list_are_numbers_where_the_setting_has_numbers() -> None:
    program = typer.Typer()

    @program.command()
    @with_settings(Baked)
    def show(**settings: Any) -> None:
        typer.echo(Baked(**settings))

    done = CliRunner().invoke(program, ["--sizes", "3, 4", "--names", "2,a"])
    assert done.stdout == "Baked(sizes=(3, 4), names=('2', 'a'))\n", done.output


def test_an_editor_gets_the_schema_of_a_run() -> None:
    found = json.loads(CliRunner().invoke(app, ["config", "--schema"]).stdout)
    screening = found["$defs"]["ShardedScreening"]
    assert screening["properties"]["coverage"] == {
        "default": 0.9,
        "description": meaning(FIELDS["coverage"]),
        "maximum": 0.99,
        "minimum": 0.5,
        "title": "Coverage",
        "type": "number",
    }
    assert screening["required"] == ["inputs"] and not screening["additionalProperties"]
    assert set(screening["properties"]) == set(settings_of(ShardedScreening))
