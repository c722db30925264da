"""The stages that make the model of a run: its training, and a calibration on other structures."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mofgap.configuration import to_dict
from mofgap.shipped import CONFIG, COST, METRICS, model_folder
from mofgap.study.engine.config import RunCalibration, RunConfig
from mofgap.study.engine.folder import RunFolder
from mofgap.study.engine.stage import Stage, note
from mofgap.whole_file import finite, whole_folder, write_json

if TYPE_CHECKING:
    from mofgap.training.job import TrainingJob
    from mofgap.training.labels import Labels

MODEL, CALIBRATED = "model", "calibrated"
"""Folders of a run with the model as it was trained, and as it was calibrated on other structures."""

CALIBRATE = "calibrate"
"""The stage that calibrates it. Metrics of the run are those of the training, before it."""


def training_stages(config: RunConfig) -> Iterator[Stage]:
    """The training, and the calibration where there is one; none where a run trains no model."""
    if config.job is None:
        return
    yield _train(config)
    if config.calibration is not None:
        yield _calibrate(config.calibration)


def made_by(config: RunConfig) -> tuple[str, str] | None:
    """The stage that makes the model of a run, and its folder; None where a run trains none."""
    if config.job is None:
        return None
    return ("train", MODEL) if config.calibration is None else (CALIBRATE, CALIBRATED)


def _train(config: RunConfig) -> Stage:
    job = config.job
    assert job is not None
    settings = to_dict(job)
    data = settings["data"]
    describes = {"name": config.name, "citation": data.pop("citation")}
    if job.training.from_model is None and not job.training.ensemble_with:  # which must be of that level
        describes["level_of_theory"] = data.pop("level_of_theory")
    files = [data.pop("labels"), *filter(None, [data.pop("cifs")])]
    data.pop("cache")
    for name, file in job.training.needs:
        if (needed := model_folder(name, file)) is not None:
            files.append(str(needed / file))
    return Stage(
        rule="train",
        work=_do_train,
        settings=settings,
        modules=("mofgap.training.job",),
        writes=(f"{MODEL}/**", METRICS),
        costs=(COST,),
        files=tuple(files),
        describes=describes,
        describe=_describe,
        device=job.training.device,
    )


def _calibrate(asked: RunCalibration) -> Stage:
    settings = to_dict(asked)
    files = [settings.pop("labels"), *filter(None, [settings.pop("cifs")])]
    return Stage(
        rule=CALIBRATE,
        work=_do_calibrate,
        settings=settings,
        modules=("mofgap.training.recalibration",),
        writes=(f"{CALIBRATED}/**",),
        files=tuple(files),
        after=("train",),
        reads=(f"{MODEL}/**",),
    )


def _do_train(config: RunConfig, run: Path) -> None:
    from mofgap.training.lock import WORK
    from mofgap.training.notes import notes_on_training

    job, folder = config.job, run / MODEL
    assert job is not None  # there would be no such stage
    if all(path.exists() for path in (run / METRICS, run / COST, folder / CONFIG)):
        shutil.rmtree(folder / WORK, ignore_errors=True)  # where it was stopped
    else:
        _train_model(config, job, run)
    note(notes_on_training(folder, job.training.from_model, error_bars=config.calibration is None))


def _train_model(config: RunConfig, job: TrainingJob, run: Path) -> None:
    from mofgap.training.lock import KEY, WORK

    folder, labels = run / MODEL, job.read()
    _tell_left_out(labels, RunFolder(run).log("train"))
    begun = (folder / WORK / KEY).exists()
    if not begun and (folder / CONFIG).exists():  # stopped while the training of the model was removed
        shutil.rmtree(folder)
    outcome = job.train(labels, folder, config.name, config.command, resume=begun, progress=False)
    write_json(run / METRICS, finite(outcome.metrics))
    (folder / COST).rename(run / COST)  # no part of the result: it differs from run to run
    shutil.rmtree(folder / WORK)


def _tell_left_out(labels: Labels, log: Path) -> None:
    """Write to the log of the stage what was left out, or used with a note, and count the first."""
    for line in (*labels.skipped, *labels.notes, *labels.faulty):
        sys.stderr.write(f"{line}\n")
    if labels.skipped:
        note([f"structures or labels left out: {len(labels.skipped)}, see {log}"])


def _describe(config: RunConfig, run: Path) -> None:
    from mofgap.gap.folder import About
    from mofgap.training.card import describe_anew

    job = config.job
    assert job is not None  # there would be no such stage
    about = About(config.name, level_of_theory=job.data.level_of_theory, citation=job.data.citation)
    with whole_folder(run / MODEL) as partial:  # a kill leaves what was trained as it is
        shutil.copytree(run / MODEL, partial, dirs_exist_ok=True)
        describe_anew(partial, about)


def _do_calibrate(config: RunConfig, run: Path) -> None:
    from mofgap.training.labels import read_labels
    from mofgap.training.notes import notes_on_calibration
    from mofgap.training.recalibration import recalibrated

    asked = config.calibration
    assert asked is not None  # there would be no such stage
    labels = read_labels(
        asked.labels,
        asked.cifs,
        asked.target,
        needed=(),
        disorder=asked.disorder,
        max_atoms=asked.max_atoms,
    )
    _tell_left_out(labels, RunFolder(run).log(CALIBRATE))
    found = recalibrated(run / MODEL, labels, run / CALIBRATED, config.name, config.command)
    note(notes_on_calibration(found, asked.target))
