"""Arms: the trainings of one way to predict, put together from the files of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.claims.estimates import Estimate, Key, load
from benchmarks.claims.outcomes import OUTCOMES, Outcome, kind_of
from benchmarks.claims.task import Kind
from mofgap.uncertainty.columns import Floats

ENSEMBLE = "ensemble"
TEMPERED = "lora-tempered"
NEIGHBOURS = "+neighbours"
"""End of the names of ways to predict with the neighbour correction."""
NO_LABEL = -1
"""Class of inputs that belong to none."""


@dataclass(frozen=True)
class Arm:
    """Predictions of several trainings for the same inputs.

    Attributes:
        way: Way of predicting.
        n_samples: Number of samples or members; 0 in closed form.
        labels: (n,) classes, `NO_LABEL` for none; or gaps, eV.
        is_shifted: (n,) whether an input comes from a shifted set.
        predicted: (n_seeds, n, n_classes) probabilities; of gaps (n_seeds, n, 2) mean and std, eV.
        epistemic: (n_seeds, n).
    """

    way: str
    n_samples: int
    labels: NDArray[Any]
    is_shifted: NDArray[np.bool_]
    predicted: Floats
    epistemic: Floats

    @property
    def n(self) -> int:
        """Number of inputs."""
        return len(self.labels)

    @property
    def n_seeds(self) -> int:
        """Number of trainings; of an ensemble, of groups of members."""
        return len(self.predicted)

    def taken(self, rows: NDArray[np.int64], seeds: NDArray[np.int64]) -> Arm:
        """Some inputs and trainings, by their indices."""
        both = np.ix_(seeds, rows)
        return replace(
            self,
            labels=self.labels[rows],
            is_shifted=self.is_shifted[rows],
            predicted=self.predicted[both],
            epistemic=self.epistemic[both],
        )


@dataclass(frozen=True)
class TaskArms:
    """All arms of a task.

    Attributes:
        task: Its name.
        labels: Classes of each split, `NO_LABEL` for inputs without a class; or gaps, eV.
        estimates: Of each way, number of samples and split, one a training.
        about: Numbers of each training of a method.
    """

    task: str
    labels: Mapping[str, NDArray[Any]]
    estimates: Mapping[Key, Sequence[Estimate]]
    about: Mapping[str, Sequence[Mapping[str, float]]]

    @property
    def kind(self) -> Kind:
        """What the labels are."""
        return kind_of(self.labels["test"])

    @property
    def ways(self) -> list[tuple[str, int]]:
        """Ways to predict, with their numbers of samples."""
        return [(way, n) for way, n, split in self.estimates if split == "test"]

    @property
    def shifts(self) -> list[str]:
        """Names of the shifted sets."""
        return [name for name in self.labels if name != "test"]

    def arm(self, way: str, n_samples: int, split: str = "test") -> Arm:
        """The arm of a split, such as a shifted set with labels."""
        found = self.estimates[way, n_samples, split]
        labels = self.labels[split]
        return Arm(
            way,
            n_samples,
            labels,
            np.full(len(labels), split != "test"),
            np.stack([each.predicted for each in found]),
            np.stack([each.epistemic for each in found]),
        )

    def with_shifted(self, way: str, n_samples: int, *shifts: str) -> Arm:
        """The arm of test inputs and of shifted sets together; of all of them where none is named."""
        names = ["test", *(shifts or self.shifts)]
        arms = [self.arm(way, n_samples, name) for name in names]
        return Arm(
            way,
            n_samples,
            np.concatenate([arm.labels for arm in arms]),
            np.concatenate([arm.is_shifted for arm in arms]),
            np.concatenate([arm.predicted for arm in arms], 1),
            np.concatenate([arm.epistemic for arm in arms], 1),
        )


def collected(folder: Path, *, members: int, suffix: str = "") -> TaskArms:
    """The arms of a task from the files of its trainings.

    Args:
        folder: Of the files, as `benchmarks.claims.cells` writes them.
        members: LoRA trainings of an ensemble.
        suffix: End of the ways to predict that are wanted, such as `NEIGHBOURS`; it is left out.
    """
    with np.load(folder / "labels.npz") as arrays:
        labels = {name: arrays[name] for name in arrays}
    estimates: dict[Key, list[Estimate]] = {}
    about: dict[str, list[Mapping[str, float]]] = {}
    for path in sorted(folder.glob("*-*.npz"), key=_method_and_seed):
        found, numbers = load(path)
        about.setdefault(_method_and_seed(path)[0], []).append(numbers)
        for (way, n, split), estimate in found.items():
            if way.endswith(NEIGHBOURS) == bool(suffix):
                estimates.setdefault((way.removesuffix(suffix), n, split), []).append(estimate)
    outcome = OUTCOMES[kind_of(labels["test"])]
    for split in labels:
        estimates |= _ensembles(estimates.get(("lora", 1, split), []), split, members, outcome)
    estimates[TEMPERED, 1, "test"] = [
        outcome.at_best_temperature(each, labels["test"]) for each in estimates.get(("lora", 1, "test"), [])
    ]
    return TaskArms(folder.name, labels, {key: each for key, each in estimates.items() if each}, about)


def _ensembles(
    lora: Sequence[Estimate], split: str, members: int, outcome: Outcome
) -> dict[Key, list[Estimate]]:
    """Ensembles of disjoint groups of trainings, by their number of members."""
    groups = [lora[start : start + members] for start in range(0, len(lora) - members + 1, members)]
    return {
        (ENSEMBLE, n, split): [outcome.of_members(group[:n]) for group in groups]
        for n in range(2, members + 1)
    }


def _method_and_seed(path: Path) -> tuple[str, int]:
    method, _, seed = path.stem.rpartition("-")
    return method, int(seed)
