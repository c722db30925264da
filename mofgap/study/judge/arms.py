"""Arms: the predictions of one method on the test rows of a split, seed by seed, ready to be resampled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mofgap.study.config import Spread
from mofgap.study.methods.method import NEIGHBOURS, method_with, way
from mofgap.uncertainty.columns import Floats, Indices
from mofgap.uncertainty.ranks import dense_ranks

STD_COLUMN: dict[Spread, str] = {"epistemic": "epistemic_std_ev", "total": "gap_std_ev"}
"""The column of each spread. The epistemic part is raw, since calibration would not change its order."""


@dataclass(frozen=True, eq=False)
class Arm:
    """A method at a number of draws.

    Attributes:
        method: Its name.
        n_samples: Number of draws, or of ensemble members.
        ids: (n,) structures.
        gap_dft_ev: (n,) labels.
        gap_ev: (n_seeds, n) predictions.
        std_ev: (n_seeds, n) spreads, eV; None for a method without one.
        error_rank: (n_seeds, n) `dense_ranks` of the absolute errors of each seed.
        std_rank: (n_seeds, n) the same of the spreads.
    """

    method: str
    n_samples: int
    ids: NDArray[np.object_]
    gap_dft_ev: Floats
    gap_ev: Floats
    std_ev: Floats | None
    error_rank: Indices
    std_rank: Indices | None

    @property
    def label(self) -> str:
        """Method and number of draws."""
        return way(self.method, self.n_samples)

    @property
    def suffix(self) -> str:
        """`NEIGHBOURS` for a method with the neighbour correction, else nothing."""
        return NEIGHBOURS if self.method.endswith(NEIGHBOURS) else ""

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.gap_dft_ev)

    @property
    def n_seeds(self) -> int:
        """Number of trainings."""
        return len(self.gap_ev)

    def taken(self, rows: Indices, seeds: Indices | None = None) -> Arm:
        """The arm of some rows and seeds; repeats are allowed."""
        chosen = np.arange(self.n_seeds) if seeds is None else seeds
        where = np.ix_(chosen, rows)
        return replace(
            self,
            ids=self.ids[rows],
            gap_dft_ev=self.gap_dft_ev[rows],
            gap_ev=self.gap_ev[where],
            std_ev=None if self.std_ev is None else self.std_ev[where],
            error_rank=self.error_rank[where],
            std_rank=None if self.std_rank is None else self.std_rank[where],
        )


@dataclass(frozen=True, eq=False)
class Arms:
    """Every arm of a split.

    Attributes:
        split: Its name.
        spread: Which spread the arms carry.
        frame: Predictions of the ordinary test rows, of one recipe.
    """

    split: str
    spread: Spread
    frame: pd.DataFrame
    _made: dict[tuple[str, int, tuple[int, ...]], Arm] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, predictions: pd.DataFrame, split: str, spread: Spread, variant: str = "") -> Arms:
        """The arms in a table of predictions, of the comparison's own recipe or of an ablation."""
        p = predictions
        chosen = (p.split == split) & (p.part == "test") & ~p.is_left_out & (p.variant == variant)
        return cls(split, spread, p[chosen])

    def last(self, method: str, most: int | None = None) -> Arm | None:
        """A method at the most draws that all its seeds have, up to ``most``; None if it is missing."""
        seeds = {n: found for n, found in self._seeds.get(method, {}).items() if most is None or n <= most}
        if not seeds:
            return None
        n_samples = max(seeds, key=lambda n: (len(seeds[n]), n))
        return self._arm(method, n_samples, seeds[n_samples])

    def curve(self, method: str) -> list[Arm]:
        """A method at every number of draws from two on, of the seeds that have the most draws."""
        seeds = self._seeds.get(method, {})
        with_most = set(seeds[max(seeds)]) if seeds else set()
        both = {n: tuple(s for s in found if s in with_most) for n, found in seeds.items()}
        return [self._arm(method, n, both[n]) for n in sorted(both) if n >= 2 and both[n]]

    def methods(self) -> Iterator[Arm]:
        """Every method at its most draws."""
        return filter(None, map(self.last, self._seeds))

    def others(self, method: str) -> Iterator[Arm]:
        """Every other method at its most draws, without other estimators of the same one."""
        own = method_with(method)
        return (arm for arm in self.methods() if method_with(arm.method) is not own)

    @cached_property
    def _seeds(self) -> dict[str, dict[int, tuple[int, ...]]]:
        """The seeds that each method has at each number of draws."""
        found: dict[str, dict[int, tuple[int, ...]]] = {}
        for method, n, seed in self.frame[["method", "n_samples", "seed"]].drop_duplicates().to_numpy():
            of_method = found.setdefault(method, {})
            of_method[n] = (*of_method.get(n, ()), seed)
        return found

    def _arm(self, method: str, n_samples: int, seeds: tuple[int, ...]) -> Arm:
        key = (method, n_samples, seeds)
        if key not in self._made:
            all_seeds = (self.frame.method == method) & (self.frame.n_samples == n_samples)
            frame = self.frame[all_seeds & self.frame.seed.isin(seeds)]
            self._made[key] = self._of(frame, method, n_samples)
        return self._made[key]

    def _of(self, frame: pd.DataFrame, method: str, n_samples: int) -> Arm:
        gap = frame.pivot(index="seed", columns="id", values="gap_ev")
        std = frame.pivot(index="seed", columns="id", values=STD_COLUMN[self.spread]).reindex(
            columns=gap.columns
        )
        labels = frame.drop_duplicates("id").set_index("id").gap_dft_ev.reindex(gap.columns)
        gap_ev, std_ev = gap.to_numpy(dtype=np.float64), std.to_numpy(dtype=np.float64)
        gap_dft_ev, has_std = labels.to_numpy(dtype=np.float64), not np.isnan(std_ev).any()
        return Arm(
            method,
            n_samples,
            gap.columns.to_numpy(),
            gap_dft_ev,
            gap_ev,
            std_ev if has_std else None,
            np.stack([dense_ranks(row) for row in np.abs(gap_dft_ev - gap_ev)]),
            np.stack([dense_ranks(row) for row in std_ev]) if has_std else None,
        )


def common(a: Arm, b: Arm) -> tuple[Arm, Arm]:
    """Two arms on the structures that both have, in the same order."""
    _, first, second = np.intersect1d(a.ids.astype(str), b.ids.astype(str), return_indices=True)
    return a.taken(first), b.taken(second)
