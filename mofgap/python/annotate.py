"""Predicted gaps written into ASE ``Atoms``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mofgap.crystals.convert import is_one
from mofgap.gap.predictor import GapPredictor, load_model
from mofgap.python.given import given_model
from mofgap.shipped import DEFAULT_MODEL

if TYPE_CHECKING:
    from ase import Atoms

    from mofgap.python.regressor import GapRegressor


def annotate(atoms: Any, model: GapPredictor | GapRegressor | str = DEFAULT_MODEL, **how: Any) -> Any:
    """Write the predicted gap of ASE ``Atoms`` into their ``info``, which extended XYZ and trajectories keep.

    The keys are ``gap_ev``, ``gap_std_ev``, ``gap_level_of_theory`` and ``gap_model``. Nothing else changes.

    Args:
        atoms: One ``Atoms``, or several.
        model: A loaded model, a fitted `GapRegressor`, the name of a shipped model, or a model folder.
        **how: Options of `GapPredictor.predict`, such as ``uncertainty``.

    Returns:
        What was given; of an iterator the list of its items.

    Raises:
        ValueError: If a structure is refused. The message names its position.
        TypeError: If an item of ``atoms`` is not an ASE ``Atoms``.
        ModelError: If the model does not exist or is damaged.
        sklearn.exceptions.NotFittedError: If the model is a `GapRegressor` without a `fit`.
    """
    model = given_model(model)
    predictor = model if isinstance(model, GapPredictor) else load_model(model)
    items: list[Atoms] = [atoms] if is_one(atoms) else list(atoms)
    for item in items:
        if not hasattr(item, "info"):
            raise TypeError(f"expected ASE Atoms, not {type(item).__name__}")
    gaps, stds = predictor.predict(items, return_std=True, **how)
    for item, gap, std in zip(items, gaps, stds, strict=True):
        item.info |= {
            "gap_ev": float(gap),
            "gap_std_ev": float(std),
            "gap_level_of_theory": predictor.about.level_of_theory,
            "gap_model": predictor.about.name,
        }
    return items if isinstance(atoms, Iterator) else atoms
