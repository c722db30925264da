"""Errors of training structures: each is predicted by a model that was trained on the other folds."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from mofgap.gap.model import GapModel
from mofgap.gap.posterior import Posterior, predict_store
from mofgap.training.config import N_FOLDS
from mofgap.training.finetune import Labelled

HeldOut = tuple[list[int], Posterior]
"""Positions of structures, and their raw predictions by models that did not learn from them."""


def cross_fit(
    begin: Callable[[], GapModel],
    data: Labelled,
    families: Sequence[str],
    folder: Path,
    run: Callable[[GapModel, Labelled, Path, int], Tensor],
) -> HeldOut:
    """The training structures, each predicted by a model that was trained on the other folds.

    Folds are dealt by the hashes of the names, so that they do not depend on the order of the structures. A
    family is on one side of each, unless `divides_families` says that it cannot be.
    """
    if divides_families([families[i] for i in data.train]):
        families = data.ids

    by_hash = sorted(data.train, key=lambda i: (_hash(families[i]), _hash(data.ids[i])))
    fold = {name: k % N_FOLDS for k, name in enumerate(dict.fromkeys(families[i] for i in by_hash))}
    parts: list[HeldOut] = []
    for k in range(N_FOLDS):
        held = [i for i in by_hash if fold[families[i]] == k]
        model = begin()
        others = replace(data, train=sorted(set(by_hash) - set(held)), val=())
        run(model, others, folder / f"fold-{k + 1}", k + 2)
        parts.append((held, predict_store(model, data.store, held)))
    return [i for held, _ in parts for i in held], Posterior.joined([found for _, found in parts])


def divides_families(families: Sequence[str]) -> bool:
    """Whether families have to be divided: they are fewer than the folds, or one holds more than half."""
    sizes = Counter(families)
    return len(sizes) < N_FOLDS or max(sizes.values()) > len(families) / 2


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
