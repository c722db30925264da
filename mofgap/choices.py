"""Words that a setting may take, where the module that acts on them is heavy to import; ``--help`` is not."""

from __future__ import annotations

from typing import Literal, get_args

Device = Literal["auto", "cpu", "cuda"]
Disorder = Literal["refuse", "majority"]
Precision = Literal["32-true", "bf16-mixed"]
Uncertainty = Literal["closed-form", "weights", "rows"]
UNCERTAINTIES: tuple[Uncertainty, ...] = get_args(Uncertainty)


def check_draws(uncertainty: Uncertainty, samples: int) -> None:
    """Refuse a number of samples from which no spread can be computed.

    Raises:
        ValueError: If `samples` is negative, or is 1 for an uncertainty that is sampled, or if `uncertainty`
            is not one of `UNCERTAINTIES`.
    """
    if uncertainty not in UNCERTAINTIES:
        raise ValueError(f"uncertainty must be one of {', '.join(UNCERTAINTIES)}, not {uncertainty!r}")
    if samples < 0:
        raise ValueError(f"samples must be at least 0, not {samples}")
    if uncertainty != "closed-form" and samples == 1:
        raise ValueError("1 sample has no spread; ask for two or more samples, or for 0, the mean alone")
