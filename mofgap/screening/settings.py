"""What decides the numbers of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from mofgap.crystals.cif import MAX_ATOMS
from mofgap.crystals.disorder import Disorder
from mofgap.gap.posterior import Uncertainty
from mofgap.gap.predictor import BATCH_ATOMS, check_draws
from mofgap.screening.rank import check_window
from mofgap.screening.row import DEFAULT_COVERAGE
from mofgap.uncertainty.conformal import MAX_COVERAGE, MIN_COVERAGE


@dataclass(frozen=True)
class Settings:
    """How structures are read and predicted.

    Attributes:
        window: Ends of the gap window, eV; an infinite end is open.
        uncertainty: Where the epistemic part of the spread comes from: ``auto``, ``distance``,
            ``closed-form``, ``weights`` or ``rows``.
        samples: Draws of ``weights`` and ``rows``; 0 gives the mean alone, without the epistemic part.
        seed: Of the draws.
        batch_atoms: Atoms of a batch on a GPU.
        max_atoms: Largest cell that is accepted.
        disorder: ``refuse``, or ``majority`` for the majority occupant of each site.
        coverage: Of the intervals, 0.5 to 0.99.
    """

    window: tuple[float, float] | None = None
    uncertainty: Uncertainty = "auto"
    samples: int = 32
    seed: int = 0
    batch_atoms: int = BATCH_ATOMS
    max_atoms: int = MAX_ATOMS
    disorder: Disorder = "refuse"
    coverage: float = DEFAULT_COVERAGE

    def __post_init__(self) -> None:
        if self.window is not None:
            low, high = self.window
            check_window(low, high)
            object.__setattr__(self, "window", (float(low), float(high)))
        check_draws(self.uncertainty, self.samples)
        if self.disorder not in get_args(Disorder):
            raise ValueError(
                f"disorder must be one of {', '.join(get_args(Disorder))}, not {self.disorder!r}"
            )
        if not MIN_COVERAGE <= self.coverage <= MAX_COVERAGE:
            raise ValueError(
                f"coverage must lie between {MIN_COVERAGE} and {MAX_COVERAGE}, not {self.coverage}"
            )
        for name, least in {"seed": 0, "batch_atoms": 1, "max_atoms": 1}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
