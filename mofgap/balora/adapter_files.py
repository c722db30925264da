"""Adapters on disk, in the layout of Hugging Face PEFT."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mofgap.balora.adapt import adapt, adapted_layers
from mofgap.balora.config import BaLoRAConfig
from mofgap.balora.layer import AdaptedLinear
from mofgap.balora.noise import NoiseNetwork

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
BALORA_FILE = "balora_config.json"
NOISE_FILE = "noise_network.safetensors"
ADAPTER_FILES = (CONFIG_FILE, WEIGHTS_FILE, BALORA_FILE)
"""All files of adapters but that of the noise network, which not all have."""

_PEFT_READ = ("peft_type", "target_modules", "r", "lora_alpha")

_PEFT_SILENT = (
    *("task_type", "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "peft_version"),
    *("exclude_modules", "layers_to_transform", "layers_pattern"),  # the names of the weights tell as much
    *("lora_dropout", "megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),
    *("eva_config", "corda_config"),  # of how A and B began
)
"""Settings of PEFT that leave the mean as it is, whatever they are; others do so where they are empty."""

_PEFT_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "bias": ("none",),
    # Others, such as pissa, change the weights below when they load.
    "init_lora_weights": (True, False, None, "gaussian", "eva", "orthogonal"),
}


def save_adapters(
    folder: str | Path,
    layers: Mapping[str, AdaptedLinear],
    config: BaLoRAConfig,
    noise_network: NoiseNetwork | None = None,
) -> None:
    """Write adapters that `load_adapters` and Hugging Face PEFT read.

    PEFT sees a plain LoRA adapter, our mean. The posterior lies beside it, in files of our own. Each file
    appears whole or not at all, the one that PEFT looks for first comes last.

    Args:
        folder: Made where it does not exist; files of these names are replaced.
        layers: The adapted layers by their names in the base model.
        config: What they were made with.
        noise_network: alpha(X), saved where given; where not, none is left of adapters that lay there before.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, layer in layers.items():
        for part in ("lora_A", "lora_B"):
            weight: Tensor = getattr(layer, part).detach().cpu().contiguous()
            tensors[f"base_model.model.{name}.{part}.weight"] = weight
    peft_config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": config.lora_alpha,
        "lora_dropout": 0.0,
        "target_modules": "|".join(map(re.escape, layers)),  # PEFT would take names as endings of names
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    if noise_network is None:
        (folder / NOISE_FILE).unlink(missing_ok=True)
    else:
        state = {
            name: value.detach().cpu().contiguous() for name, value in noise_network.state_dict().items()
        }
        _write(folder / NOISE_FILE, lambda path: save_file(state, path))
    _write(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path, metadata={"format": "pt"}))
    _write(folder / BALORA_FILE, lambda path: path.write_text(json.dumps(config.to_dict(), indent=2) + "\n"))
    _write(folder / CONFIG_FILE, lambda path: path.write_text(json.dumps(peft_config, indent=2) + "\n"))


def load_config(folder: str | Path) -> BaLoRAConfig:
    """The config of saved adapters, ours or those of a plain PEFT LoRA adapter.

    Raises:
        FileNotFoundError: The folder ``folder`` holds no adapters.
        ValueError: The config file is damaged, has an unknown setting, or describes a PEFT adapter of another
            kind than plain LoRA.
    """
    ours, theirs = Path(folder) / BALORA_FILE, Path(folder) / CONFIG_FILE
    path = ours if ours.exists() else theirs
    try:
        content = json.loads(path.read_text())
        return BaLoRAConfig.from_dict(content) if path == ours else _of_peft(Path(folder), content)
    except (AttributeError, KeyError, TypeError, JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}") from error


def _of_peft(folder: Path, peft_config: Mapping[str, Any]) -> BaLoRAConfig:
    if peft_config.get("peft_type") != "LORA":
        raise ValueError(f"{folder}: a {peft_config.get('peft_type')} adapter; only LORA can be read")
    for key, value in peft_config.items():
        if value and key not in (*_PEFT_READ, *_PEFT_SILENT) and value not in _PEFT_NEUTRAL.get(key, ()):
            raise ValueError(f"{folder}: {key}={value!r} is not supported")
    targets = peft_config["target_modules"]
    return BaLoRAConfig(
        target_modules=(targets,) if isinstance(targets, str) else tuple(targets),
        rank=peft_config["r"],
        lora_alpha=float(peft_config["lora_alpha"]),
    )


def load_adapters(model: nn.Module, folder: str | Path) -> dict[str, AdaptedLinear]:
    """Load saved adapters into a base model, which is adapted first unless it is already.

    Returns:
        The adapted layers by name.

    Raises:
        FileNotFoundError: The folder ``folder`` holds no adapters.
        ValueError: The adapters in ``folder`` do not fit ``model``, which stays as it was, or their config
            cannot be read.
    """
    folder = Path(folder)
    config = load_config(folder)
    tensors = {
        name.removeprefix("base_model.model."): t for name, t in load_file(folder / WEIGHTS_FILE).items()
    }
    layers = adapted_layers(model)
    if any(layer.scaling != config.scaling for layer in layers.values()):
        raise ValueError(f"{folder}: the adapters are scaled by {config.scaling:g}, the model's are not")
    names = sorted({re.sub(r"\.lora_[AB]\.weight$", "", key) for key in tensors})
    rank = next((layer.rank for layer in layers.values()), config.rank)
    _check_shapes(folder, tensors, rank, layers or _linears(model, names))
    if not layers:
        exact = tuple(f"^{re.escape(name)}$" for name in names)  # a bare name may end others
        layers = adapt(model, BaLoRAConfig.from_dict({**config.to_dict(), "target_modules": exact}))
    for name, layer in layers.items():
        layer.lora_A.data.copy_(tensors[f"{name}.lora_A.weight"])
        layer.lora_B.data.copy_(tensors[f"{name}.lora_B.weight"])
        layer.folded = None
    return layers


def _linears(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    return {name: m for name, m in model.named_modules() if name in names and isinstance(m, nn.Linear)}


def _check_shapes(
    folder: Path,
    tensors: Mapping[str, Tensor],
    rank: int,
    layers: Mapping[str, AdaptedLinear] | Mapping[str, nn.Linear],
) -> None:
    """Refuse tensors that are not the A and B of these layers."""
    wanted = {f"{name}.lora_A.weight": (rank, layer.in_features) for name, layer in layers.items()}
    wanted |= {f"{name}.lora_B.weight": (layer.out_features, rank) for name, layer in layers.items()}
    for key in sorted(wanted.keys() | tensors.keys()):
        if key not in wanted or key not in tensors:
            raise ValueError(f"{folder}: {key} is {'missing' if key in wanted else 'not in the model'}")
        if tensors[key].shape != wanted[key]:
            shape = tuple(tensors[key].shape)
            raise ValueError(f"{folder}: {key} is {shape}, the model wants {wanted[key]}")


def load_noise_network(network: NoiseNetwork, folder: str | Path) -> None:
    """Load a saved noise network into one of the same shape.

    Raises:
        FileNotFoundError: The folder ``folder`` holds no noise network.
        RuntimeError: The saved noise network has another shape than ``network``.
    """
    network.load_state_dict(load_file(Path(folder) / NOISE_FILE))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Write to a neighbour, then rename, so that a killed run leaves no half file."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(Path(name))
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
