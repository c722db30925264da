"""``metrics.json``: the figures of a run that are compared with those of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mofgap.shipped import METRICS
from mofgap.study.layout import SUMMARY, read_json
from mofgap.study.methods.method import way
from mofgap.whole_file import write_json


def write_metrics(run: Path) -> None:
    """Write the metrics of every method of a comparison, calibrated where it has a spread.

    ``{split: {method: {metric: mean over seeds}}}``, a method with draws or members as ``METHOD@N`` and one
    of an ablation as ``METHOD:ABLATION``.
    """
    content: dict[str, dict[str, dict[str, Any]]] = {}
    for entry in read_json(run / SUMMARY)["methods"]:
        if entry["spread"] == "epistemic" or (entry["spread"] == "total" and entry["calibration"] == "raw"):
            continue
        name = entry["method"] + (f":{entry['variant']}" if entry["variant"] else "")
        kept = {k: v for k, v in entry["mean"].items() if v is not None}
        content.setdefault(entry["split"], {})[way(name, entry["n_samples"])] = kept
    write_json(run / METRICS, content)
