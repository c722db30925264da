"""From labelled structures to a model folder: fine-tune, calibrate, index, evaluate, write."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mofgap.configuration import digest
from mofgap.crystals.coordination import metal_coordination
from mofgap.crystals.dataset import cached_store, table_crystals
from mofgap.crystals.store import GraphStore
from mofgap.gap.folder import CONFIG, About, encoder_weights, read_model, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import Posterior, fit_correction, posterior
from mofgap.training.config import MIN_CORRECTION_ROWS, FinetuneConfig
from mofgap.training.finetune import Labelled, finetune, frozen_features
from mofgap.training.labels import Labels
from mofgap.training.lock import lock, structures_digest
from mofgap.training.loop import ANYTHING, METRICS, Compute, TrainingError, seconds_trained
from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration, fit_calibration, quantile_edges
from mofgap.uncertainty.conformal import Residuals
from mofgap.uncertainty.novelty import NoveltyIndex, fit_novelty
from mofgap.uncertainty.scaling import Scaling
from mofgap.whole_file import whole_file

MIN_ROWS = 25
"""With fewer validation rows no interval is fitted; the model says that its own are raw."""

MIN_SCALING_ROWS = 200
"""With fewer validation rows the scaling of the spread is not fitted; all of them go to the intervals."""


FEW_LABELS = 500
"""With fewer labels for another level of theory none are spared for validation: error bars come from
cross-fitting, at the price of five more trainings."""

N_FOLDS = 5
MIN_FOLD_ROWS = 10
"""Training rows from which on errors are cross-fitted."""

CROSS_FITTED = "cross-fitted"
"""Stands for a split in the metrics: structures of train, each predicted by a model that did not learn it."""

MAX_GROUPS = 5
"""Structures are dealt to so many groups of novelty at most, each with intervals of its own. On the val split
of the QMOF table no other number gave a better interval score (``python -m benchmarks.accuracy --split val
--groups 1 2 3 4 5 6 8 10``)."""

MIN_GROUP_ROWS = 200
"""Validation rows that each of these groups has at least."""


HeldOut = tuple[list[int], Posterior]
"""Positions of structures, and their raw predictions by models that did not learn from them."""


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        metrics: Metrics of each split that was not trained on, eV where an energy, or `CROSS_FITTED`.
        seconds: Wall-clock time of its epochs, over all starts.
        n_trainable: Parameters that were trained.
        parent: Name of the gap model it started from, if it did.
        known: How many structures of each split that was not trained on that model had learnt from.
    """

    metrics: dict[str, dict[str, float]]
    seconds: float
    n_trainable: int
    parent: str = ""
    known: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Parent:
    """What a model keeps of the gap model it started from."""

    name: str
    scaling: Scaling
    novelty: NoveltyIndex


def train(
    labels: Labels,
    folder: Path,
    model_config: GapModelConfig | None,
    config: FinetuneConfig,
    start: Path,
    about: About,
    *,
    cache: Path | None = None,
    resume: bool = False,
    compute: Compute = ANYTHING,
) -> Outcome:
    """Train a gap model and write its folder.

    Without a split ``val`` all epochs are run, and the error bars come from the errors of `N_FOLDS` models
    that left out a part of the training structures each. A model of all structures errs a little less than
    those, so that its intervals are wide rather than short. These are the residuals of the CV+ of Barber,
    Candès, Ramdas and Tibshirani, Ann. Stat. 49, 486 (2021), around one model instead of K: coverage is
    theirs as far as the gaps are stable under the loss of a fold.

    Args:
        labels: Structures, gaps and splits.
        folder: Becomes the model folder; the training's own files lie in ``folder/training``.
        model_config: What the model is made of; None goes on from a gap model, of which adapters, noise
            network and head move.
        config: How it is trained.
        start: Pretrained ``encoder.safetensors``, or the folder of that gap model.
        about: Name, level of theory and citation to keep with it.
        cache: Folder of cached graphs.
        resume: Go on from the last checkpoint.
        compute: What it runs on.

    Raises:
        TrainingError: The folder holds a model or a training and ``resume`` is off, or one of other labels,
            structures or settings; or no epochs are to be run and there is no gap model to go on from.
        ModelError: The encoder's weights do not fit, or the gap model cannot be used.
    """
    model, parent = _begin(model_config, start, config)
    if (folder / CONFIG).exists() and not resume:
        raise TrainingError(f"{folder} holds a model already: name another folder, or go on with --resume")
    if parent is None and not config.epochs:
        raise TrainingError("0 epochs leave a model as it was: they need one to start from")
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) if config.epochs else 0
    work = folder / "training"
    # Without val more trainings follow, and other processes end with the first.
    compute = compute if labels.positions("val") else replace(compute, devices=1)
    lock(work, _made_of(labels, model_config, config, start) | compute.decisive, resume=resume)
    data = Labelled.of(labels, cached_store(labels.frame, model.graph_config, cache))
    before = frozen_features(model, data.store, config.batch_atoms) if parent else None
    known = _known(parent, data.ids, before)
    how = dict(config=config, features=before, warm=parent is not None, resume=resume, compute=compute)
    run = partial(
        _learn, how=how, corrects=config.neighbour_correction and len(data.train) >= MIN_CORRECTION_ROWS
    )
    features = run(model, data, work)
    held_out: dict[str, HeldOut] = {}
    if not data.val and len(data.train) >= MIN_FOLD_ROWS:
        held_out[CROSS_FITTED] = _cross_fit(
            lambda: _begin(model_config, start, config)[0], data, labels.families, work, run
        )
    moved = config.unfreeze and config.epochs > 0
    calibration, index, scores = _measure(model, labels, data, features, parent, known, moved, held_out)
    save_model(folder, model, about, calibration, index)
    seconds = sum(seconds_trained(path.parent) for path in work.rglob(METRICS))
    name = parent.name if parent else ""
    outcome = Outcome(scores, seconds, n_trainable, name, _held_out_though(known, labels))
    _write_metrics(folder / "metrics.json", outcome, config, len(data.train))
    return outcome


def _learn(model: GapModel, data: Labelled, folder: Path, how: dict[str, Any], corrects: bool) -> Tensor:
    """Train a model and fit its neighbour correction; returns the frozen features of all structures."""
    features = finetune(model, data, folder, **how)
    if corrects:
        gap_ev = torch.as_tensor(data.gap_ev[list(data.train)])
        fit_correction(model, (data.store[i] for i in data.train), gap_ev)
    return features


def _write_metrics(path: Path, outcome: Outcome, config: FinetuneConfig, n_train: int) -> None:
    report = asdict(outcome) | {"training": asdict(config), "n_train": n_train}
    # JSON has no NaN: what too few structures leave undefined is null.
    defined = {
        s: {k: v if math.isfinite(v) else None for k, v in m.items()} for s, m in outcome.metrics.items()
    }
    text = json.dumps(report | {"metrics": defined}, indent=2, allow_nan=False) + "\n"
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _known(parent: Parent | None, ids: Sequence[str], features: Tensor | None) -> NDArray[np.bool_]:
    """(n,) which structures a parent had learnt from, by name or by its features (n, n_features)."""
    if parent is None or features is None:
        return np.zeros(len(ids), dtype=bool)
    return np.isin(ids, parent.novelty.ids) | parent.novelty.learnt(features.numpy())


def _held_out_though(known: NDArray[np.bool_], labels: Labels) -> dict[str, int]:
    """How many held-out structures of each split are known."""
    found = {split: int(known[labels.positions(split)].sum()) for split in ("val", "test")}
    return {split: n for split, n in found.items() if n}


def _made_of(
    labels: Labels, model_config: GapModelConfig | None, config: FinetuneConfig, start: Path
) -> dict[str, str]:
    """Digests of all that the weights depend on, but for what it runs on."""
    frame = labels.frame
    weights = start / CONFIG if start.is_dir() else start  # the first holds the hashes of the others
    return {
        "settings": digest(config, model_config),
        "start": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "structures": structures_digest(frame),
        "labels": hashlib.sha256(frame[labels.target].to_numpy(dtype=np.float64).tobytes()).hexdigest(),
        "splits": digest(frame.split.tolist()),
        # By which the folds are dealt, where there is no val.
        **({} if labels.positions("val") else {"families": digest(labels.families)}),
    }


def _cross_fit(
    begin: Callable[[], GapModel],
    data: Labelled,
    families: Sequence[str],
    folder: Path,
    run: Callable[[GapModel, Labelled, Path], Tensor],
) -> HeldOut:
    """The training structures, each predicted by a model that learnt from the other folds.

    Folds are dealt by the hashes of the names, so that they do not depend on the order of the structures. A
    family is on one side of each, unless there are fewer of them than folds.
    """
    if len({families[i] for i in data.train}) < N_FOLDS:
        families = data.ids

    def place(i: int) -> tuple[bytes, bytes]:
        return _hash(families[i]), _hash(data.ids[i])

    by_hash = sorted(data.train, key=place)
    fold = {name: k % N_FOLDS for k, name in enumerate(dict.fromkeys(families[i] for i in by_hash))}
    parts: list[tuple[list[int], Posterior]] = []
    for k in range(N_FOLDS):
        held = [i for i in by_hash if fold[families[i]] == k]
        model = begin()
        run(model, replace(data, train=sorted(set(by_hash) - set(held)), val=()), folder / f"fold-{k + 1}")
        parts.append((held, predict_store(model, data.store, held)))
    return [i for held, _ in parts for i in held], _together([found for _, found in parts])


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _measure(
    model: GapModel,
    labels: Labels,
    data: Labelled,
    features: Tensor,
    parent: Parent | None,
    known: NDArray[np.bool_],
    moved: bool,
    held_out: dict[str, HeldOut],
) -> tuple[Calibration, NoveltyIndex, dict[str, dict[str, float]]]:
    """Calibrate a trained model, index what it learnt from, and score it on all that is held out."""
    for split in ("val", "test"):
        if rows := labels.positions(split):
            held_out[split] = rows, predict_store(model, data.store, rows)
    learnt = labels.frame.iloc[list(data.train)]
    # Where the encoder moved, what the parent kept are features of another encoder.
    index = (fit_novelty if parent is None or moved else parent.novelty.joined)(
        features[list(data.train)].numpy(),
        learnt.atomic_numbers.tolist(),
        learnt.structure_id.tolist(),
        coordination=[metal_coordination(crystal) for crystal in table_crystals(learnt)],
    )
    novelty = {
        split: index.score(p.features, labels.frame.atomic_numbers.iloc[rows].tolist()).percentile
        for split, (rows, p) in held_out.items()
    }
    calibration = _calibrate(data, parent, known, held_out, novelty)
    scores = {s: evaluate(p, calibration, data.gap_ev[rows], novelty[s]) for s, (rows, p) in held_out.items()}
    return calibration, index, scores


def _calibrate(
    data: Labelled,
    parent: Parent | None,
    known: NDArray[np.bool_],
    held_out: dict[str, HeldOut],
    novelty: dict[str, NDArray[np.float64]],
) -> Calibration:
    """The calibration that val, or cross-fitting, allows; by structures that the parent never learnt from."""
    scaling = parent.scaling if parent else Scaling()
    split = "val" if "val" in held_out else CROSS_FITTED
    if split not in held_out:
        return Calibration(scaling, (Residuals(),))
    rows, found = held_out[split]
    fresh = np.flatnonzero(~known[rows])
    return calibration_of(
        found.rows(fresh),
        data.gap_ev[rows][fresh],
        [data.ids[rows[i]] for i in fresh],
        scaling if parent else None,
        # To the index of the final model, a structure it learnt is not new at all.
        novelty[split][fresh] if split == "val" else None,
    )


def _begin(
    model_config: GapModelConfig | None, start: Path, config: FinetuneConfig
) -> tuple[GapModel, Parent | None]:
    """A new model on a pretrained encoder, or a trained one, made ready to move."""
    torch.manual_seed(config.seed)
    if model_config is None:
        model, parent = _begin_trained(start)
    else:
        model, parent = (
            GapModel(replace(model_config, correction_size=0)),
            None,
        )  # which is fitted after training
        encoder_weights(start, model)
    if config.unfreeze:
        for weight in model.unadapted():
            weight.requires_grad_()
    return model, parent


def _begin_trained(start: Path) -> tuple[GapModel, Parent]:
    """A trained model of which adapters, noise network and head can move again."""
    model, about, calibration, novelty = read_model(start)
    model.drop_correction()
    for layer in model.layers.values():
        layer.lora_A.requires_grad_()
        layer.lora_B.requires_grad_()
    for module in (model.head, model.noise_network):
        if module is not None:
            module.requires_grad_()
    return model.train(), Parent(about.name, calibration.scaling, novelty)


def predict_store(model: GapModel, store: GraphStore, rows: Sequence[int]) -> Posterior:
    """Raw predictions of structures of a store, each computed by itself."""
    return _together([posterior(model, store[i]) for i in rows])


def _together(parts: Sequence[Posterior]) -> Posterior:
    columns = ([p.gap_ev, p.epistemic_std_ev, p.aleatoric_std_ev, p.features] for p in parts)
    return Posterior(*map(np.concatenate, zip(*columns, strict=True)))


def evaluate(
    found: Posterior,
    calibration: Calibration,
    gap_ev: NDArray[np.float64],
    novelty: NDArray[np.float64],
) -> dict[str, float]:
    """Metrics of calibrated predictions against reference gaps, of structures of some novelty."""
    std = calibration.std(np.nan_to_num(found.epistemic_std_ev), found.aleatoric_std_ev)
    predicted = np.maximum(found.gap_ev, 0.0)
    intervals = {level: calibration.interval(predicted, std, level, novelty) for level in metrics.LEVELS}
    area = metrics.predictive_area(calibration.cdf(gap_ev, predicted, std, novelty))
    return metrics.summary(gap_ev, predicted, std, intervals=intervals) | {"predictive_area": area}


def calibration_of(
    found: Posterior,
    gap_ev: NDArray[np.float64],
    ids: Sequence[str],
    scaling: Scaling | None = None,
    novelty: NDArray[np.float64] | None = None,
) -> Calibration:
    """The best calibration that some rows allow.

    From `MIN_SCALING_ROWS` rows on, scaling and conformal intervals are fitted; from `MIN_ROWS` on, intervals
    alone, with the scaling as it is; with fewer they are Gaussian, and raw.

    Args:
        found: Raw predictions of n structures that did not train the model.
        gap_ev: (n,) their reference gaps, eV.
        ids: Their names.
        scaling: The one to keep, fitted on other rows; by default the model's own spread.
        novelty: (n,) of the structures; where there are enough, intervals differ between groups of it.
    """
    kept = scaling or Scaling()
    if len(ids) < MIN_ROWS:
        return Calibration(kept, (Residuals(),))
    gap, epistemic = np.maximum(found.gap_ev, 0.0), np.nan_to_num(found.epistemic_std_ev)
    given = kept if len(ids) < MIN_SCALING_ROWS else None
    edges = () if novelty is None else quantile_edges(novelty, MAX_GROUPS, MIN_GROUP_ROWS)
    return fit_calibration(
        gap_ev,
        gap,
        epistemic,
        found.aleatoric_std_ev,
        ids,
        scaling=given,
        novelty=novelty if edges else None,
        novelty_edges=edges,
    )
