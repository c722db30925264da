"""The hyperparameters of BaLoRA."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mofgap.nearest import hint


@dataclass(frozen=True)
class BaLoRAConfig:
    """Which linear layers are adapted, and the prior over their adapters.

    Attributes:
        target_modules: Which ``nn.Linear`` layers to adapt. Each entry is the end of a module's name
            (``"query"`` finds ``blocks.0.query``), or a regular expression for the whole name.
        rank: Rank r of the update B A.
        lora_alpha: The update is scaled by ``lora_alpha / rank``.
        prior_rate: Rate p in (0, 1) of the prior N(0, c A∘A) with c = p / (1 - p).
        init_scale: A starts as N(0, init_scale² / d_in); B starts at zero.
        noise_hidden: Hidden width of the noise network.
        initial_alpha: Posterior variance factor the noise network starts near; ``None`` means c, the
            prior's own, where the KL divergence is nearly flat.

    Raises:
        ValueError: A value is out of its range, ``target_modules`` is empty or text, or one of its patterns
            is no regular expression.
    """

    target_modules: tuple[str, ...]
    rank: int = 8
    lora_alpha: float = 16.0
    prior_rate: float = 0.1
    init_scale: float = 1.0
    noise_hidden: int = 64
    initial_alpha: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.target_modules, str) or not self.target_modules:
            raise ValueError(
                f"target_modules must be a tuple of at least one name, got {self.target_modules!r}"
            )
        object.__setattr__(self, "target_modules", tuple(self.target_modules))
        for pattern in self.target_modules:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"target_modules: {pattern!r} is no regular expression: {error}") from error
        for name in ("rank", "noise_hidden"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)!r}")
        for name in ("rank", "lora_alpha", "init_scale", "noise_hidden", "initial_alpha"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and value > 0):
                raise ValueError(f"{name} must be positive, got {value!r}")
        if not 0 < self.prior_rate < 1:
            raise ValueError(f"prior_rate must lie between 0 and 1, got {self.prior_rate!r}")

    @property
    def scaling(self) -> float:
        """Factor in front of B A."""
        return self.lora_alpha / self.rank

    @property
    def prior_variance(self) -> float:
        """The prior variance factor c = p / (1 - p), in units of an element of A squared."""
        return self.prior_rate / (1 - self.prior_rate)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON and YAML can hold."""
        return {**asdict(self), "target_modules": list(self.target_modules)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BaLoRAConfig:
        """Build from plain values.

        Raises:
            ValueError: A key is no field, ``target_modules`` is missing, or a value is out of its range. The
                message about an unknown key names the nearest field.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"unknown BaLoRA setting {key!r}; {hint(key, known)}")
        if "target_modules" not in values:
            raise ValueError("target_modules is missing: name the linear layers to adapt")
        targets = values["target_modules"]
        return cls(**{**values, "target_modules": targets if isinstance(targets, str) else tuple(targets)})
