"""Find runs, and compare two of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mofgap.configuration import to_dict
from mofgap.shipped import METRICS
from mofgap.study.engine.folder import RunError, RunFolder
from mofgap.study.engine.manifest import read_manifest
from mofgap.study.layout import MANIFEST, RUN_CONFIG
from mofgap.whole_file import read_json

Differing = dict[str, tuple[Any, Any]]
"""For each key that differs between two runs the value in both, None where it is missing."""


def find_runs(root: Path) -> dict[Path, dict[str, Any]]:
    """Run folders at or below the folder ``root`` with their manifests, newest first, without damaged ones.

    Raises:
        RunError: If ``root`` does not exist.
    """
    if not root.is_dir():
        raise RunError(f"there is no folder {root}")
    folders = (path.parent for path in root.glob(f"**/{MANIFEST}") if (path.parent / RUN_CONFIG).exists())
    found = [(run, manifest) for run in folders if (manifest := read_manifest(run))]
    return dict(sorted(found, key=lambda each: (each[1]["written"], each[0].name), reverse=True))


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of a run.

    Raises:
        RunError: If ``path`` does not exist, holds no run, or has a damaged manifest.
    """
    manifest = read_manifest(path)
    if not manifest:
        what = "no such folder" if not path.is_dir() else f"no {MANIFEST}, or none that this mofgap reads"
        raise RunError(f"{path} is no run folder: {what}")
    return manifest


def compare_runs(one: Path, two: Path) -> dict[str, Differing]:
    """The differences between two runs: settings, inputs, environment, code, outputs, metrics.

    Of the stages that both have, those with other code are named.

    Raises:
        RunError: If ``one`` or ``two`` does not exist, holds no run, or has a damaged manifest.
        ConfigurationError: If the configuration of the run ``one`` or ``two`` cannot be read.
    """
    first, second = manifest_of(one), manifest_of(two)
    code = [{name: stage["code"] for name, stage in m["stages"].items()} for m in (first, second)]
    shared = code[0].keys() & code[1].keys()
    settings = [flat(to_dict(RunFolder(run).config)) for run in (one, two)]
    return {
        "settings": _differing(*settings),
        "inputs": _differing(first["inputs"], second["inputs"]),
        "environment": _differing(_environment(first), _environment(second)),
        "code": _differing(*({name: c[name] for name in shared} for c in code)),
        "outputs": _differing(first["outputs"], second["outputs"]),
        "metrics": _differing(*(flat(read_json(run / METRICS)) for run in (one, two))),
    }


def flat(values: Any, key: str = "") -> dict[str, Any]:
    """Nested plain values by dotted keys."""
    if isinstance(values, Mapping):
        inner = ((str(k), v) for k, v in values.items())
    elif isinstance(values, list) and any(isinstance(v, Mapping | list) for v in values):
        inner = ((str(i), v) for i, v in enumerate(values))
    else:
        return {key: values}
    return {name: v for k, v in inner for name, v in flat(v, f"{key}.{k}" if key else k).items()}


def _environment(manifest: Mapping[str, Any]) -> dict[str, Any]:
    git = manifest.get("git") or {}
    commit = git.get("commit")
    return {
        **manifest["packages"],
        "python": manifest["python"],
        "platform": manifest["platform"],
        "processor": manifest["machine"]["processor"],
        "commit": f"{commit} and changes" if git.get("changed") else commit,
    }


def _differing(one: Mapping[str, Any], two: Mapping[str, Any]) -> Differing:
    pairs = {key: (one.get(key), two.get(key)) for key in {**one, **two}}
    # NaN, which alone differs from itself, is no difference.
    return {key: (a, b) for key, (a, b) in pairs.items() if a != b and not (a != a and b != b)}
