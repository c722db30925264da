"""The stages of a comparison: what each does, and what it depends on.

The functions of the first half do their work whenever they are called. Those of the second half make stages
of them and of others, which the engine skips where they are done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from mofgap.configuration import digest, to_dict
from mofgap.shipped import COST, DESCRIPTION, ENCODER_WEIGHTS, METRICS, model_folder
from mofgap.study.config import ComparisonConfig
from mofgap.study.engine.config import PRETRAINED, RunConfig
from mofgap.study.engine.pretraining import pretrain_stage
from mofgap.study.engine.stage import Stage
from mofgap.study.layout import COSTS, GRAPHS, PREDICTIONS, RECORD, SIZE, TABLE
from mofgap.study.members import (
    dataset_settings,
    first_blocks,
    member,
    members,
    predictions,
    tabled,
    training_settings,
)
from mofgap.study.methods.method import method_of, methods
from mofgap.study.planned import Member, Prediction
from mofgap.whole_file import write_text


def prepare(config: ComparisonConfig, run: Path) -> None:
    """Rows, splits and graphs, in ``dataset``; whatever a method would refuse is refused."""
    from mofgap.study import dataset
    from mofgap.study.methods import encoder

    for method in methods():
        method.check(config)
    encoder.check_blocks(config)
    found = dataset.prepare(config, run, encoder.graph_config(config), members(config))
    for method in methods():
        method.check_structures(config, found.frame.structure_id.tolist())
    sys.stderr.writelines(f"skipped {line}\n" for line in dataset.skipped(run))


def encode(config: ComparisonConfig, run: Path) -> None:
    """The pretrained encoder and its features of every structure, in ``encoder``; after `prepare`."""
    from mofgap.study.dataset import read
    from mofgap.study.methods import encoder

    encoder.check_blocks(config)
    encoder.encode(config, run, read(run))


def compare(config: ComparisonConfig, run: Path) -> None:
    """All predictions in one table, their scores, and the verdicts."""
    from mofgap.study.judge.summary import summarise, write_metrics

    summarise(config, run)
    write_metrics(run)


def report(config: ComparisonConfig, run: Path) -> None:
    """The page, ``report.html``."""
    from mofgap.study.report.compared import read_compared
    from mofgap.study.report.page import comparison_page

    write_text(run / "report.html", comparison_page(read_compared(run, with_manifest=False)))


def digest_of_trained(config: ComparisonConfig, run: Path, name: str) -> str:
    """A digest of the rows of a training. Other rows of the table do not change it."""
    from mofgap.study.dataset import read

    wanted, dataset = member(config, name), read(run)
    _, rows = dataset.labels(wanted.split, wanted.recipe.n_train)
    return digest(dataset.content(rows), len(dataset.rows(wanted.split, "val")))


def digest_of_predicted(config: ComparisonConfig, run: Path, split: str) -> str:
    """A digest of the rows of a split that are trained on and predicted."""
    from mofgap.study.dataset import read

    dataset = read(run)
    rows = dataset.predicted(config, split)
    return digest(dataset.content(rows.train), dataset.content(rows.all), rows.part, rows.is_left_out)


def comparison_stages(config: RunConfig, run: Path) -> Iterator[Stage]:
    """The stages of the comparison, in order; none without one."""
    if config.comparison is None:
        return
    wanted = config.comparison_in(run)
    if config.pretraining is not None:
        yield pretrain_stage(config.pretraining)
    yield _prepare(config, wanted)
    yield _encode(config, wanted)
    for each in members(wanted):
        yield _train(each, config, wanted)
    for one in predictions(wanted):
        yield _predict(one, wanted)
    for split in wanted.splits:
        yield _calibrate(split, wanted)
    yield _compare(wanted)
    if config.report:
        yield Stage(
            rule="report",
            work=_of_comparison(report),
            settings={
                "level_of_theory": wanted.data.level_of_theory,
                "citation": wanted.data.citation,
                "encoder": PRETRAINED if config.pretraining else wanted.encoder,  # a run may be moved
            },
            modules=("mofgap.study.report.page",),
            writes=("report.html",),
            after=("compare",),
        )


def _of_comparison(function: Callable[..., Any] | str, *item: str) -> Callable[[RunConfig, Path], Any]:
    """A function of the comparison, the run folder and an item as one of the configuration of the run.

    Named as ``module:function`` it is imported when it is called: a plan needs no torch.
    """
    return partial(_called, function, item)


def _called(function: Callable[..., Any] | str, item: tuple[str, ...], config: RunConfig, run: Path) -> Any:
    called = resolve_name(function) if isinstance(function, str) else function
    return called(config.comparison_in(run), run, *item)


def _prepare(config: RunConfig, wanted: ComparisonConfig) -> Stage:
    files = (wanted.data.table, wanted.data.cifs)
    return Stage(
        rule="prepare",
        work=_of_comparison(prepare),
        settings=dataset_settings(wanted) | {"neighbour_correction": wanted.prediction.neighbour_correction},
        modules=("mofgap.study.dataset", "mofgap.study.methods.encoder"),
        writes=tuple(f"dataset/{name}" for name in (TABLE, GRAPHS, RECORD)),
        after=("pretrain",) if config.pretraining else (),
        files=(*(str(f) for f in files if f), *_encoder_files(config, wanted)),
    )


def _encoder_files(config: RunConfig, wanted: ComparisonConfig) -> tuple[str, ...]:
    """Files of the encoder that is named, if it comes from outside the run."""
    if config.pretraining is not None:
        return ()
    folder = model_folder(wanted.encoder, DESCRIPTION) or Path(wanted.encoder)
    return str(folder / ENCODER_WEIGHTS), str(folder / DESCRIPTION)


def _encode(config: RunConfig, wanted: ComparisonConfig) -> Stage:
    return Stage(
        rule="encode",
        work=_of_comparison(encode),
        settings={"first_blocks": first_blocks(wanted), "batch_atoms": wanted.prediction.batch_atoms},
        modules=("mofgap.study.methods.encoder",),
        writes=("encoder/*",),
        after=(*(("pretrain",) if config.pretraining else ()), "prepare"),
        reads=("pretraining/encoder.*", f"dataset/{GRAPHS}"),
        files=_encoder_files(config, wanted),
    )


def _train(each: Member, config: RunConfig, wanted: ComparisonConfig) -> Stage:
    about = {"method": each.method, "seed": each.seed, "n_train": each.recipe.n_train}
    module = method_of(each.method).training
    return Stage(
        rule="train",
        item=each.name,
        work=_of_comparison(f"{module}:train", each.name),
        settings=about
        | training_settings(each)
        | to_dict(wanted.compute)
        | {"threads": config.resources.train.cpus},
        modules=(module,),
        writes=(f"members/{each.name}/**",),
        costs=(f"members/{each.name}/{COST}",),
        after=("encode",),
        reads=("encoder/encoder.*",),
        content=_of_comparison(digest_of_trained, each.name),
        describes={
            "n_val_calibration": wanted.prediction.n_val,
            "level_of_theory": wanted.data.level_of_theory,
            "citation": wanted.data.citation,
        },
        describe=_of_comparison("mofgap.study.methods.training:describe", each.name),
        device=wanted.compute.device,
    )


def _predict(one: Prediction, wanted: ComparisonConfig) -> Stage:
    method, asked = method_of(one.method), wanted.prediction
    published = wanted.data.published if method.kind == "published" else None
    settings = {name: getattr(asked, name) for name in ("n_val", "seed", "batch_atoms")}
    settings |= {"n_train": wanted.recipe.n_train, "neighbour_correction": one.is_corrected(asked)}
    settings |= {"predictions": list(one.predictions), "draws": list(method.draws(one, asked))}
    for name in method.reads_to_predict:
        settings[name] = getattr(member(wanted, one.members[0]).recipe, name)
    return Stage(
        rule="predict",
        item=one.name,
        work=_of_comparison("mofgap.study.methods.prediction:predict", one.name),
        settings=settings,
        modules=("mofgap.study.methods.prediction", type(method).__module__),
        writes=(f"predictions/{one.name}.parquet",),
        costs=(f"predictions/{one.name}.cost.json",),
        after=(
            "encode",
            *(f"train/{name}" for name in one.members),
            *(f"predict/{name}" for name in one.predictions),
        ),
        reads=("members/**/*.safetensors", "predictions/**/*.parquet"),
        files=(str(published),) if published else (),
        content=_of_comparison(digest_of_predicted, one.split),
    )


def _calibrate(split: str, wanted: ComparisonConfig) -> Stage:
    predicted = [one.name for one in tabled(wanted, split)]
    return Stage(
        rule="calibrate",
        item=split,
        work=_of_comparison("mofgap.study.judge.calibrated:calibrate", split),
        settings={
            "predictions": predicted,
            "n_train": wanted.recipe.n_train,
            "n_val": wanted.prediction.n_val,
            "first_block": min(wanted.recipe.blocks),
        },
        modules=("mofgap.study.judge.calibrated",),
        writes=(f"calibrated/{split}.parquet",),
        after=("encode", *(f"predict/{name}" for name in predicted)),
        reads=("encoder/features-*", "predictions/**/*.parquet"),
        content=_of_comparison(digest_of_predicted, split),
    )


def _compare(wanted: ComparisonConfig) -> Stage:
    predicted = [one.name for split in wanted.splits for one in tabled(wanted, split)]
    return Stage(
        rule="compare",
        work=_of_comparison(compare),
        settings={
            "judgement": to_dict(wanted.judgement),
            "splits": to_dict(wanted)["splits"],
            "n_train": wanted.recipe.n_train,
            "n_val": wanted.prediction.n_val,
        },
        modules=(
            "mofgap.study.judge.summary",
            *dict.fromkeys(type(method).__module__ for method in methods()),
        ),
        writes=(PREDICTIONS, "comparison.*", METRICS),
        costs=(COSTS,),
        after=(
            "prepare",
            *(f"train/{each.name}" for each in members(wanted)),
            *(f"predict/{name}" for name in predicted),
            *(f"calibrate/{split}" for split in wanted.splits),
        ),
        reads=("calibrated/**", "predictions/**/*.parquet", f"dataset/{TABLE}", f"members/**/{SIZE}"),
    )
