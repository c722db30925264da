"""Words and defaults of settings whose own module is heavy to import; ``--help`` is not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

MAX_ATOMS = 1000
"""Of the largest cell that is accepted, unless another limit is given."""

BATCH_ATOMS = 4000
"""Atoms that are predicted at once on a GPU, unless another number is given."""

N_SAMPLES = 32
"""Draws of a spread that is drawn, unless another number is given."""

MAX_SEED = 2**64 - 1
"""Torch takes no larger seed."""

N_CARDS = 12
"""Candidates that get a card of their own on the page of a screening."""

PAGES = (".html", ".htm")
"""Endings of a page's name."""

Device = Literal["auto", "cpu", "cuda"]
Disorder = Literal["refuse", "majority"]
DftInput = Literal["cif", "poscar", "vasp"]
Warned = Literal["last", "keep", "drop"]
Goal = Literal["window", "explore", "both"]
Strategy = Literal["auto", "ddp", "ddp_spawn", "ddp_fork", "ddp_notebook", "ddp_find_unused_parameters_true"]
Precision = Literal["32-true", "bf16-mixed"]

Adaptation = Literal["balora", "lora", "full"]
"""How the encoder of a gap model is fitted.

``balora`` (Bayesian low-rank adapters), ``lora`` (the same without noise) or ``full`` (every weight of
the encoder is trained).
"""

ADAPTATIONS: tuple[Adaptation, ...] = get_args(Adaptation)

Noise = Literal["weights", "rows"]
Alpha = Literal["network", "constant"]

Uncertainty = Literal["auto", "distance", "closed-form", "weights", "rows"]
"""Where the epistemic standard deviation comes from.

- ``distance``: the distance from the nearest training structure, in the geometry of the adapters' gradients,
  plus a tenth of the usual distance (`mofgap.gap.correction.NeighbourCorrection`). In an ensemble, a part of
  the disagreement of the networks is added in squares (`mofgap.gap.posterior.DISAGREEMENT`).
- ``closed-form``: the root of the posterior's variance, Σ α A² (∂f/∂A)².
- ``weights``: the spread of draws from the posterior N(A, α A²), one draw for all atoms of a structure.
- ``rows``: the same with one draw for each atom.
- ``auto``: ``distance`` for a model with a neighbour correction, else ``closed-form`` for a BaLoRA model,
  else none.
"""

UNCERTAINTIES: tuple[Uncertainty, ...] = get_args(Uncertainty)
DRAWN: tuple[Uncertainty, ...] = ("weights", "rows")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a word that is no choice.

    Raises:
        ValueError: If ``value`` is not among ``choices``. The message lists them.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_draws(uncertainty: Uncertainty, samples: int) -> None:
    """Refuse a number of samples from which no spread can be computed.

    Raises:
        ValueError: If ``uncertainty`` is not one of `UNCERTAINTIES`, ``samples`` is negative, or ``samples``
            is 1 for an uncertainty that is drawn.
    """
    check_choice("uncertainty", uncertainty, UNCERTAINTIES)
    if samples < 0:
        raise ValueError(f"samples must be at least 0, not {samples}")
    if uncertainty in DRAWN and samples == 1:
        raise ValueError("1 sample has no spread; ask for two or more samples, or for 0, only the mean")
