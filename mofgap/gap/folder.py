"""A model on disk: safetensors, adapters in PEFT layout, calibration, novelty index and card.

``config.json`` carries a version number, the sha256 of every other file that is read, and a digest of its
own content. All are checked when a model is loaded, and the digests of shipped models are in the package. A
folder of an older version is upgraded in memory, one version at a time.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import pad

from mofgap.balora import load_adapters, load_noise_network, save_adapters
from mofgap.balora.adapter_files import ADAPTER_FILES, NOISE_FILE
from mofgap.checked_json import KEY, read_checked, write_checked
from mofgap.gap.model import GapModel, GapModelConfig
from mofgap.nearest import hint
from mofgap.shipped import CONFIG, model_folder, not_found, shipped_digests, shipped_folder
from mofgap.uncertainty.calibrate import Calibration
from mofgap.uncertainty.novelty import NoveltyIndex
from mofgap.whole_file import sha256_of

VERSION = 9


def _of_version_4(old: dict[str, Any]) -> dict[str, Any]:
    """Version 3 called the neighbour correction a memory, and only BaLoRA went by distances in gradients."""
    model = old.get("model")
    if not isinstance(model, dict):
        return old | {"version": 4}
    if model.get("memory_size") and not (model.get("method") == "balora" and model.get("memory_sketch")):
        name = dict(old.get("about", {})).get("name", "the model")
        warnings.warn(
            f"{name} was calibrated for another spread than it has in this mofgap: its intervals may be off; "
            "calibrate it anew with mofgap calibrate",
            stacklevel=2,
        )
    names = {"memory_size": "correction_size", "memory_sketch": "correction_sketch"}
    return old | {"version": 4, "model": {names.get(key, key): value for key, value in model.items()}}


def _of_version_9(old: dict[str, Any]) -> dict[str, Any]:
    """Version 8 knew one other member of an ensemble, and called it a second network."""
    model = old.get("model")
    if not isinstance(model, dict):
        return old | {"version": 9}
    second = model.get("second_network")
    members = [{k: v for k, v in second.items() if k != "second_network"}] if isinstance(second, dict) else []
    kept = {key: value for key, value in model.items() if key != "second_network"}
    return old | {"version": 9, "model": kept | {"members": members}}


UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda old: old | {"version": 2},
    2: lambda old: old | {"version": 3},  # its memory knows no gradients, as is the default
    3: _of_version_4,
    4: lambda old: old | {"version": 5},  # it had no digest of its own content
    5: lambda old: old | {"version": 6},  # its calibration knew no intervals with equal tails
    6: lambda old: old | {"version": 7},  # it knew no second network
    7: lambda old: old | {"version": 8},  # its neighbours were found by the first network alone
    8: _of_version_9,
}
"""From a version to a function that turns its ``config.json`` into the next version's."""

WEIGHTS, ADAPTER = "model.safetensors", "adapter"
CALIBRATION, NOVELTY = "calibration.json", "novelty.safetensors"
FIRST_WITH_DIGEST = 5
"""The first version of which ``config.json`` has a digest of its own content."""

CHANGED = " (changed)"
"""Follows the name of a model that has a shipped model's name, or lies in its place, but other files."""

_DAMAGED = ArithmeticError, AttributeError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError
"""What is raised by files that were edited by hand, or are damaged."""


class ModelError(ValueError):
    """A model folder that cannot be used, and why."""


@dataclass(frozen=True)
class About:
    """What a model is and where it comes from.

    Attributes:
        name: The name it goes by.
        target: What it predicts.
        level_of_theory: Level of theory of the labels.
        citation: Whom to cite for the data.
        trained_as: Name of the model that it was calibrated anew from; empty for one that was not.
    """

    name: str
    target: str = "band gap, eV"
    level_of_theory: str = "unknown"
    citation: str = ""
    trained_as: str = field(default="", compare=False)

    @property
    def is_changed(self) -> bool:
        """Whether a model has the name of a shipped model and is a different one, see `CHANGED`."""
        return self.name.endswith(CHANGED)


def save_model(
    folder: Path, model: GapModel, about: About, calibration: Calibration, novelty: NoveltyIndex
) -> None:
    """Write a model folder; ``config.json`` comes last, so that a killed run leaves no folder that loads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    save_file(_plain_weights(model), folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)
    if model.layers:
        save_adapters(folder / ADAPTER, model.layers, model.config.balora, model.noise_network)
    calibration.save(folder / CALIBRATION)
    novelty.save(folder / NOVELTY)
    known = {name: value for name, value in vars(about).items() if value or name != "trained_as"}
    _write_config(folder, {"about": known, "model": asdict(model.config)}, model)


def rename(folder: Path, about: About) -> None:
    """Write another name, level of theory and citation into the ``config.json`` of a model folder.

    Raises:
        ModelError: If ``folder`` holds no model, or its ``config.json`` is damaged or was edited by hand.
    """
    described = read_config(folder)
    described.pop(KEY, None)
    named = {"name": about.name, "level_of_theory": about.level_of_theory, "citation": about.citation}
    write_checked(folder / CONFIG, described | {"about": described["about"] | named}, indent=2)


def seal(folder: Path) -> str:
    """Write the hashes of a model folder anew, for files that were changed on purpose.

    Returns:
        The digest of everything in the folder that is read.

    Raises:
        ModelError: If ``folder`` holds no model, or its ``config.json`` cannot be read.
    """
    described = _described(folder)
    with _fitting(folder):
        model = GapModel(GapModelConfig(**_known(GapModelConfig, described["model"], folder)))
        return _write_config(folder, described, model)


def _write_config(folder: Path, described: Mapping[str, Any], model: GapModel) -> str:
    """Write ``config.json`` with the hashes of all files; returns its digest."""
    hashed = {
        "version": VERSION,
        "about": described["about"],
        "model": described["model"],
        "sha256": {name: sha256_of(folder / name) for name in _files(model)},
    }
    return write_checked(folder / CONFIG, hashed, indent=2)


def _files(model: GapModel) -> tuple[str, ...]:
    """Names of the files of a model folder, except ``config.json``."""
    adapters = ADAPTER_FILES if model.layers else ()
    noise = () if model.noise_network is None else (NOISE_FILE,)
    return WEIGHTS, CALIBRATION, NOVELTY, *(f"{ADAPTER}/{name}" for name in (*adapters, *noise))


def read_model(folder: Path) -> tuple[GapModel, About, Calibration, NoveltyIndex]:
    """Load a model folder.

    A model that has the name of a shipped one without being it has `CHANGED` after its name.

    Raises:
        ModelError: If ``folder`` holds no model, lacks a file, has a damaged file, or was written by a newer
            mofgap.
    """
    described = read_config(folder)
    with _fitting(folder):
        return _read(folder, described)


@contextmanager
def _fitting(folder: Path) -> Iterator[None]:
    """While open, files that do not fit each other are a `ModelError` with the folder's name."""
    try:
        yield
    except ModelError:
        raise
    except _DAMAGED as error:
        raise ModelError(f"{folder} does not fit its {CONFIG}: {error}; get the model again") from error


def _read(folder: Path, described: Mapping[str, Any]) -> tuple[GapModel, About, Calibration, NoveltyIndex]:
    model = GapModel(GapModelConfig(**_known(GapModelConfig, described["model"], folder)))
    for name in _files(model):
        if name not in described["sha256"]:
            raise ModelError(f"{folder / CONFIG} has no sha256 of {name}: get the model again")
        path = folder / name
        if not path.is_file() or sha256_of(path) != described["sha256"][name]:
            raise ModelError(f"{path} is missing or is not the file this model was saved with: get it again")
    _load_weights(model, _upgraded(load_file(folder / WEIGHTS)), folder)
    if model.layers:
        load_adapters(model.encoder, folder / ADAPTER)
    if model.noise_network is not None:
        load_noise_network(model.noise_network, folder / ADAPTER)
    for layer in model.layers.values():
        layer.fold()
    about = _about(folder, described)
    calibration, novelty = Calibration.load(folder / CALIBRATION), NoveltyIndex.load(folder / NOVELTY)
    return model.eval().requires_grad_(False), about, calibration, novelty


def _about(folder: Path, described: Mapping[str, Any]) -> About:
    """What the model is, its name marked where it is no longer the shipped model of this name."""
    values = _known(About, described["about"], folder)
    if wrong := [key for key, value in values.items() if not isinstance(value, str)]:
        raise ModelError(f"{folder / CONFIG} is damaged: {wrong[0]!r} is no text; get the model again")
    about, shipped = About(**values), shipped_digests()
    names = {about.name}
    if folder.resolve().parent == shipped_folder("models").resolve():
        names.add(folder.resolve().name)
    if any(shipped[name] != described.get(KEY) for name in names & shipped.keys()):
        return replace(about, name=about.name.removesuffix(CHANGED) + CHANGED)
    return about


def _upgraded(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any version, renamed to the current names."""
    state = {_renamed(name): weight for name, weight in weights.items()}
    if "correction.error_ev" in state:  # of version 1, which knew neither signs nor distances
        state["correction.residual_ev"] = state.pop("correction.error_ev")
        state["correction.spacing"] = torch.tensor(0.0)
    if "correction.mean" in state:
        # Version 7 found neighbours by the first network alone: the other member's features get no weight.
        heads = [
            w for name, w in state.items() if re.fullmatch(r"(members\.\d+\.)?head\.hidden\.weight", name)
        ]
        n_pooled = sum(head.shape[1] for head in heads)
        absent = n_pooled - len(state["correction.mean"])
        state["correction.mean"] = pad(state["correction.mean"], (0, absent))
        state["correction.projection"] = pad(state["correction.projection"], (0, 0, 0, absent))
    return state


def _renamed(name: str) -> str:
    """The current name of a weight of any version."""
    return re.sub(r"^second_network\.", "members.0.", re.sub(r"^memory\.", "correction.", name))


def _load_weights(model: GapModel, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Load everything but adapters and noise network."""
    encoder, others = _split(weights)
    adapted = _adapted_names(encoder, model)
    found = model.encoder.load_state_dict(adapted, strict=False)
    rest = model.load_state_dict(others, strict=False)
    absent = [n for n in found.missing_keys if ".lora_" not in n]
    absent += [n for n in rest.missing_keys if not n.startswith("backbone.")]
    if wrong := [*absent, *found.unexpected_keys, *rest.unexpected_keys]:
        raise ModelError(f"{folder / WEIGHTS} does not fit its config: {wrong[0]}; get the model again")


def read_config(folder: Path) -> dict[str, Any]:
    """The ``config.json`` of a model folder, upgraded to today's version.

    Raises:
        ModelError: If ``config.json`` is missing, damaged or edited by hand, or has a version that this
            mofgap cannot read.
    """
    return _described(folder, sealed=True)


def _described(folder: Path, *, sealed: bool = False) -> dict[str, Any]:
    """The content of ``config.json``, upgraded. If ``sealed``, its digest must be right."""
    path = folder / CONFIG
    if not path.exists():
        raise ModelError(
            f"{folder} is no model folder: it holds no {CONFIG}; name a folder that mofgap train wrote"
        )
    try:
        described, own, fitting = read_checked(path)
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}; get the model again") from error
    version = described.get("version", 0)
    if not isinstance(version, int):
        raise ModelError(f"{path} is damaged: {version!r} is no version; get the model again")
    if version > VERSION:
        raise ModelError(f"{folder} has version {version}; this mofgap reads up to {VERSION}: upgrade mofgap")
    if version < FIRST_WITH_DIGEST:
        own = None  # nothing holds it to the content
    elif sealed and own != fitting:
        raise ModelError(f"{path} was changed since the model was saved: get the model again")
    while version < VERSION:
        if version not in UPGRADES:
            raise ModelError(f"{folder} has version {version}, which this mofgap cannot read; train it again")
        described = UPGRADES[version](described)
        version = described["version"]
    for key in ("about", "model", "sha256"):
        if not isinstance(described.get(key), dict):
            raise ModelError(f"{path} is damaged: it says nothing of {key!r}; get the model again")
    return described if own is None else described | {KEY: own}


def find_model(name: str | Path) -> Path:
    """Folder of a model: a path, or the name of a shipped one.

    Raises:
        ModelError: If ``name`` is neither a model folder nor the name of a shipped model. The message
            suggests the nearest shipped name, or lists some.
    """
    folder = model_folder(name, CONFIG)
    if folder is None:
        raise ModelError(not_found(name, CONFIG))
    return folder


_ENCODER = "encoder."
"""Begins the names of the encoder's weights on disk."""

_HALF = ("members.", "correction.points")
"""Begin the names of what is stored in half precision, and is rounded so before it is used."""


def _plain_weights(model: GapModel) -> dict[str, Tensor]:
    """Everything but adapters and noise network, under the names it has without adapters."""
    encoder = {k: v for k, v in model.encoder.state_dict().items() if ".lora_" not in k}
    others = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    state = {_ENCODER + k.replace(".base.", "."): v for k, v in encoder.items()} | others
    plain = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    return {k: v.half() if k.startswith(_HALF) else v for k, v in plain.items()}


def _split(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The weights of the encoder, under its own names, and all others."""
    encoder = {k.removeprefix(_ENCODER): v for k, v in weights.items() if k.startswith(_ENCODER)}
    return encoder, {k: v for k, v in weights.items() if not k.startswith(_ENCODER)}


def _adapted_names(state: Mapping[str, Tensor], model: GapModel) -> dict[str, Tensor]:
    """An encoder's weights under the names that they have below adapters."""
    split = {name: name.rpartition(".") for name in state}
    return {
        f"{parent}.base.{leaf}" if parent in model.layers else name: state[name]
        for name, (parent, _, leaf) in split.items()
    }


def _known(kind: type, values: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    names = [f.name for f in fields(kind)]
    for key in values:
        if key not in names:
            raise ModelError(f"{folder / CONFIG}: unknown key {key!r}; {hint(key, names)}")
    return values


def encoder_weights(path: Path, model: GapModel) -> None:
    """Load pretrained encoder weights (``encoder.safetensors``) into a model with or without adapters.

    Raises:
        ModelError: If the file ``path`` is damaged, or its weights do not fit the encoder of ``model``.
    """
    try:
        state = _adapted_names(load_file(path), model)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged: {error}; get it again") from error
    wanted = {n for n in model.encoder.state_dict() if ".lora_" not in n}
    if wanted != set(state):
        raise ModelError(f"{path} does not fit the encoder: {sorted(wanted ^ set(state))[0]}; get it again")
    try:
        model.encoder.load_state_dict(state, strict=False)
    except RuntimeError as error:  # torch's word for a tensor of another shape
        raise ModelError(f"{path} does not fit the encoder: {error}; get it again") from error
