"""The result of a training: what it scored, what it cost, and how that is kept."""

from __future__ import annotations

import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mofgap.shipped import COST, LOG, METRICS
from mofgap.training.config import FinetuneConfig
from mofgap.training.loop import CLOCKS, read_log
from mofgap.version import installed_version
from mofgap.whole_file import finite, write_json

CROSS_FITTED = "cross-fitted"
"""Stands for a split in the metrics: structures of train, each predicted by a model that did not learn it."""

KNOWN = ", known before"
"""Follows the name of a split: its structures that the parent gap model was trained on."""


@dataclass(frozen=True)
class Cost:
    """Cost of all epochs of a training, over all starts and all its models.

    Attributes:
        seconds: Wall-clock time, which other programs on the machine lengthen.
        cpu_seconds: Time of the processor, of all threads together.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @classmethod
    def of(cls, folder: Path) -> Cost:
        """The cost of the training in a folder and in its subfolders.

        Raises:
            TrainingError: If a log in ``folder`` is damaged.
        """
        rows = [row for log in sorted(folder.rglob(LOG)) for row in read_log(log)]
        # Trainings begun by older versions have no CPU seconds.
        return cls(*(sum(float(row.get(name) or 0) for row in rows) for name in CLOCKS))


@dataclass(frozen=True)
class TrainingResult:
    """Scores and costs of a training.

    Attributes:
        metrics: Metrics of each split that was not trained on, eV where an energy, or `CROSS_FITTED`. Those
            of structures that a parent was trained on stand apart, under the name with `KNOWN`.
        cost: Cost of its epochs.
        n_trainable: Parameters that were trained.
        parent: Name of the gap model it started from, if it did.
        families_divided: Whether cross-fitting had to divide families among its folds.
    """

    metrics: dict[str, dict[str, float]]
    cost: Cost
    n_trainable: int
    parent: str = ""
    families_divided: bool = False

    @property
    def known(self) -> dict[str, int]:
        """How many structures of each of these splits the parent was trained on."""
        return {
            name.removesuffix(KNOWN): int(scores["n"])
            for name, scores in self.metrics.items()
            if name.endswith(KNOWN)
        }

    def write(self, folder: Path, config: FinetuneConfig, n_train: int) -> None:
        """Write ``metrics.json`` and ``cost.json`` into a model folder.

        Two trainings of the same settings differ in nothing but the second.

        Args:
            folder: The folder.
            config: How the model was trained.
            n_train: Number of training structures.
        """
        cost = {name: round(value, 1) for name, value in asdict(self.cost).items()}
        write_json(folder / COST, cost)
        versions = {
            "mofgap": installed_version(),
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        report = {
            "metrics": finite(self.metrics),
            "n_trainable": self.n_trainable,
            "parent": self.parent,
            "known": self.known,
            "families_divided": self.families_divided,
            "training": asdict(config),
            "n_train": n_train,
            "versions": versions,
        }
        write_json(folder / METRICS, report, indent=2)
