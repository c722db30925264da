"""A pretrained encoder on disk: ``encoder.safetensors`` and what it was made with.

``encoder.json`` carries the sha256 of the weights and a digest of its own content. Both are checked when an
encoder is found; one that is shipped must have the digest that is in the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from mofgap.checked_json import read_checked, write_checked
from mofgap.encoders.encoder import EncoderConfig
from mofgap.encoders.registry import DEFAULT_ARCHITECTURE, encoder_class, encoder_config, registered
from mofgap.gap.folder import ModelError
from mofgap.shipped import (
    DESCRIPTION,
    ENCODER_WEIGHTS,
    model_folder,
    not_found,
    shipped_digests,
    shipped_folder,
)
from mofgap.whole_file import sha256_of


@dataclass(frozen=True)
class PretrainedEncoder:
    """A pretrained encoder on disk.

    Attributes:
        weights: Path of its weights.
        architecture: Its name in the registry of encoders.
        config: Its settings.
        substitutes: What elements that it never saw are read as, with their shares.
    """

    weights: Path
    architecture: str
    config: EncoderConfig
    substitutes: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the encoder as plain values."""
        return asdict(self.config)

    def adapter_targets(
        self, blocks: Iterable[int] | None = None, modules: Iterable[str] | None = None
    ) -> tuple[str, ...]:
        """Patterns of linear layers that can be adapted, see `Encoder.adapter_targets`."""
        return encoder_class(self.architecture).adapter_targets(self.config, blocks, modules)


def save_encoder(folder: Path, weights: Mapping[str, Tensor], described: Mapping[str, Any]) -> Path:
    """Write weights and, last, their description with the weights' sha256 and its own digest.

    Args:
        folder: Where to.
        weights: The encoder's parameters by name.
        described: ``architecture`` (its name in the registry), ``encoder`` (its settings) and whatever else
            made it. Without a name it is the crystal transformer.

    Returns:
        Path of the weights.
    """
    path = folder / ENCODER_WEIGHTS
    save_file(dict(weights), path)
    path.chmod(0o644)
    _write_description(folder, described)
    return path


def seal_encoder(folder: Path) -> str:
    """Write the hashes of an encoder folder anew, for files that were changed on purpose.

    Returns:
        The digest of everything in the folder that is read.

    Raises:
        ModelError: If ``encoder.json`` cannot be read.
    """
    return _write_description(folder, _parsed(folder)[0])


def _write_description(folder: Path, described: Mapping[str, Any]) -> str:
    hashed = dict(described) | {"sha256": sha256_of(folder / ENCODER_WEIGHTS)}
    return write_checked(folder / DESCRIPTION, hashed, indent=2)


def _parsed(folder: Path) -> tuple[dict[str, Any], str | None, str]:
    """What `read_checked` gives of ``encoder.json``; older versions wrote no digest."""
    try:
        return read_checked(folder / DESCRIPTION)
    except ValueError as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error}; get the encoder again") from error


def find_encoder(name: str) -> PretrainedEncoder:
    """Find a pretrained encoder.

    Args:
        name: A folder that ``save_encoder`` wrote, or the name of a shipped one.

    Raises:
        ModelError: If the encoder ``name`` does not exist, its files are missing, damaged or edited, or its
            architecture or a setting is unknown. A changed copy of a shipped encoder raises it, too.
    """
    folder = model_folder(name, DESCRIPTION)
    if folder is None:
        raise ModelError(not_found(name, DESCRIPTION))
    described, own, fitting = _parsed(folder)
    if own not in (None, fitting):
        what = f"{folder / DESCRIPTION} was changed since the encoder was saved"
        raise ModelError(f"{what}: get the encoder again")
    shipped = shipped_digests().get(folder.resolve().name, own)
    if own != shipped and folder.resolve().parent == shipped_folder("models").resolve():
        raise ModelError(f"{folder} is not the encoder that this mofgap ships: install mofgap again")
    try:
        sha256 = described["sha256"]
        architecture = registered(described.get("architecture", DEFAULT_ARCHITECTURE))
        config = encoder_config(architecture, described["encoder"])
        substitutes = dict(described.get("substitutes", {}))  # older ones read unseen elements as random
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder / DESCRIPTION} is damaged: {error}") from error
    path = folder / ENCODER_WEIGHTS
    if not path.exists() or sha256_of(path) != sha256:
        raise ModelError(f"{path} is missing or is not the file it was saved as: get the encoder again")
    return PretrainedEncoder(path, architecture, config, substitutes)
