"""The tables of a comparison, one CSV file each."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims.arms import TaskArms
from benchmarks.claims.verdicts import MEASURES
from mofgap.whole_file import whole_file


def scores(tasks: Sequence[TaskArms]) -> Iterator[dict[str, Any]]:
    """Every score of every way to predict: mean and standard deviation over trainings, by split."""
    for task in tasks:
        for way, n, split in task.estimates:
            arm, measures = task.arm(way, n, split), MEASURES[task.kind]
            found = {} if (arm.labels < 0).any() else dict(measures.of_labels)
            taken = {name: (arm, score) for name, score in found.items()}
            if split != "test":
                both = task.with_shifted(way, n, split)
                taken |= {name: (both, score) for name, score in measures.of_shift.items()}
            for name, (own, score) in taken.items():
                if name.endswith("epistemic") and n == 1:
                    continue
                each = [score(own.taken(np.arange(own.n), np.array([seed]))) for seed in range(own.n_seeds)]
                yield {
                    "task": task.task,
                    "split": split,
                    "way": way,
                    "n_samples": n,
                    "score": name,
                    "mean": np.mean(each),
                    "std": np.std(each, ddof=1) if len(each) > 1 else float("nan"),
                    "n_trainings": len(each),
                    "n_inputs": own.n,
                }


def tried(folder: Path) -> Iterator[dict[str, Any]]:
    """What was tried for every method, and which choice was taken."""
    for task in sorted(path for path in folder.iterdir() if path.is_dir()):
        by_method: dict[str, list[dict[str, Any]]] = {}
        for path in sorted(task.glob("*.json")):
            method = path.stem.rpartition("-")[0]
            by_method.setdefault(method, []).append(json.loads(path.read_text(encoding="utf-8")))
        for method, found in by_method.items():
            best = min(each["val_nll"] for each in found)
            for each in found:
                yield {"task": task.name, "method": method} | each | {"taken": each["val_nll"] == best}


def cost(tasks: Sequence[TaskArms]) -> Iterator[dict[str, Any]]:
    """Trained parameters, and CPU seconds of a training and of a pass over the test inputs."""
    for task in tasks:
        for method, trainings in task.about.items():
            yield {
                "task": task.task,
                "method": method,
                "trained_parameters": int(trainings[0]["n_trained"]),
                "cpu_seconds": np.mean([each["seconds"] for each in trainings]),
                "pass_cpu_seconds": np.mean([each.get("pass_seconds", math.nan) for each in trainings]),
                "n_trainings": len(trainings),
            }


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows that have the same keys; numbers get four significant digits, NaN an empty cell."""
    with whole_file(path) as made, made.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _plain(value) for name, value in row.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.4g}"
    return value
