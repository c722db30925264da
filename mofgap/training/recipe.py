"""From labelled structures to a model folder: fine-tune, calibrate, index, evaluate, write."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.configuration import digest
from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.dataset import cached_store, table_crystals
from mofgap.gap.folder import About, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import fit_correction, predict_store
from mofgap.gap.unseen_elements import widening
from mofgap.shipped import CONFIG
from mofgap.training.calibration import calibration_of, evaluate, matched
from mofgap.training.compute import DEFAULT_COMPUTE, Compute
from mofgap.training.config import MIN_CORRECTION_ROWS, MIN_FOLD_ROWS, N_FOLDS, FinetuneConfig
from mofgap.training.cross_fitting import HeldOut, cross_fit, divides_families
from mofgap.training.finetune import Labelled, finetune, frozen_features, noise_of, refuse_equal
from mofgap.training.labels import Labels, are_unbalanced
from mofgap.training.lock import WORK, lock, table_digests
from mofgap.training.loop import TrainingError, check_folder
from mofgap.training.result import CROSS_FITTED, KNOWN, Cost, TrainingResult
from mofgap.training.start import Begun, Parent, begin_model, member
from mofgap.training.unseen import substitute_unseen
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty
from mofgap.whole_file import sha256_of


@dataclass(frozen=True, eq=False)
class Trained:
    """A gap model and what else its folder holds.

    Attributes:
        model: The model, on the CPU.
        calibration: Calibration of its error bars.
        novelty: Index of its training structures.
        outcome: The result of the training.
    """

    model: GapModel
    calibration: Calibration
    novelty: NoveltyIndex
    outcome: TrainingResult

    def save(self, folder: Path, about: About) -> None:
        """Write the model folder."""
        save_model(folder, self.model, about, self.calibration, self.novelty)


def train(
    labels: Labels,
    folder: Path,
    model_config: GapModelConfig | None,
    config: FinetuneConfig,
    start: Path,
    about: About,
    ensemble_with: Sequence[Path] = (),
    *,
    cache: Path | None = None,
    resume: bool = False,
    compute: Compute = DEFAULT_COMPUTE,
) -> TrainingResult:
    """Train a gap model and write its folder.

    Without a split ``val`` all epochs are run. The error bars then come from the errors of `N_FOLDS` models,
    each of which left out a part of the training structures. A model of all structures errs a little less
    than those, so that its intervals are wide rather than short. These are the residuals of the CV+ of
    Barber, Candès, Ramdas and Tibshirani, Ann. Stat. 49, 486 (2021), around one model instead of K: coverage
    is theirs as far as the gaps are stable under the loss of a fold.

    Args:
        labels: Structures, gaps and splits.
        folder: Becomes the model folder; the training's own files lie in ``folder/training``.
        model_config: What the model is made of; None goes on from a gap model, of which adapters, noise
            network and head move.
        config: How it is trained.
        start: Pretrained ``encoder.safetensors``, or the folder of that gap model.
        about: Name, level of theory and citation to keep with it.
        ensemble_with: Folders of other gap models, of which the mean with this one is predicted.
        cache: Folder of cached graphs.
        resume: Go on from the last checkpoint.
        compute: What it runs on.

    Raises:
        TrainingError: If ``folder`` holds a model or training and ``resume`` is False, or holds a training
            with other labels, structures or settings. It is also raised if a new model is given 0 epochs.
            Without split val it is also raised if there are models in ``ensemble_with``, ``compute`` asks
            for several nodes, or ``config`` has a patience.
        ModelError: If ``start`` does not fit or cannot be loaded, or `member` refuses an ``ensemble_with``.
    """
    begin = partial(begin_model, model_config, start, config, about.level_of_theory)
    begun = begin()
    check_model_folder(folder, resume=resume)
    if begun.parent is None and not config.epochs:
        raise TrainingError("0 epochs change no weights: name a trained model to start from")
    held_out = labels.frame.structure_id[labels.frame.split != "train"].tolist()
    members = [member(each, begun.model, about.level_of_theory, held_out) for each in ensemble_with]
    if not labels.positions("val"):
        compute = _without_val(compute, ensemble_with, config.patience)
    work, made_of = folder / WORK, _made_of(labels, model_config, config, start, ensemble_with)
    lock(work, made_of | compute.decisive, resume=resume)
    store = cached_store(labels.frame, begun.model.graph_config, cache)
    data = Labelled.of(labels, store, noise_of(begun.model.config.method, config))
    trained = train_model(
        begun, labels, data, work, config, again=begin, resume=resume, members=members, compute=compute
    )
    trained.save(folder, about)
    trained.outcome.write(folder, config, len(data.train))
    return trained.outcome


def check_model_folder(folder: Path, *, resume: bool) -> None:
    """Make sure that a training can start or go on in a folder, and overwrites no other model.

    Raises:
        TrainingError: If ``folder`` holds a model or a training and ``resume`` is False, ``folder`` holds a
            model without its training, or the training is damaged.
    """
    has_model = (folder / CONFIG).exists()
    if has_model and not resume:
        raise TrainingError(f"{folder} holds a model already: name another folder, or go on with --resume")
    if has_model and not (folder / WORK).is_dir():
        raise TrainingError(f"{folder} holds a model whose training is gone: name another folder")
    check_folder(folder / WORK, resume=resume)


def _without_val(compute: Compute, ensemble_with: Sequence[Path], patience: int | None) -> Compute:
    """The compute settings for cross-fitting: one process, since others would end with the first training.

    Raises:
        TrainingError: If ``compute`` asks for several nodes, there are models in ``ensemble_with``, or
            ``patience`` is given.
    """
    if patience is not None:
        raise TrainingError("without a split val nothing stops a training early: leave out --patience")
    if compute.nodes > 1:
        raise TrainingError("without a split val a training runs on one node: leave out --nodes")
    if compute.devices > 1 and int(os.environ.get("SLURM_PROCID", "0")) > 0:
        raise SystemExit(0)  # srun starts a process for each device, and the first one trains alone
    if ensemble_with:  # they may have been trained on the structures that the others leave out
        raise TrainingError("with --ensemble-with the labels need a split val, to calibrate on")
    return replace(compute, devices=1)


def train_model(
    begun: Begun,
    labels: Labels,
    data: Labelled,
    folder: Path,
    config: FinetuneConfig,
    *,
    again: Callable[[], Begun],
    resume: bool,
    members: Sequence[GapModel] = (),
    features: Tensor | None = None,
    n_val: int | None = None,
    compute: Compute,
) -> Trained:
    """Train a model: fit weights, neighbour correction and novelty index, calibrate, and score.

    Args:
        begun: The model, which is trained in place, and the one it comes from.
        labels: Structures, gaps and splits.
        data: The same with their graphs.
        folder: Where the training's own files go.
        config: How it is trained.
        again: Begins the same once more, for the models of cross-fitting.
        resume: Go on from the last checkpoint.
        members: Trained networks of which the mean with this one is predicted.
        features: (n_structures, n_features) pooled frozen features, where they are known.
        n_val: Structures of val that calibrate it, the first; None for all.
        compute: What it runs on.

    Raises:
        TrainingError: If there are too few training structures, their labels are all equal, ``folder`` holds
            a training and ``resume`` is False, the checkpoint is damaged, or the training diverged.
    """
    model, parent = begun.model, begun.parent
    refuse_equal(data)
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) if config.epochs else 0
    known = np.zeros(len(data.ids), dtype=bool)
    if parent is not None:
        features = frozen_features(model, data.store, config.batch_atoms)
        known = np.isin(data.ids, parent.novelty.ids) | parent.novelty.in_training(features.numpy())
    run = partial(
        _learn,
        config=config,
        features=features,
        from_model=parent is not None,
        resume=resume,
        compute=compute,
        members=members,
        corrects=config.neighbour_correction and len(data.train) >= MIN_CORRECTION_ROWS,
    )
    folds = not data.val and len(data.train) >= MIN_FOLD_ROWS
    features = run(model, data, folder, 1 if folds else None)
    # Where the encoder moved, what the parent kept are features of another encoder.
    index = _index(labels, data, features, None if config.unfreeze and config.epochs else parent)
    families = labels.families
    held_out = {CROSS_FITTED: cross_fit(lambda: again().model, data, families, folder, run)} if folds else {}
    calibration, scores = measure(model, labels, data, index, parent, known, held_out, n_val)
    divided = folds and divides_families([families[i] for i in data.train])
    outcome = TrainingResult(scores, Cost.of(folder), n_trainable, parent.name if parent else "", divided)
    return Trained(model, calibration, index, outcome)


def _learn(
    model: GapModel,
    data: Labelled,
    folder: Path,
    place: int | None,
    *,
    config: FinetuneConfig,
    features: Tensor | None,
    from_model: bool,
    resume: bool,
    compute: Compute,
    members: Sequence[GapModel],
    corrects: bool,
) -> Tensor:
    """Train a model, add the other members, and fit the neighbour correction.

    Returns the frozen features of all structures.

    The ``place`` is that among the models of cross-fitting, from 1; None for a model alone.
    """
    if place is not None:
        compute = replace(compute, model=f"model {place} of {N_FOLDS + 1}")
    features = finetune(
        model, data, folder, config, features=features, from_model=from_model, resume=resume, compute=compute
    )
    substitute_unseen(model, (data.store[i].atomic_number for i in data.train))
    for each in members:
        model.add_member(each)
    if corrects:
        gap_ev = torch.as_tensor(data.gap_ev[list(data.train)])
        fit_correction(model, (data.store[i] for i in data.train), gap_ev)
    return features


def _made_of(
    labels: Labels,
    model_config: GapModelConfig | None,
    config: FinetuneConfig,
    start: Path,
    ensemble_with: Sequence[Path],
) -> dict[str, str]:
    """Digests of all that the weights depend on, except the compute settings."""
    frame = labels.frame
    weights = start / CONFIG if start.is_dir() else start  # the first holds the hashes of the others
    return {
        "settings": digest(config, model_config),
        "start": sha256_of(weights),
        "members": digest([sha256_of(each / CONFIG) for each in ensemble_with]),
        **table_digests(frame),
        "labels": hashlib.sha256(frame[labels.target].to_numpy(dtype=np.float64).tobytes()).hexdigest(),
        # By which the folds are dealt, where there is no val.
        **({} if labels.positions("val") else {"families": digest(labels.families)}),
    }


def _index(labels: Labels, data: Labelled, features: Tensor, parent: Parent | None) -> NoveltyIndex:
    """An index of the training structures, and of those of the parent."""
    rows = labels.frame.iloc[list(data.train)]
    names = labels.names
    has_atoms = "frac_coords" in rows.columns  # a comparison keeps graphs alone
    return (fit_novelty if parent is None else parent.novelty.extended)(
        features[list(data.train)].numpy(),
        rows.atomic_numbers.tolist(),
        rows.structure_id.tolist(),
        coordination=[metal_coordination(crystal) for crystal in table_crystals(rows)] if has_atoms else (),
        names=[names[i] for i in data.train],
        gap_ev=data.gap_ev[list(data.train)],
    )


def measure(
    model: GapModel,
    labels: Labels,
    data: Labelled,
    index: NoveltyIndex,
    parent: Parent | None = None,
    known: NDArray[np.bool_] | None = None,
    held_out: Mapping[str, HeldOut] | None = None,
    n_val: int | None = None,
) -> tuple[Calibration, dict[str, dict[str, float]]]:
    """Calibrate a trained model, and score it on all that is held out.

    Args:
        model: The model.
        labels: Structures, gaps and splits.
        data: The same with their graphs.
        index: Index of its training structures.
        parent: The gap model that it comes from.
        known: (n_structures,) which of them the parent was trained on; by default none.
        held_out: Predictions that were made before, by the name of what was held out.
        n_val: Structures of val that are used, the first; None for all.

    Returns:
        The calibration, and the metrics of each split that was held out; see `TrainingResult.metrics`.
    """
    held_out, gap_ev = dict(held_out or {}), data.gap_ev
    for split, n in (("val", n_val), ("test", None)):
        if rows := labels.positions(split)[:n]:
            held_out[split] = rows, predict_store(model, data.store, rows)
    numbers = labels.frame.atomic_numbers
    novelty = dict[str, NDArray[np.float64]]()
    for split, (rows, found) in held_out.items():
        scored = index.score(found.features, numbers.iloc[rows].tolist())
        novelty[split] = scored.percentile
        held_out[split] = rows, found.widened(widening(scored, model.config.substitutes))  # as a prediction
    known = np.zeros(len(data.ids), dtype=bool) if known is None else known
    calibration = _calibrate(data, parent, known, held_out, novelty)
    scores: dict[str, dict[str, float]] = {}
    for split, (rows, found) in held_out.items():
        unbalanced = are_unbalanced(labels.frame.iloc[rows])
        for name, chosen in ((split, ~known[rows]), (f"{split}{KNOWN}", known[rows])):
            if len(own := np.flatnonzero(chosen)):
                gaps, far = gap_ev[rows][own], novelty[split][own]
                scores[name] = evaluate(found.rows(own), calibration, gaps, far, unbalanced[own])
    return calibration, scores


def _calibrate(
    data: Labelled,
    parent: Parent | None,
    known: NDArray[np.bool_],
    held_out: dict[str, HeldOut],
    novelty: dict[str, NDArray[np.float64]],
) -> Calibration:
    """The calibration on val, or on cross-fitted errors, by structures that the parent was not trained on."""
    scaling = parent.scaling if parent else None
    split = "val" if "val" in held_out else CROSS_FITTED
    if split not in held_out:
        return Calibration.raw(scaling)
    rows, found = held_out[split]
    fresh = np.flatnonzero(~known[rows])
    found, gap_ev = found.rows(fresh), data.gap_ev[rows][fresh]
    # To the index of the final model, a structure that it was trained on is not new at all.
    own_novelty = novelty[split][fresh] if split == "val" else None
    fitted = calibration_of(found, gap_ev, [data.ids[rows[i]] for i in fresh], scaling, own_novelty)
    return fitted if parent is None else matched(fitted)  # the parent's scaling is of another spread
