"""The Python side of ``mofgap explain``."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from mofgap.choices import MAX_ATOMS, Disorder
from mofgap.crystals.prepare.config import Geometry, Guests, PreparationConfig
from mofgap.explanation.explanation import Explanation, explained
from mofgap.gap.predictor import GapPredictor
from mofgap.python.given import given_model
from mofgap.shipped import DEFAULT_MODEL

if TYPE_CHECKING:
    from mofgap.python.regressor import GapRegressor


def explain(
    structure: Any,
    model: GapPredictor | GapRegressor | str = DEFAULT_MODEL,
    *,
    disorder: Disorder = "refuse",
    max_atoms: int = MAX_ATOMS,
    geometry: Geometry = "auto",
    guests: Guests = "keep",
    add_hydrogens: bool = False,
    hydrogen_lengths: bool = True,
    bond_lengths: bool = True,
) -> Explanation:
    """Show which atoms carry a gap and its uncertainty: ``mofgap explain`` in Python.

    >>> mofgap.explain("structures/MOF-5_MIBQAR16.cif").elements  # shares in eV

    Args:
        structure: Path of a file (a CIF, say), pymatgen ``Structure``, ASE ``Atoms`` or `Crystal`.
        model: A loaded model, a fitted `GapRegressor`, the name of a shipped model, or a model folder.
        disorder: What to do about partial occupancies in a file.
        max_atoms: Largest cell that is accepted, in atoms.
        geometry: ``relaxed`` by DFT, ``experimental``, or ``auto``, which looks at bonds to hydrogen.
        guests: ``keep`` or ``remove`` neutral molecules that nothing binds to the framework.
        add_hydrogens: Add hydrogens to carbon atoms of aromatic rings that lack one.
        hydrogen_lengths: Stretch bonds to hydrogen that are too short.
        bond_lengths: Bring bonds inside ligands to the lengths of DFT, in an experimental structure only.

    Returns:
        The shares by element and by atom; ``plot()`` draws them and ``write()`` writes them.

    Raises:
        ValueError: If the file cannot be read, or the structure is refused.
        ModelError: If the model does not exist or is damaged.
        sklearn.exceptions.NotFittedError: If the model is a `GapRegressor` without a `fit`.
        TypeError: If ``structure`` is neither a path nor a structure.
    """
    how = PreparationConfig(geometry, guests, add_hydrogens, hydrogen_lengths, bond_lengths)
    found = explained(structure, given_model(model), disorder=disorder, max_atoms=max_atoms, preparation=how)
    for text in found.warnings:
        warnings.warn(f"{found.crystal.structure_id}: {text}", stacklevel=2)
    return found
