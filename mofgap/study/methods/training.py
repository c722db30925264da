"""One training of a comparison: a model folder, its history and its cost."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mofgap.choices import Method
from mofgap.configuration import part
from mofgap.gap.folder import About, encoder_weights, read_model, save_model
from mofgap.gap.model import GapModel
from mofgap.study.config import ComparisonConfig
from mofgap.study.dataset import Dataset, read
from mofgap.study.layout import COST, HISTORY, Layout
from mofgap.study.members import Member, member
from mofgap.study.methods import encoder
from mofgap.training.config import TrainingConfig
from mofgap.training.encoder_folder import WEIGHTS, find_encoder
from mofgap.training.finetune import Labelled, finetune
from mofgap.training.labels import Labels
from mofgap.training.loop import LAST, METRICS, Compute, seconds_trained
from mofgap.training.network import network
from mofgap.training.recipe import calibration_of, predict_store
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import fit_novelty
from mofgap.whole_file import write_json


def train(config: ComparisonConfig, run: Path, name: str) -> None:
    """Train a member, from the checkpoint that a killed training left in its folder if there is one.

    Raises:
        ConfigurationError: There is no such member.
        TableError: There are fewer training rows than the recipe asks for, or no dataset.
    """
    wanted, dataset, folder = member(config, name), read(run), Layout(run).member(name)
    n_train, n_trainable = _fit(config, run, dataset, wanted, folder)
    shutil.copyfile(folder / "training" / METRICS, folder / HISTORY)
    cost = {
        "train_seconds": seconds_trained(folder / "training"),
        "peak_memory_mb": _peak_memory_mb(config.compute.device),
        "n_trainable": n_trainable,
        "n_train": n_train,
        "epochs": wanted.recipe.epochs,
    }
    write_json(folder / COST, cost)
    shutil.rmtree(folder / "training")


def describe(config: ComparisonConfig, run: Path, name: str) -> None:
    """Write anew what a trained member's folder says beside its weights: calibration, level, citation."""
    wanted, dataset, folder = member(config, name), read(run), Layout(run).member(name)
    model, _, _, index = read_model(folder)
    labels, rows = dataset.labels(wanted.split, wanted.recipe.n_train)
    data = Labelled.of(labels, dataset.store.subset(rows))
    save_model(folder, model, _about(config, wanted), _calibration(config, model.eval(), data), index)


def training_config(wanted: Member) -> TrainingConfig:
    """What a member's network is made of, and how it is trained."""
    methods: dict[str, Method] = {"scratch": "full", "dropout": "lora"}
    others = {"dropout": wanted.recipe.dropout} if wanted.method == "dropout" else {}
    method = methods.get(wanted.method, cast(Method, wanted.method))
    return wanted.recipe.training(method, seed=wanted.seed, **others)


def _fit(
    config: ComparisonConfig, run: Path, dataset: Dataset, wanted: Member, folder: Path
) -> tuple[int, int]:
    """Train and write the model folder; returns the numbers of training rows and of trained parameters."""
    torch.manual_seed(wanted.seed)
    settings = training_config(wanted)
    model = GapModel(network(settings, find_encoder(config.encoder)))
    if wanted.recipe.start == "pretrained":
        encoder_weights(Layout(run).encoder / WEIGHTS, model)
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    labels, rows = dataset.labels(wanted.split, wanted.recipe.n_train)
    data = Labelled.of(labels, dataset.store.subset(rows))
    known = None  # a random encoder's features are the seed's own
    if model.config.method == "full" or wanted.recipe.start == "pretrained":
        known = encoder.features(run, wanted.recipe)[rows]
    training = folder / "training"
    found = finetune(
        model,
        data,
        training,
        settings.finetuning,
        features=known,
        resume=(training / LAST).exists(),
        compute=part(Compute, vars(config.compute), progress=False),
    )
    _save(config, folder, wanted, model, labels, data, found)
    return len(data.train), n_trainable


def _save(
    config: ComparisonConfig,
    folder: Path,
    wanted: Member,
    model: GapModel,
    labels: Labels,
    data: Labelled,
    found: Tensor,
) -> None:
    """Write a model folder that ``mofgap screen --model`` takes."""
    train = list(data.train)
    learnt = labels.frame.iloc[train]
    index = fit_novelty(found[train].numpy(), learnt.atomic_numbers.tolist(), learnt.structure_id.tolist())
    save_model(folder, model, _about(config, wanted), _calibration(config, model, data), index)


def _about(config: ComparisonConfig, wanted: Member) -> About:
    return About(wanted.name, level_of_theory=config.data.level_of_theory, citation=config.data.citation)


def _calibration(config: ComparisonConfig, model: GapModel, data: Labelled) -> Calibration:
    val = list(data.val)[: config.prediction.n_val]
    found = predict_store(model, data.store, val)
    return calibration_of(found, data.gap_ev[val], [data.ids[i] for i in val])


def _peak_memory_mb(device: str) -> float:
    """Of this process: on the GPU where it trained there, else resident memory."""
    if device != "cpu" and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    # What Linux says by getrusage was handed on by the process that started this one.
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
