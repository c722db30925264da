"""One training of a comparison: a model folder, its history and its cost."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import torch

from mofgap.configuration import part
from mofgap.gap.folder import About, read_model, save_model
from mofgap.shipped import COST, ENCODER_WEIGHTS, LAST, LOG
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import read
from mofgap.study.layout import HISTORY, SIZE, Layout
from mofgap.study.members import member
from mofgap.study.methods import encoder
from mofgap.study.methods.method import method_of
from mofgap.study.peak_memory import peak_memory_mb
from mofgap.study.planned import Member
from mofgap.training.compute import Compute
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import find_encoder
from mofgap.training.finetune import Labelled, noise_of
from mofgap.training.labels import Labels
from mofgap.training.loop import CLOCKS, read_log, write_log
from mofgap.training.network import network
from mofgap.training.recipe import measure, train_model
from mofgap.training.start import begin_model
from mofgap.whole_file import whole_folder, write_json


def train(config: ComparisonConfig, run: Path, name: str) -> None:
    """Train a member, from the checkpoint that a killed training left in its folder if there is one.

    It is the training of ``mofgap train``, on rows and features that the run has already.

    Raises:
        ConfigurationError: If ``config`` has no training with the name ``name``.
        ModelError: If the pretrained encoder cannot be loaded.
        TableError: If ``run`` holds no dataset, or fewer training rows than the recipe asks for.
        TrainingError: If the training diverged, or its checkpoint is damaged.
    """
    wanted, folder = member(config, name), Layout(run).member(name)
    recipe, settings, work = wanted.recipe, training_config(wanted), folder / "training"
    if (folder / SIZE).exists():  # which is written last
        shutil.rmtree(work, ignore_errors=True)
        return
    is_pretrained = recipe.start == "pretrained"
    made_of = network(settings, find_encoder(config.encoder))
    start = Layout(run).encoder / ENCODER_WEIGHTS if is_pretrained else None
    begin = partial(begin_model, made_of, start, settings.finetuning)
    labels, rows, data = _data(run, wanted, settings)
    # A random encoder's features are the seed's own.
    are_known = settings.method == "full" or is_pretrained
    trained = train_model(
        begin(),
        labels,
        data,
        work,
        settings.finetuning,
        again=begin,
        features=encoder.features(run, recipe)[rows] if are_known else None,
        n_val=config.prediction.n_val,
        resume=(work / LAST).exists(),
        compute=part(Compute, vars(config.compute), progress=False),
    )
    trained.save(folder, _about(config, wanted))
    # Without its times, so that equal trainings give equal bytes.
    log = [{k: v for k, v in row.items() if k not in CLOCKS} for row in read_log(work / LOG)]
    write_log(folder / HISTORY, log)
    on_gpu = config.compute.device != "cpu" and torch.cuda.is_available()
    cost = {
        "train_seconds": trained.outcome.cost.seconds,
        "train_cpu_seconds": trained.outcome.cost.cpu_seconds,
        "peak_memory_mb": torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_memory_mb(),
    }
    write_json(folder / COST, cost)
    n_trainable = trained.outcome.n_trainable
    size = {"n_trainable": n_trainable, "n_train": len(data.train), "epochs": recipe.epochs}
    write_json(folder / SIZE, size)
    shutil.rmtree(work)


def describe(config: ComparisonConfig, run: Path, name: str) -> None:
    """Rewrite calibration, level and citation in the folder of a trained member; the weights stay."""
    wanted, folder = member(config, name), Layout(run).member(name)
    model, _, _, index = read_model(folder)
    labels, _, data = _data(run, wanted, training_config(wanted))
    calibration, _ = measure(model.eval(), labels, data, index, n_val=config.prediction.n_val)
    with whole_folder(folder) as partial:  # a kill leaves what was trained as it is
        shutil.copytree(folder, partial, dirs_exist_ok=True)
        save_model(partial, model, _about(config, wanted), calibration, index)


def _data(run: Path, wanted: Member, settings: TrainingConfig) -> tuple[Labels, list[int], Labelled]:
    """Labels of a member's training, the rows of the dataset that they are, and both with their graphs."""
    dataset = read(run)
    labels, rows = dataset.labels(wanted.split, wanted.recipe.n_train)
    noise = noise_of(settings.method, settings.finetuning)
    return labels, rows, Labelled.of(labels, dataset.store.subset(rows), noise)


def training_config(wanted: Member) -> TrainingConfig:
    """What a member's network is made of, and how it is trained."""
    method, recipe = method_of(wanted.method), wanted.recipe
    assert method.adaptation is not None  # of a method that trains
    return recipe.training(method.adaptation, seed=wanted.seed, dropout=method.dropout(recipe))


def _about(config: ComparisonConfig, wanted: Member) -> About:
    return About(wanted.name, level_of_theory=config.data.level_of_theory, citation=config.data.citation)
