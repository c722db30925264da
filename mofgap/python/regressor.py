"""A gap model as an estimator of scikit-learn: ``fit``, ``predict``, ``score``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from mofgap.choices import Device
from mofgap.configuration import ConfigurationError
from mofgap.crystals.convert import is_one
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.steps import DEFAULT_PREPARATION
from mofgap.crystals.single import crystal_of
from mofgap.datasets.label_table import MAX_GAP_EV, other_unit
from mofgap.gap.folder import About, find_model
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.shipped import DEFAULT_MODEL
from mofgap.training.compute import Compute
from mofgap.training.config import FROM_A_MODEL, FinetuneConfig
from mofgap.training.labels import Labels
from mofgap.training.recipe import train

_TARGET = "gap_ev"


class GapRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Fine-tune a gap model on labelled structures: ``mofgap train --from`` in Python.

    Every structure is a training structure. Error bars come from five more trainings, which leave out a fifth
    each. Parameters are those of scikit-learn, so that ``clone``, ``cross_val_score`` and searches work.

    Args:
        model: Name or folder of the gap model to go on from.
        epochs: Passes over the structures.
        learning_rate: Peak rate of adapters and head.
        kl_weight: Weight of the divergence of the posterior from the prior.
        level_of_theory: Level of theory of the labels.
        device: ``auto``, ``cpu`` or ``cuda``.
        seed: Seed of the order and the noise.

    Attributes:
        model_: The fine-tuned model, a `GapPredictor`; `fit` sets it.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        epochs: int = 20,
        learning_rate: float = FROM_A_MODEL["learning_rate"],
        kl_weight: float = FROM_A_MODEL["kl_weight"],
        level_of_theory: str = "unknown",
        device: Device = "auto",
        seed: int = 0,
    ) -> None:
        self.model = model
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.kl_weight = kl_weight
        self.level_of_theory = level_of_theory
        self.device = device
        self.seed = seed

    def fit(self, X: Sequence[Any], y: ArrayLike) -> Self:
        """Fine-tune the model.

        Args:
            X: Structures: pymatgen ``Structure``, ASE ``Atoms``, `Crystal` or paths of CIFs, n of them.
            y: Their gaps, eV, shape (n,).

        Returns:
            This estimator.

        Raises:
            ValueError: If the numbers of structures and gaps differ, a gap is negative, above 25 eV or not a
                number, or a structure is refused. The message names the file or position of the structure.
            ConfigurationError: If a parameter has the wrong type or is out of its range.
            ModelError: If the model does not exist or is damaged.
            TypeError: If an item of ``X`` is neither a path nor a structure.
        """
        if not isinstance(self.level_of_theory, str):
            what = f"expected a text such as PBE, or unknown, not {self.level_of_theory!r}"
            raise ConfigurationError(what, key="level_of_theory")
        config = FinetuneConfig(
            epochs=self.epochs, learning_rate=self.learning_rate, kl_weight=self.kl_weight, seed=self.seed
        )
        labels = Labels(_frame(X, np.asarray(y, dtype=np.float64)), _TARGET, ())
        start = find_model(self.model)
        about = About(f"{Path(self.model).name}-fitted", level_of_theory=self.level_of_theory)
        compute = Compute(device=self.device, progress=False)
        with TemporaryDirectory(prefix="mofgap-fit-") as folder:
            train(labels, Path(folder) / "model", None, config, start, about, compute=compute)
            self.model_ = load_model(Path(folder) / "model", self.device)
        self.model_.warn_if_raw()
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Gaps of structures, eV, shape (n,); with their standard deviations, eV, if asked for.

        The standard deviations are calibrated unless the labels were too few. `fit` then warns.

        Raises:
            sklearn.exceptions.NotFittedError: If `fit` was not called. For a shipped model use
                `mofgap.load_model`.
            ValueError: If a structure is refused. The message names the structure.
        """
        check_is_fitted(self, "model_")
        fitted: GapPredictor = self.model_
        return fitted.predict(X, return_std)


def _frame(structures: Sequence[Any], gap_ev: NDArray[np.float64]) -> pd.DataFrame:
    """The table that a training reads, all rows in the split ``train``."""
    if is_one(structures) or not hasattr(structures, "__len__"):
        raise ValueError(f"expected a list of structures or of paths, not {type(structures).__name__}")
    if gap_ev.shape != (len(structures),):
        raise ValueError(f"{len(structures)} structures need as many gaps, not an array {gap_ev.shape}")
    if not len(structures):
        raise ValueError("there are no structures to fit; give some with their gaps")
    if (wrong := np.flatnonzero(~(np.isfinite(gap_ev) & (gap_ev >= 0)))).size:
        raise ValueError(f"gap {wrong[0] + 1} is {gap_ev[wrong[0]]}; give a number of at least 0 eV")
    if unit := other_unit(gap_ev[gap_ev > 0].tolist()):
        raise ValueError(f"gaps: {unit}")
    if (wrong := np.flatnonzero(gap_ev > MAX_GAP_EV)).size:
        value = f"gap {wrong[0] + 1} is {gap_ev[wrong[0]]:g}"
        raise ValueError(f"{value}, and no solid has more than {MAX_GAP_EV:g} eV; give all gaps in eV")
    crystals = [
        crystal_of(item, name=f"structure-{place}", preparation=DEFAULT_PREPARATION)
        for place, item in enumerate(structures, 1)
    ]
    # Those of files may occur twice, and families are told by them. No other model has names like these.
    names = [f"structure-{place}-{_content(crystal)}" for place, crystal in enumerate(crystals, 1)]
    frame = pd.DataFrame([crystal.columns for crystal in crystals])
    labels = pd.DataFrame({"structure_id": names, _TARGET: gap_ev, "split": "train"})
    return labels.join(frame)


def _content(crystal: Crystal) -> str:
    """A short hash of a crystal."""
    parts = (crystal.cell, crystal.atomic_numbers, crystal.frac_coords)
    return hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in parts)).hexdigest()[:8]
