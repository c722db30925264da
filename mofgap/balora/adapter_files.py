"""Adapters on disk, in the layout of Hugging Face PEFT."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mofgap.balora.adapt import adapt, adapted_layers, undone_if_it_fails
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLayer
from mofgap.balora.linear import AdaptedConv1D
from mofgap.balora.noise import NoiseNetwork
from mofgap.balora.saved import TrainedModule, trained_modules
from mofgap.whole_file import whole_file

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
BALORA_FILE = "balora_config.json"
NOISE_FILE = "noise_network.safetensors"
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, BALORA_FILE)
"""The files that all adapters have; `NOISE_FILE` is written with a posterior only."""

_PREFIX = "base_model.model."
_BASE_WEIGHT = ".base_layer.weight"
_PART = re.compile(r"(.*)\.(?:lora_[AB]\.weight|lora_embedding_[AB])")

_SHARED = ("r", "lora_alpha", "rank_pattern", "alpha_pattern")
"""Settings that PEFT and `BaLoRAConfig` call the same."""
_PEFT_READ = ("peft_type", "target_modules", "modules_to_save", *_SHARED)

_PEFT_SILENT = (
    *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("exclude_modules", "layers_to_transform", "layers_pattern"),  # the names of the weights imply them
    *("lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
    *("eva_config", "corda_config"),  # initialisation of A and B
    "fan_in_fan_out",  # the kind of the layer implies it
)
"""Settings of PEFT that do not change the mean, whatever their value. Others do not if they are empty."""

_PEFT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    # Others, such as pissa, change the weights of the base model when they load.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


# In place of what only a function of the user can tell.
_A_FUNCTION = "(a function)"


def save_adapters(
    folder: str | Path,
    layers: Mapping[str, AdaptedLayer],
    config: BaLoRAConfig,
    noise_network: NoiseNetwork | Mapping[str, Tensor] | None = None,
    trained: Mapping[str, TrainedModule] | None = None,
    functions: Sequence[str] = (),
    vocabulary: Mapping[str, Tensor] | None = None,
) -> None:
    """Write adapters that `load_adapters` and Hugging Face PEFT read.

    PEFT reads a plain LoRA adapter, which is the posterior mean. The posterior is in separate files. Each
    file is written whole or not at all. The file that PEFT looks for first is written last.

    Args:
        folder: It is made if it does not exist; files of these names are replaced.
        layers: The adapted layers by their names in the base model.
        config: The config that they were made with.
        noise_network: alpha(X), or other tensors of the posterior by name. Without it, the folder has no
            posterior afterwards.
        trained: Modules that were trained whole, by their names in the base model.
        functions: Which of ``features`` and ``rows`` a function gave, see `trained_functions`.
        vocabulary: Weights of the base model that came with an adapter, see `vocabulary_of`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = dict(vocabulary or {})
    for name, layer in layers.items():
        parts = zip(layer.peft_names, (layer.lora_A, layer.lora_B), layer.peft_shapes(), strict=True)
        tensors |= {f"{name}.{part}": weight.view(shape) for part, weight, shape in parts}
        if layer.replaced:
            tensors[f"{name}{_BASE_WEIGHT}"] = layer.base.weight
    for name, module in (trained or {}).items():
        tensors |= {f"{name}.{key}": value for key, value in module.trained.state_dict().items()}
    tensors = {f"{_PREFIX}{name}": value for name, value in tensors.items()}
    if noise_network is None:
        (folder / NOISE_FILE).unlink(missing_ok=True)
    else:
        state = noise_network if isinstance(noise_network, Mapping) else noise_network.state_dict()
        _write(folder / NOISE_FILE, lambda path: save_file(_on_cpu(state), path))
    _write(folder / WEIGHTS_FILE, lambda path: save_file(_on_cpu(tensors), path, metadata={"format": "pt"}))
    if any(layer.rank != config.rank_of(name) for name, layer in layers.items()):  # cut since it was made
        ranks, alphas = _patterns(layers, config)
        config = replace(config, rank_pattern=ranks, alpha_pattern=alphas)
    _write_json(folder / BALORA_FILE, config.to_dict() | dict.fromkeys(functions, _A_FUNCTION))
    _write_json(folder / CONFIG_FILE, _peft_config(layers, config, list(trained or {})))


def _peft_config(
    layers: Mapping[str, AdaptedLayer], config: BaLoRAConfig, trained: Sequence[str]
) -> dict[str, Any]:
    """The config that PEFT reads."""
    ranks, alphas = _patterns(layers, config)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": config.r,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "target_modules": "|".join(map(re.escape, layers)),  # PEFT would take names as endings of names
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "modules_to_save": list(trained) or None,
        "bias": "none",
        "fan_in_fan_out": any(isinstance(layer, AdaptedConv1D) for layer in layers.values()),
        "inference_mode": True,
    }


def _patterns(
    layers: Mapping[str, AdaptedLayer], config: BaLoRAConfig
) -> tuple[dict[str, int], dict[str, float]]:
    """Ranks and alphas of the layers where they are not those of the config, by their whole names."""
    whole = {f"^{re.escape(name)}": layer for name, layer in layers.items()}
    ranks = {name: layer.rank for name, layer in whole.items() if layer.rank != config.r}
    alphas = {name: layer.scaling * layer.rank for name, layer in whole.items()}
    return ranks, {n: alpha for n, alpha in alphas.items() if not math.isclose(alpha, config.lora_alpha)}


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Tied tensors are copied: a safetensors file cannot hold tensors that share memory.
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def load_config(folder: str | Path, posterior: BaLoRAConfig | None = None) -> BaLoRAConfig:
    """The config of saved adapters, from mofgap or from a plain LoRA adapter of PEFT.

    Args:
        folder: Their folder.
        posterior: Settings of the posterior of an adapter of PEFT, which has none.

    Raises:
        FileNotFoundError: If the folder ``folder`` holds no adapters.
        ValueError: If the config file is damaged, has an unknown setting, or describes a PEFT adapter of
            another kind than plain LoRA; or if ``posterior`` is given and the folder has its own.
    """
    own, peft = Path(folder) / BALORA_FILE, Path(folder) / CONFIG_FILE
    path = own if own.exists() else peft
    if path == own and posterior is not None:
        raise ValueError(f"{folder}: the adapters have a posterior and a config of their own; give none")
    try:
        content = json.loads(path.read_text())
        if path == peft:
            return _of_peft(Path(folder), content, posterior)
        return BaLoRAConfig.from_dict({name: value for name, value in content.items() if name != "rows"})
    except (AttributeError, KeyError, TypeError, JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error


def trained_functions(folder: str | Path) -> list[str]:
    """Which of ``features`` and ``rows`` a function gave when the adapters of a folder were trained."""
    own = Path(folder) / BALORA_FILE
    content = json.loads(own.read_text()) if own.exists() else {}
    return [name for name, value in content.items() if value == _A_FUNCTION]


def _of_peft(folder: Path, peft_config: Mapping[str, Any], posterior: BaLoRAConfig | None) -> BaLoRAConfig:
    if peft_config.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: a {peft_config.get('peft_type')} adapter; only LORA can be read")
    for key, value in peft_config.items():
        if value and key not in (*_PEFT_READ, *_PEFT_SILENT) and value not in _PEFT_NEUTRAL.get(key, ()):
            raise ValueError(f"{folder}: {key}={value!r} is not supported")
    targets = peft_config["target_modules"]
    if targets is None:
        raise TypeError("target_modules is empty")
    shared = {name: peft_config[name] for name in _SHARED if peft_config.get(name) is not None}
    # PEFT lists heads that other models have, too.
    kept = [f".{key}" for key in _saved(folder)]
    listed = peft_config.get("modules_to_save") or ()
    saved = tuple(name for name in listed if any(f".{name}." in key for key in kept))
    shared |= {"target_modules": targets, "modules_to_save": saved, "layers_to_transform": None}
    return replace(posterior or BaLoRAConfig(), **shared)


def load_adapters(model: nn.Module, folder: str | Path) -> dict[str, AdaptedLayer]:
    """Load saved adapters into a base model, which is adapted first unless it is already.

    Returns:
        The adapted layers by name.

    Raises:
        FileNotFoundError: If the folder ``folder`` holds no adapters.
        ValueError: If the adapters in ``folder`` do not fit ``model``, or one of their files is damaged. The
            model is then unchanged. It is also raised if ``model`` is on the device ``meta``.
    """
    folder = Path(folder)
    config = load_config(folder)
    if any(weight.is_meta for weight in model.parameters()):
        raise ValueError(f"the model has no weights yet: load them before the adapters of {folder}")
    saved = _saved(folder)
    base_weights = _base_weights(saved, model, config)
    tensors = {key: value for key, value in saved.items() if key not in base_weights}
    if adapted_layers(model):
        _check_fit(folder, tensors, model, config)
    else:
        _adapt_as_saved(folder, tensors, model, config)
    layers = adapted_layers(model)
    for layer in layers.values():
        layer.restore_base()
    in_place = _base_weights(saved, model, config)  # those that are back
    for key, own in in_place.items():
        if _is_vocabulary(key, saved, folder):
            own.data.copy_(saved.get(key.replace(_BASE_WEIGHT, ".weight"), saved[key]))
    for key in in_place if has_posterior(folder) else ():
        whole = saved.get(key.replace(_BASE_WEIGHT, ".weight"))
        if key.endswith(_BASE_WEIGHT) and (whole is None or not whole.equal(saved[key])):  # it was cut
            layers[key.removesuffix(_BASE_WEIGHT)].replace_base(saved[key])
    for name, layer in layers.items():
        for part, weight in zip(layer.peft_names, (layer.lora_A, layer.lora_B), strict=True):
            weight.data.copy_(tensors[f"{name}.{part}"].view(weight.shape))
        layer.folded = None
    for name, module in trained_modules(model).items():
        for key, value in module.trained.state_dict().items():
            value.copy_(tensors[f"{name}.{key}"])
    return layers


def _saved(folder: str | Path) -> dict[str, Tensor]:
    """The tensors of saved adapters by their names in the base model."""
    found = _read(Path(folder) / WEIGHTS_FILE)
    return {name.removeprefix(_PREFIX): value for name, value in found.items()}


def _base_weights(saved: Mapping[str, Tensor], model: nn.Module, config: BaLoRAConfig) -> dict[str, Tensor]:
    """Weights of the model by their names in a file.

    PEFT saves those of embeddings and output layers beside the adapters, since a new vocabulary changes them.
    """
    own = model.state_dict(keep_vars=True)
    found = {}
    for key, value in saved.items():
        name = key.replace(_BASE_WEIGHT, ".weight")
        parents = list(accumulate(name.split(".")[:-1], "{}.{}".format))
        inside = any(parent.endswith(ending) for parent in parents for ending in config.modules_to_save)
        of_model = own.get(name, own.get(f"{name.removesuffix('.weight')}.base.weight"))
        if of_model is not None and not inside and of_model.shape == value.shape:
            found[key] = of_model
    return found


def vocabulary_of(model: nn.Module, folder: str | Path) -> dict[str, Tensor]:
    """Weights of a model that `load_adapters` took from a folder, since a new vocabulary had changed them.

    They have the names that they get in a file: those of embeddings with adapters have PEFT's and their own.
    """
    saved = _saved(folder)
    found = _base_weights(saved, model, load_config(folder))
    cut = {layer.base.weight: layer.replaced[0] for layer in adapted_layers(model).values() if layer.replaced}
    found = {key: cut.get(w, w) for key, w in found.items() if _is_vocabulary(key, saved, folder)}
    return found | {key.replace(_BASE_WEIGHT, ".weight"): weight for key, weight in found.items()}


def _is_vocabulary(key: str, saved: Mapping[str, Tensor], folder: str | Path) -> bool:
    """Whether a weight of the base model changed with its vocabulary, and not as its adapter was cut."""
    return not has_posterior(folder) or key.replace(_BASE_WEIGHT, ".weight") in saved


def _adapt_as_saved(
    folder: Path, tensors: Mapping[str, Tensor], model: nn.Module, config: BaLoRAConfig
) -> None:
    known = dict(model.named_modules())
    for key in tensors:
        if (part := _PART.fullmatch(key)) and part[1] not in known:
            raise ValueError(f"{folder}: {key} is not in the model")
    with undone_if_it_fails(model):
        adapt(model, as_saved(folder, config))
        _check_fit(folder, tensors, model, config)


def as_saved(folder: str | Path, config: BaLoRAConfig) -> BaLoRAConfig:
    """A config that names the layers whose adapters a folder holds, and no others.

    Raises:
        FileNotFoundError: If the folder ``folder`` holds no adapters.
        ValueError: If the file of the adapters is damaged.
    """
    names = dict.fromkeys(part[1] for part in map(_PART.fullmatch, _saved(folder)) if part)
    exact = tuple(f"^{re.escape(name)}$" for name in names)  # a bare name may end others
    return replace(config, target_modules=exact, layers_to_transform=None)


def has_posterior(folder: str | Path) -> bool:
    """Whether saved adapters have a posterior; adapters of PEFT have none."""
    return (Path(folder) / BALORA_FILE).exists()


def _check_fit(folder: Path, tensors: Mapping[str, Tensor], model: nn.Module, config: BaLoRAConfig) -> None:
    """Refuse tensors that are not those of a model's adapters and trained modules."""
    wanted: dict[str, tuple[int, ...]] = {}
    for name, layer in adapted_layers(model).items():
        if not math.isclose(layer.scaling, config.scaling_of(name)):
            scaling = config.scaling_of(name)
            raise ValueError(f"{folder}: the adapter of {name} is scaled by {scaling:g}, the model's is not")
        parts = zip(layer.peft_names, layer.peft_shapes(), strict=True)
        wanted |= {f"{name}.{part}": shape for part, shape in parts}
    for name, module in trained_modules(model).items():
        wanted |= {f"{name}.{key}": tuple(v.shape) for key, v in module.trained.state_dict().items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        if key not in wanted or key not in tensors:
            raise ValueError(f"{folder}: {key} is {'missing' if key in wanted else 'not in the model'}")
        if tensors[key].shape != wanted[key]:
            shape = tuple(tensors[key].shape)
            raise ValueError(f"{folder}: {key} is {shape}, the model wants {wanted[key]}")


@torch.no_grad()
def load_posterior(own: Mapping[str, Tensor], folder: str | Path) -> None:
    """Copy the saved tensors of a posterior into those of a model, by name.

    Raises:
        FileNotFoundError: If the folder ``folder`` holds no posterior.
        ValueError: If the file of the posterior is damaged, or holds other names or shapes than ``own``.
    """
    if not own:
        return
    saved = _read(Path(folder) / NOISE_FILE)
    if {name: value.shape for name, value in saved.items()} != {name: v.shape for name, v in own.items()}:
        raise ValueError(f"{folder}: the saved posterior is not that of the config or the features")
    for name, value in own.items():
        value.copy_(saved[name])


def load_noise_network(network: NoiseNetwork, folder: str | Path) -> None:
    """Load a saved noise network into one of the same shape.

    Raises:
        FileNotFoundError: If the folder ``folder`` holds no noise network.
        ValueError: If the file of the posterior is damaged.
        RuntimeError: If the saved noise network has another shape than ``network``.
    """
    network.load_state_dict(_read(Path(folder) / NOISE_FILE))
    network.is_fixed = True


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    _write(path, lambda path: path.write_text(json.dumps(content, indent=2) + "\n"))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a temporary file in the folder, then rename it: a killed run leaves no incomplete file."""
    with whole_file(path) as partial:
        write(partial)
        partial.chmod(0o644)  # safetensors makes files that their owner alone can read
