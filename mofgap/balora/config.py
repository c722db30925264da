"""The hyperparameters of BaLoRA."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Integral, Real
from operator import index
from typing import Any, Literal, get_args

from mofgap.choices import Noise
from mofgap.nearest import hint

Posterior = Literal["network", "constant", "diagonal", "analytic", "none"]
ALL_LINEAR = "all-linear"

_OLD_NAMES = {"rank": "r"}
"""Names of fields in files of older versions, and their names in this one."""
_WHOLE = ("r", "noise_hidden", "n_features", "n_train")
_MAY_BE_NONE = ("initial_alpha", "n_features", "n_train")
_POSITIVE = (*_WHOLE, "lora_alpha", "init_scale", "initial_alpha", "curvature")


@dataclass(frozen=True)
class BaLoRAConfig:
    """Which layers are adapted, and the prior and posterior of their adapters.

    Fields that PEFT has too have the names and the meaning that they have there.

    Attributes:
        target_modules: Which layers to adapt. Each entry is the end of a module's name (``"query"`` finds
            ``blocks.0.query``), or a regular expression for the whole name. A single string is one
            such entry, or ``"all-linear"``.
        r: Rank of the update B A.
        lora_alpha: The update is scaled by ``lora_alpha / r``.
        layers_to_transform: Indices of the blocks to adapt; ``None`` for all.
        layers_pattern: Name in front of the index of a block, such as ``"layers"``; ``None`` for any.
        rank_pattern: Ranks of single layers, by the end of a module's name or a regular expression.
        alpha_pattern: Values of ``lora_alpha`` of single layers, named likewise.
        modules_to_save: Ends of names of modules that are trained and saved whole, such as a new head.
        prior_rate: Rate p in (0, 1) of the prior N(0, c A∘A) with c = p / (1 - p).
        init_scale: A starts as N(0, init_scale² / d_in); B starts at zero.
        noise_hidden: Hidden width of the noise network.
        initial_alpha: Posterior variance factor alpha at the start; ``None`` means the prior's c, where the
            KL divergence is nearly flat.
        posterior: ``network`` computes alpha(X) from features of each input. ``constant`` trains one alpha a
            layer (variational dropout). ``diagonal`` trains a standard deviation for each element of A (as
            BLoB does). ``analytic`` computes the alpha that minimises the loss, without a network. ``none``
            is LoRA.
        noise: ``weights`` draws A once an input, ``rows`` draws noise for each row; used in training.
        flipout: Whether random signs turn one draw of A into a different one for each input of a batch.
            Without it all inputs share the draw. ``rows`` does not need it.
        features: Module of the frozen model from whose pooled output alpha(X) is computed; ``""`` is the
            model itself. ``None`` takes the input of the model's last linear layer.
        n_features: Width of these features; needed where the module does not have it as an attribute.
        beta: Weight of the KL divergence.
        n_train: Number of training inputs; needed by ``analytic``.
        curvature: Second derivative h of the negative log-likelihood by the output, for ``analytic``: 1/σ²
            for a normal likelihood.

    Raises:
        ValueError: If a value is of the wrong type or out of its range, ``target_modules`` is empty, or one
            of its patterns is no regular expression.
        ValueError: If ``posterior`` is ``analytic`` and ``n_train`` is missing.
    """

    target_modules: str | tuple[str, ...] = ALL_LINEAR
    r: int = 8
    lora_alpha: float = 16.0
    layers_to_transform: int | tuple[int, ...] | None = None
    layers_pattern: str | tuple[str, ...] | None = None
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    modules_to_save: tuple[str, ...] = ()
    prior_rate: float = 0.1
    init_scale: float = 1.0
    noise_hidden: int = 64
    initial_alpha: float | None = None
    posterior: Posterior = "network"
    noise: Noise = "weights"
    flipout: bool = True
    features: str | None = None
    n_features: int | None = None
    beta: float = 1.0
    n_train: int | None = None
    curvature: float = 1.0

    def __post_init__(self) -> None:
        if not self.target_modules:
            raise ValueError("target_modules is empty: name at least one layer to adapt")
        self._check_types()
        for name in ("target_modules", "layers_pattern", "modules_to_save"):
            object.__setattr__(self, name, _as_tuple(getattr(self, name)))
        object.__setattr__(self, "layers_to_transform", _as_indices(self.layers_to_transform))
        object.__setattr__(self, "modules_to_save", as_patterns(self.modules_to_save))
        for name, patterns in self._patterns().items():
            _check_patterns(name, patterns)
        for name in _POSITIVE:
            object.__setattr__(self, name, _positive(name, getattr(self, name), whole=name in _WHOLE))
        for name, whole in {"rank_pattern": True, "alpha_pattern": False}.items():
            given = getattr(self, name).items()
            plain = {key: _positive(f"{name} of {key}", value, whole=whole) for key, value in given}
            object.__setattr__(self, name, plain)
        for name in ("prior_rate", "beta"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not 0 < self.prior_rate < 1:
            raise ValueError(f"prior_rate must lie between 0 and 1, got {self.prior_rate!r}")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must not be negative or infinite, got {self.beta!r}")
        for name, choices in {"posterior": get_args(Posterior), "noise": get_args(Noise)}.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.posterior == "analytic" and not (self.n_train and self.beta):
            raise ValueError("posterior='analytic' needs n_train, the number of training inputs, and a beta")

    def _check_types(self) -> None:
        for name in ("rank_pattern", "alpha_pattern"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} must map names of layers to numbers, got {getattr(self, name)!r}")
        for name in ("prior_rate", "beta"):
            if not isinstance(getattr(self, name), Real):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
        if not isinstance(self.flipout, bool):
            raise ValueError(f"flipout must be True or False, got {self.flipout!r}")

    def _patterns(self) -> dict[str, tuple[str, ...]]:
        named = ("target_modules", "layers_pattern", "rank_pattern", "alpha_pattern")
        return {name: as_patterns(getattr(self, name)) for name in named}

    def rank_of(self, name: str) -> int:
        """Rank of the adapter of the layer of this name."""
        return next((rank for key, rank in self.rank_pattern.items() if _names_layer(key, name)), self.r)

    def scaling_of(self, name: str) -> float:
        """The factor s of the update s B A of the layer of this name."""
        alphas = self.alpha_pattern.items()
        alpha = next((alpha for key, alpha in alphas if _names_layer(key, name)), self.lora_alpha)
        return alpha / self.rank_of(name)

    @property
    def prior_variance(self) -> float:
        """The prior variance factor c = p / (1 - p), in units of an element of A squared."""
        return self.prior_rate / (1 - self.prior_rate)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON and YAML can hold."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BaLoRAConfig:
        """Build from plain values.

        Raises:
            ValueError: If a key is no field, ``target_modules`` is missing, or a value is out of its range.
                The message about an unknown key names the nearest field.
        """
        known = [field.name for field in fields(cls)]
        values = {_OLD_NAMES.get(key, key): value for key, value in values.items()}
        for key in values:
            if key not in known:
                raise ValueError(f"unknown BaLoRA setting {key!r}; {hint(key, known)}")
        if "target_modules" not in values:
            raise ValueError("target_modules is missing: name the layers to adapt")
        return cls(**values)


def as_patterns(value: str | tuple[str, ...] | Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names or patterns of a field that holds one, several or none."""
    return (value,) if isinstance(value, str) else tuple(value or ())


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple | set) else value


def _as_indices(value: Any) -> int | tuple[int, ...] | None:
    """Indices of blocks: one, several, or None for all.

    Raises:
        ValueError: If ``value`` is something else than whole numbers.
    """
    try:
        if value is None:
            return None
        return tuple(index(each) for each in value) if isinstance(value, Iterable) else index(value)
    except TypeError as error:
        raise ValueError(f"layers_to_transform must be whole numbers, got {value!r}") from error


def _names_layer(pattern: str, name: str) -> bool:
    """Whether a key of ``rank_pattern`` or ``alpha_pattern`` matches the name of a layer, as in PEFT."""
    return re.match(rf"(.*\.)?({pattern})$", name) is not None


def _check_patterns(field_name: str, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise ValueError(f"{field_name}: {pattern!r} is no name; write it as text, such as '{pattern}'")
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{field_name}: {pattern!r} is no regular expression: {error}") from error


def _positive(name: str, value: Any, *, whole: bool) -> Any:
    """A number as one of Python, which JSON can hold; None stays.

    Raises:
        ValueError: If it is not positive and finite, or is to be ``whole`` and is not.
    """
    if value is None and name in _MAY_BE_NONE:
        return None
    finite = " and finite" if value == math.inf else ""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name} must be positive{finite}, got {value!r}")
    if whole and not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value) if isinstance(value, Integral) else float(value)
