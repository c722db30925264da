"""From labelled structures to a model folder: fine-tune, calibrate, index, evaluate, write."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mofgap.crystals.dataset import GraphStore, cached_store
from mofgap.gap.folder import About, encoder_weights, save_model
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.gap.posterior import Posterior, posterior
from mofgap.training.finetune import FinetuneConfig, Labelled, finetune
from mofgap.training.labels import Labels
from mofgap.uncertainty import metrics
from mofgap.uncertainty.calibrate import Calibration, fit_calibration
from mofgap.uncertainty.novelty import fit_novelty

MIN_CALIBRATION_ROWS = 200
"""With fewer validation rows the model's own spread stands, and says that it is raw."""


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Attributes:
        metrics: Metrics of each split that was not trained on, eV where an energy.
        seconds: Wall-clock time of this run of the recipe, trained from scratch or resumed.
        n_trainable: Parameters that were trained.
    """

    metrics: dict[str, dict[str, float]]
    seconds: float
    n_trainable: int


def train(
    labels: Labels,
    folder: Path,
    model_config: GapModelConfig,
    config: FinetuneConfig,
    encoder: Path,
    about: About,
    *,
    cache: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    devices: int = 1,
    precision: str = "32-true",
    progress: bool = True,
) -> Outcome:
    """Train a gap model and write its folder.

    Args:
        labels: Structures, gaps and splits.
        folder: Becomes the model folder; the training's own files lie in ``folder/training``.
        model_config: What the model is made of.
        config: How it is trained.
        encoder: Pretrained ``encoder.safetensors``.
        about: Name, level of theory and citation to keep with it.
        cache: Folder of cached graphs.
        resume: Go on from the last checkpoint.
        device: ``auto``, ``cpu`` or ``cuda``.
        devices: How many of them, a process each.
        precision: Lightning's word, such as ``bf16-mixed``.
        progress: Draw a progress bar.

    Raises:
        TrainingError: The folder holds a training already and ``resume`` is off.
        ModelError: The encoder's weights do not fit.
    """
    begun = time.monotonic()
    torch.manual_seed(config.seed)
    model = GapModel(model_config)
    encoder_weights(encoder, model)
    n_trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    store = cached_store(labels.frame, model.graph_config, cache)
    ids = labels.frame.structure_id.tolist()
    gap_ev = labels.frame[labels.target].to_numpy(dtype=np.float64)
    data = Labelled(ids, store, gap_ev, labels.positions("train"), labels.positions("val"))
    features = finetune(
        model,
        data,
        folder / "training",
        config,
        resume=resume,
        device=device,
        devices=devices,
        precision=precision,
        progress=progress,
    )
    held_out = {split: labels.positions(split) for split in ("val", "test")}
    found = {split: predict_store(model, store, rows) for split, rows in held_out.items() if rows}
    calibration = _calibrate(found["val"], gap_ev[data.val], [ids[i] for i in data.val])
    numbers = labels.frame.atomic_numbers.tolist()
    learnt = list(data.train)
    index = fit_novelty(features[learnt].numpy(), [numbers[i] for i in learnt], [ids[i] for i in learnt])
    scores = {s: evaluate(p, calibration, gap_ev[held_out[s]]) for s, p in found.items()}
    save_model(folder, model, about, calibration, index)
    outcome = Outcome(scores, time.monotonic() - begun, n_trainable)
    report = asdict(outcome) | {"training": asdict(config), "n_train": len(learnt)}
    (folder / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return outcome


def predict_store(model: GapModel, store: GraphStore, rows: Sequence[int]) -> Posterior:
    """Raw predictions of structures of a store, each computed by itself."""
    parts = [posterior(model, store[i]) for i in rows]
    names = ("gap_ev", "epistemic_std_ev", "aleatoric_std_ev", "features")
    return Posterior(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def evaluate(found: Posterior, calibration: Calibration, gap_ev: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of calibrated predictions against reference gaps."""
    std = calibration.std(np.nan_to_num(found.epistemic_std_ev), found.aleatoric_std_ev)
    predicted = np.maximum(found.gap_ev, 0.0)
    intervals = {level: calibration.interval(predicted, std, level) for level in metrics.LEVELS}
    return metrics.summary(gap_ev, predicted, std, intervals=intervals)


def _calibrate(found: Posterior, gap_ev: NDArray[np.float64], ids: Sequence[str]) -> Calibration:
    if len(ids) < MIN_CALIBRATION_ROWS:
        return Calibration.raw()
    epistemic = np.nan_to_num(found.epistemic_std_ev)
    return fit_calibration(gap_ev, np.maximum(found.gap_ev, 0.0), epistemic, found.aleatoric_std_ev, ids)
