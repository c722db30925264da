"""A run folder of ``mofgap compare``, read back for a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mofgap.shipped import CARD, model_folder
from mofgap.study.layout import MANIFEST, PREDICTIONS, RUN_CONFIG, SUMMARY, SUMMARY_VERSION
from mofgap.study.methods.method import estimators, uncorrected


class ComparisonError(ValueError):
    """A folder that holds no comparison, and why."""


@dataclass(frozen=True, eq=False)
class Compared:
    """A comparison.

    Attributes:
        name: Name of the run folder.
        summary: What ``comparison.json`` holds.
        predictions: ``predictions.parquet``, test rows alone.
        origin: What the run's manifest and configuration say of where it comes from, by name.
        cards: Markdown of the model cards that are at hand, by the name of the encoder.
    """

    name: str
    summary: dict[str, Any]
    predictions: pd.DataFrame
    origin: Mapping[str, str] = field(default_factory=dict)
    cards: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def entries(self) -> pd.DataFrame:
        """Every setting of every method: its keys, ``mean.X`` and ``se.X`` of each metric or cost X."""
        rows = [
            {name: value for name, value in entry.items() if name not in ("mean", "standard_error")}
            | {f"mean.{name}": value for name, value in entry["mean"].items()}
            | {f"se.{name}": value for name, value in entry["standard_error"].items()}
            for entry in self.summary["methods"]
        ]
        frame = pd.DataFrame(rows)
        numbers = [name for name in frame.columns if name.startswith(("mean.", "se."))]
        frame[numbers] = frame[numbers].apply(pd.to_numeric)
        return frame.sort_values("method", key=lambda names: names.map(place), kind="stable")

    @property
    def splits(self) -> list[str]:
        """Splits to set side by side: those that leave out no element, if there are any."""
        names = list(self.summary["splits"])
        return [name for name in names if name not in self.element_splits] or names

    @property
    def element_splits(self) -> list[str]:
        """Splits that leave out an element."""
        return [name for name, about in self.summary["splits"].items() if about["kind"] == "without"]

    @cached_property
    def variants(self) -> pd.DataFrame:
        """One row per split, variant and method: most trainings, most samples, whole spread, calibrated."""
        found = self.entries[self.entries.spread.isin(["total", "none"])]
        by, rising = ["calibration", "n_seeds", "n_samples"], [True, False, False]
        order = found.sort_values(by, ascending=rising, kind="stable")
        return found.drop(order.index[order.duplicated(["split", "variant", "method"])])

    @cached_property
    def best(self) -> pd.DataFrame:
        """`variants` of the recipe as configured."""
        return self.variants[self.variants.variant == ""]

    def seeds(self, split: str, method: str) -> list[pd.DataFrame]:
        """Test rows of a method as in `best`, a frame for each training seed, the first seed first."""
        best, frame = self.best, self.predictions
        n_samples = best.n_samples[(best.split == split) & (best.method == method)]
        frame = frame[(frame.split == split) & (frame.method == method) & frame.n_samples.isin(n_samples)]
        return [rows for _, rows in frame.groupby("seed", sort=True)]


def read_compared(run: Path, *, with_manifest: bool = True) -> Compared:
    """Read a run folder.

    Args:
        run: The folder.
        with_manifest: Whether its manifest says where it comes from. A stage of the run must not read it:
            until all stages are done it is that of an earlier command.

    Raises:
        ComparisonError: If ``run`` holds no finished comparison, or its comparison is damaged or has another
            version.
    """
    summary, predictions = run / SUMMARY, run / PREDICTIONS
    for path in (summary, predictions):
        if not path.is_file():
            raise ComparisonError(f"{run}: no {path.name}; give a folder that mofgap compare has finished")
    try:
        content = json.loads(summary.read_text(encoding="utf-8"))
        frame = pd.read_parquet(predictions)
    except (ValueError, OSError) as error:
        raise ComparisonError(f"{run}: damaged: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or content.get("version") != SUMMARY_VERSION:
        raise ComparisonError(f"{summary}: expected version {SUMMARY_VERSION} of a comparison")
    if not content["methods"]:
        raise ComparisonError(f"{summary}: no method was compared")
    chosen = (frame.part == "test") & ~frame.is_left_out & (frame.variant == "")
    return Compared(run.resolve().name, content, frame[chosen], *_origin(run, with_manifest))


def _origin(run: Path, with_manifest: bool) -> tuple[dict[str, str], dict[str, str]]:
    """What a run's manifest and configuration tell a reader of the page, and the card of its encoder."""
    manifest, config = _read(run / MANIFEST) if with_manifest else {}, _read(run / RUN_CONFIG)
    comparison = _mapping(config.get("comparison"))
    data, encoder = _mapping(comparison.get("data")), comparison.get("encoder", "")
    inputs = manifest.get("inputs") or [data[name] for name in ("table", "cifs") if data.get(name)]
    about = {
        "command": manifest.get("command"),
        "run with": f"mofgap {manifest['mofgap']}" if manifest.get("mofgap") else "",
        "level of theory": data.get("level_of_theory"),
        "data set, to be cited": data.get("citation"),
        "data set and other inputs": ", ".join(map(str, inputs)),
        "encoder": encoder,
    }
    folder = model_folder(str(encoder), CARD) if encoder else None
    cards = {} if folder is None else {str(encoder): (folder / CARD).read_text(encoding="utf-8")}
    return {name: str(value) for name, value in about.items() if value}, cards


def _read(path: Path) -> dict[str, Any]:
    """The content of a file of YAML or JSON; empty where there is none that can be read."""
    try:
        return _mapping(YAML(typ="safe").load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, YAMLError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def label(method: str) -> str:
    """The label of a method."""
    name = uncorrected(method)
    known = estimators().get(name)
    return (known.label if known else name) + (" + neighbours" if name != method else "")


def place(method: str) -> int:
    """The position of a method in tables and figures; unknown ones come last."""
    name = uncorrected(method)
    known = [*estimators()]
    return known.index(name) if name in known else len(known)
