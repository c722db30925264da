"""The cells of a comparison: one file for each try and each training, so that a run can be resumed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.claims import alphas, estimates, neighbours
from benchmarks.claims.arms import NO_LABEL
from benchmarks.claims.config import ClaimsConfig
from benchmarks.claims.estimates import CLOSED_FORM, Estimate, Key
from benchmarks.claims.methods import METHODS, Choice, Method, fit
from benchmarks.claims.outcomes import OUTCOMES
from benchmarks.claims.task import Backbone, Split, Task
from mofgap.configuration import ConfigurationError, to_dict
from mofgap.whole_file import whole_file, write_json

FIRST_TRY = 1000
"""Seed of the tries, which no other training has."""
CELLS = ("training", "samples", "shifted_samples")
"""Settings that results depend on, besides the data."""
DIVERGED = 1e9
"""Stands for a likelihood that is no number."""


@dataclass(frozen=True)
class Cells:
    """Where a comparison is kept, and what it compares.

    Attributes:
        folder: Of the results.
        config: Its settings.
    """

    folder: Path
    config: ClaimsConfig

    def check(self) -> None:
        """Refuse a folder that was made with other data, training or numbers of samples.

        Raises:
            ConfigurationError: The ``folder`` holds results of other settings.
        """
        settings = to_dict(self.config)
        own = {name: settings[name] for name in (self.config.modality, *CELLS)}
        path = self.folder / "settings.json"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, own)
        elif json.loads(path.read_text(encoding="utf-8")) != own:
            raise ConfigurationError(
                f"{self.folder} has results of other settings: name another folder with -o"
            )

    @property
    def finished(self) -> list[Path]:
        """Folders of the cells that can be judged."""
        return sorted(path.parent for path in self.folder.glob("cells/*/labels.npz"))

    def tried(self, task: Task, backbone: Backbone, method: Method) -> list[dict[str, float]]:
        """Each choice with the likelihood of the validation inputs; trains what is missing."""
        config = self.config.training
        found: list[dict[str, float]] = []

        def add(choice: Choice) -> None:
            path = self.folder / "tries" / task.name / f"{method.name}-{len(found)}.json"
            if not path.exists():
                write_json(path, self._try(task, backbone, method, choice))
            found.append(json.loads(path.read_text(encoding="utf-8")))

        for choice in method.choices(config):
            add(choice)
        if config.every_constant:
            best = _best(found)
            for constant in method.constants(config):
                if constant != best.constant:
                    add(replace(best, constant=constant))
        return found

    def _try(self, task: Task, backbone: Backbone, method: Method, choice: Choice) -> dict[str, float]:
        start, config = time.process_time(), self.config.training
        model = fit(method, _fewer(task, config.tried_on), backbone, choice, FIRST_TRY, config)
        n = config.tuning_samples if method.is_sampled else 1
        outcome, labels = OUTCOMES[task.kind], _labels(task.val)
        found = outcome.of_draws(method.logits(model, task.val, choice, n, size=self.config.at_once))
        nll = float(outcome.nlls(found, labels).mean())
        seconds = time.process_time() - start
        return (
            asdict(choice)
            | {"val_nll": nll if math.isfinite(nll) else DIVERGED}
            | outcome.quality(found, labels)
            | {"seconds": seconds}
        )

    def chosen(self, task: Task, backbone: Backbone, method: Method) -> Choice:
        """The choice of best likelihood on the validation inputs."""
        return _best(self.tried(task, backbone, method))

    def seeds(self, method: str) -> range:
        """Seeds of a method's trainings: those of LoRA are also the members of the ensembles."""
        n = self.config.members * self.config.groups if method == "lora" else 0
        return range(max(n, self.config.trainings))

    def train(self, task: Task, backbone: Backbone) -> Iterator[Path]:
        """Train what is missing of a task; the files of all trainings, one after the other."""
        _save_labels(self.folder / "cells" / task.name / "labels.npz", task)
        for name in self.config.methods:
            choice = self.chosen(task, backbone, METHODS[name])
            for seed in self.seeds(name):
                path = self.path(task.name, name, seed)
                if not path.exists():
                    self._train(path, task, backbone, METHODS[name], choice, seed)
                yield path

    def path(self, task: str, method: str, seed: int) -> Path:
        """File of a training's estimates."""
        return self.folder / "cells" / task / f"{method}-{seed}.npz"

    def _train(
        self, path: Path, task: Task, backbone: Backbone, method: Method, choice: Choice, seed: int
    ) -> None:
        start, size = time.process_time(), self.config.at_once
        model = fit(method, task, backbone, choice, seed, self.config.training)
        about = {"seconds": time.process_time() - start}
        about["n_trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        start = time.process_time()
        method.logits(model, task.test, choice, size=size)
        about["pass_seconds"] = time.process_time() - start
        found: dict[Key, Estimate] = {}
        for name, split in task.judged.items():
            numbers = self._numbers(name) if method.is_sampled else (1,)
            logits = method.logits(model, split, choice, max(numbers), seed, size)
            sampled = OUTCOMES[task.kind].by_samples(logits, numbers)
            found |= {(method.name, n, name): each for n, each in sampled.items()}
        if method.has_closed_form:
            found |= _closed_form(method, model, task, size)
        if method.name == "lora" and seed < self.config.trainings:
            found |= _laplace(model, task, backbone, size)
        if self.config.mofs is not None and self.config.mofs.neighbours:
            found |= _near_training(method, model, task, backbone, found, size)
        estimates.save(path, found, **about)

    def _numbers(self, split: str) -> tuple[int, ...]:
        """Numbers of samples of test inputs; of shifted ones no more than the settings say."""
        most = math.inf if split == "test" else self.config.shifted_samples
        return tuple(n for n in self.config.samples if n <= most)


def _best(tried: Sequence[Mapping[str, float]]) -> Choice:
    best = min(tried, key=lambda each: each["val_nll"])
    return Choice(rate=best["rate"], rank=int(best["rank"]), constant=best["constant"])


def _fewer(task: Task, n: int | None) -> Task:
    """The task with fewer training inputs, evenly spaced."""
    if n is None or n >= len(task.train):
        return task
    return replace(task, train=task.train.taken(torch.linspace(0, len(task.train) - 1, n).long()))


def _closed_form(method: Method, model: torch.nn.Module, task: Task, size: int) -> dict[Key, Estimate]:
    """Without samples; and with the variance whose likelihood of validation inputs is best."""
    outcome = OUTCOMES[task.kind]
    factor = outcome.best_factor(estimates.closed_form(model, task.val, size), _labels(task.val))
    found = {}
    for name, split in task.judged.items():
        moments = estimates.closed_form(model, split, size)
        found[f"{method.name}-closed-form", CLOSED_FORM, name] = outcome.of_moments(moments)
        found[f"{method.name}-scaled", CLOSED_FORM, name] = outcome.of_moments(moments, factor)
    return found


def _near_training(
    method: Method,
    model: torch.nn.Module,
    task: Task,
    backbone: Backbone,
    found: dict[Key, Estimate],
    size: int,
) -> dict[Key, Estimate]:
    """What the nearest training structures add: other spreads, and every estimate corrected."""
    near, more, of_distance = neighbours.near(model, task, backbone, size), {}, {}
    if method.name == "lora":
        more = neighbours.lora_by_distance(found, near)
    if method.name == "balora":
        more = alphas.other_alphas(model, task, backbone, near, size)
        of_distance = neighbours.by_distance(model, task, backbone, size)
    return more | neighbours.corrected(found | more, near) | of_distance


def _laplace(model: torch.nn.Module, task: Task, backbone: Backbone, size: int) -> dict[Key, Estimate]:
    def inputs(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
        return estimates.head_inputs(model, backbone.head, split, size)

    assert task.val.labels is not None
    judged = task.judged
    found = OUTCOMES[task.kind].laplace(
        inputs(task.train), inputs(task.val), task.val.labels, [inputs(split) for split in judged.values()]
    )
    return {("laplace", CLOSED_FORM, name): each for name, each in zip(judged, found, strict=True)}


def _labels(split: Split) -> np.ndarray:
    assert split.labels is not None
    found: np.ndarray = split.labels.numpy()
    return found


def _save_labels(path: Path, task: Task) -> None:
    labels = {
        name: np.full(len(split), NO_LABEL) if split.labels is None else split.labels.numpy()
        for name, split in task.judged.items()
    }
    with whole_file(path) as made, made.open("wb") as file:
        np.savez(file, **labels)  # type: ignore[arg-type]
