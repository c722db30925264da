"""The stages of a run, in order, from its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from mofgap.configuration import to_dict
from mofgap.shipped import model_folder
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine.config import PRETRAINED, RunConfig
from mofgap.study.engine.folder import RunError
from mofgap.study.engine.metrics import METRICS
from mofgap.study.engine.screening import gather_stage, screen_stages
from mofgap.study.engine.stage import Stage
from mofgap.study.layout import COST, GRAPHS, HISTORY, KEY, PREDICTIONS, RECORD, TABLE
from mofgap.study.members import Member, Prediction, dataset_settings, members, predictions, tabled

N_CARDS = 12
"""Candidates of a screening that its page shows with their structure."""


def plan(config: RunConfig, run: Path) -> tuple[Stage, ...]:
    """Every stage of a run, each after those it needs.

    Args:
        config: What to do.
        run: The run folder; nothing is read from it.
    """
    stages = [*_comparison(config, run), *_screening(config)]
    if config.report:
        stages += _reports(config, stages)
    return tuple(stages)


def stage_named(stages: tuple[Stage, ...], name: str) -> Stage:
    """The stage of a name.

    Raises:
        RunError: There is none.
    """
    for stage in stages:
        if stage.name == name:
            return stage
    raise RunError(f"no stage {name!r}; there are {', '.join(s.name for s in stages)}")


def _comparison(config: RunConfig, run: Path) -> Iterator[Stage]:
    if config.comparison is None:
        return
    wanted = config.comparison_in(run)
    if config.pretraining is not None:
        yield _pretrain(config)
    yield _prepare(config, wanted)
    yield _encode(config, wanted)
    for member in members(wanted):
        yield _train(member, config, wanted)
    for prediction in predictions(wanted):
        yield _predict(prediction, wanted)
    for split in wanted.splits:
        yield _calibrate(split, wanted)
    yield _compare(wanted)


def _pretrain(config: RunConfig) -> Stage:
    settings = to_dict(config.pretraining)
    table = settings.pop("table")
    return Stage(
        rule="pretrain",
        work=_do_pretrain,
        settings=settings,
        modules=("mofgap.training.pretrain",),
        writes=(f"{PRETRAINED}/**",),
        files=(table,),
    )


def _do_pretrain(config: RunConfig, run: Path) -> None:
    from mofgap.crystals.dataset import TableError, read_table
    from mofgap.training.atoms import PretrainConfig
    from mofgap.training.loop import LAST, Compute
    from mofgap.training.pretrain import pretrain

    asked, folder = config.pretraining, run / PRETRAINED
    assert asked is not None  # there would be no such stage
    compute = Compute(
        asked.device, asked.devices, asked.nodes, asked.strategy, asked.precision, progress=False
    )
    settings = PretrainConfig(
        epochs=asked.epochs,
        batch_atoms=asked.batch_atoms,
        learning_rate=asked.learning_rate,
        seed=asked.seed,
    )
    size = {"n_blocks": asked.blocks, "width": asked.width}
    frame, begun = read_table(asked.table), (folder / LAST).exists()
    try:
        pretrain(frame, folder, asked.architecture, size, settings, resume=begun, compute=compute)
    except TableError as error:
        raise TableError(f"{asked.table}: {error}") from error
    for checkpoint in folder.glob("*.ckpt"):
        checkpoint.unlink()


def _encoder_files(config: RunConfig, wanted: ComparisonConfig) -> tuple[str, ...]:
    """Files of the encoder that is named, if it comes from outside the run."""
    if config.pretraining is not None:
        return ()
    folder = model_folder(wanted.encoder, "encoder.json") or Path(wanted.encoder)
    return str(folder / "encoder.safetensors"), str(folder / "encoder.json")


def _prepare(config: RunConfig, wanted: ComparisonConfig) -> Stage:
    files = (wanted.data.table, wanted.data.cifs)
    return Stage(
        rule="prepare",
        work=_stage("prepare"),
        settings=dataset_settings(wanted) | {"memory": wanted.prediction.memory},
        modules=("mofgap.study.dataset", "mofgap.study.methods.encoder"),
        writes=tuple(f"dataset/{name}" for name in (TABLE, GRAPHS, RECORD)),
        after=("pretrain",) if config.pretraining else (),
        files=(*(str(f) for f in files if f), *_encoder_files(config, wanted)),
    )


def _encode(config: RunConfig, wanted: ComparisonConfig) -> Stage:
    return Stage(
        rule="encode",
        work=_stage("encode"),
        settings={"first_block": min(wanted.recipe.blocks), "batch_atoms": wanted.prediction.batch_atoms},
        modules=("mofgap.study.methods.encoder",),
        writes=("encoder/*", "dataset/features-*.safetensors", "dataset/novelty-*.parquet"),
        after=(*(("pretrain",) if config.pretraining else ()), "prepare"),
        files=_encoder_files(config, wanted),
    )


def _train(member: Member, config: RunConfig, wanted: ComparisonConfig) -> Stage:
    compute = to_dict(wanted.compute)
    compute.pop("jobs", None)
    return Stage(
        rule="train",
        item=member.name,
        work=_stage("train", member.name),
        settings={
            "method": member.method,
            "seed": member.seed,
            **member.settings,
            "n_train": member.recipe.n_train,
            "threads": config.resources.train.cpus,
            **compute,
        },
        modules=("mofgap.study.methods.training",),
        writes=(f"members/{member.name}/**",),
        after=("encode",),
        reads=(),
        content=partial(_member_content, name=member.name),
        describes={
            "n_val_calibration": wanted.prediction.n_val,
            "level_of_theory": wanted.data.level_of_theory,
            "citation": wanted.data.citation,
        },
    )


def _member_content(config: RunConfig, run: Path, *, name: str) -> str:
    """What a training learns from, which other splits and rows of the table do not change."""
    from mofgap.study.dataset import read
    from mofgap.study.members import member
    from mofgap.study.methods.training import member_key

    wanted = config.comparison_in(run)
    return member_key(wanted, run, read(run), member(wanted, name))


def _predict(prediction: Prediction, wanted: ComparisonConfig) -> Stage:
    published = wanted.data.published if prediction.source == "published" else None
    asked = wanted.prediction
    settings = {name: getattr(asked, name) for name in ("n_val", "seed", "batch_atoms")}
    settings["memory"] = prediction.remembers(asked)
    if draws := prediction.draws(asked):
        settings |= {"draws": list(draws), "dropout": wanted.recipe.dropout}
    return Stage(
        rule="predict",
        item=prediction.name,
        work=_stage("predict", prediction.name),
        settings=settings,
        modules=("mofgap.study.methods.prediction",),
        writes=(f"predictions/{prediction.name}.parquet", f"predictions/{prediction.name}.json"),
        after=(
            "encode",
            *(f"train/{name}" for name in prediction.members),
            *(f"predict/{name}" for name in prediction.predictions),
        ),
        reads=("members/**/*.safetensors", "predictions/**/*.parquet"),
        files=(str(published),) if published else (),
        content=partial(_prediction_content, name=prediction.name),
    )


def _prediction_content(config: RunConfig, run: Path, *, name: str) -> str:
    from mofgap.study.methods.prediction import prediction_key

    return prediction_key(config.comparison_in(run), run, name)


def _calibrate(split: str, wanted: ComparisonConfig) -> Stage:
    predicted = [prediction.name for prediction in tabled(wanted, split)]
    return Stage(
        rule="calibrate",
        item=split,
        work=_stage("calibrate", split),
        settings={"predictions": predicted},
        modules=("mofgap.study.judge.calibrated",),
        writes=(f"calibrated/{split}.parquet", f"calibrated/{split}.json"),
        after=tuple(f"predict/{name}" for name in predicted),
        reads=("predictions/**",),
    )


def _compare(wanted: ComparisonConfig) -> Stage:
    trained = [member.name for member in members(wanted)]
    predicted = [prediction.name for split in wanted.splits for prediction in tabled(wanted, split)]
    return Stage(
        rule="compare",
        work=_do_compare,
        settings={"judgement": to_dict(wanted.judgement), "splits": to_dict(wanted)["splits"]},
        modules=("mofgap.study.judge.summary", "mofgap.study.engine.metrics"),
        writes=(PREDICTIONS, "comparison.*", METRICS),
        after=(
            "prepare",
            *(f"train/{name}" for name in trained),
            *(f"predict/{name}" for name in predicted),
            *(f"calibrate/{split}" for split in wanted.splits),
        ),
        reads=(
            "calibrated/**",
            "predictions/**/*.json",
            f"dataset/{TABLE}",
            *(f"members/**/{name}" for name in (COST, KEY, HISTORY)),
        ),
    )


def _do_compare(config: RunConfig, run: Path) -> None:
    from mofgap.study.engine.comparison import compare
    from mofgap.study.engine.metrics import write_metrics

    compare(config.comparison_in(run), run)
    write_metrics(run)


def _stage(name: str, item: str | None = None) -> Callable[[RunConfig, Path], None]:
    """A stage of the comparison."""

    def work(config: RunConfig, run: Path) -> None:
        from mofgap.study.engine import comparison as stages

        arguments: list[Any] = [config.comparison_in(run), run]
        getattr(stages, name)(*arguments, *([item] if item else []))

    return work


def _screening(config: RunConfig) -> Iterator[Stage]:
    if config.screening is not None:
        shards = screen_stages(config.screening)
        yield from shards
        yield gather_stage(config.screening, shards)


def _reports(config: RunConfig, stages: list[Stage]) -> Iterator[Stage]:
    """A page for the comparison, and one for the screening."""
    rules = {stage.rule for stage in stages}
    if "compare" in rules:
        yield Stage(
            rule="report",
            work=_report_comparison,
            settings={},
            modules=("mofgap.study.report.page",),
            writes=("report.html",),
            after=("compare",),
        )
    if config.screening is not None:
        yield Stage(
            rule="report",
            item="screening",
            work=_report_screening,
            settings={"window": config.screening.window},
            modules=("mofgap.report.screening_page", "mofgap.report.structures"),
            writes=("screening.html",),
            after=("gather",),
        )


def _report_comparison(config: RunConfig, run: Path) -> None:
    from mofgap.report.page import write_page
    from mofgap.study.report.compared import read_compared
    from mofgap.study.report.page import comparison_page

    write_page(run / "report.html", comparison_page(read_compared(run)))


def _report_screening(config: RunConfig, run: Path) -> None:
    from mofgap.report.page import write_page
    from mofgap.report.screened import read_screened
    from mofgap.report.screening_page import candidates, screening_page
    from mofgap.report.structures import drawings_of

    asked = config.screening
    assert asked is not None  # there would be no such stage
    screened = read_screened(run / asked.table)
    structures = drawings_of(candidates(screened, N_CARDS), (Path(), run))
    page = screening_page(screened, asked.table, asked.window, structures, N_CARDS)
    write_page(run / "screening.html", page)
