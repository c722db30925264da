"""Explanation of a gap and its uncertainty by the shares of the atoms, and its files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mofgap.choices import Disorder
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.crystals.prepare.primitive import to_primitive
from mofgap.crystals.single import crystal_of
from mofgap.explanation.files import atom_table, cif_with_shares, element_table, extended_xyz
from mofgap.gap.attribution import Attribution, attribute
from mofgap.gap.predictor import GapPredictor, Predictions, load_model
from mofgap.screening.row import printable
from mofgap.whole_file import whole_file, write_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KINDS = (".csv", ".xyz", ".cif", ".png")
"""Extensions of the files of an explanation."""
LONGEST_STEM = 180
"""Of the names of these files, bytes; what more an identifier has is left out."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Shares of the atoms of a structure in its gap and in its variance.

    Attributes:
        crystal: The structure.
        attribution: The shares of its atoms.
        gap_ev: Predicted gap, eV, never below zero.
        gap_std_ev: Its calibrated total standard deviation, eV.
        level_of_theory: Level of theory of the gap.
        model: Name of the model.
        warnings: Warnings about the structure, ``name: text`` each; without notes.
    """

    crystal: Crystal
    attribution: Attribution
    gap_ev: float
    gap_std_ev: float
    level_of_theory: str
    model: str
    warnings: tuple[str, ...] = ()

    @cached_property
    def atoms(self) -> pd.DataFrame:
        """One row per atom, in the order of the file, see `atom_table`."""
        return atom_table(self.crystal, self.attribution)

    @cached_property
    def elements(self) -> pd.DataFrame:
        """One row per element, the largest share of the gap first, see `element_table`."""
        return element_table(self.atoms)

    @property
    def title(self) -> str:
        """The structure with its gap and level, in one line."""
        gap = f"{self.gap_ev:.2f} ± {self.gap_std_ev:.2f} eV"
        return f"{self.crystal.structure_id}: gap {gap} ({self.level_of_theory}, {self.model})"

    @property
    def baseline(self) -> str:
        """What the atoms add to the baseline, in one line."""
        whole, start = self.attribution.gap_ev, self.attribution.reference_ev
        return (
            f"the atoms add {whole - start:+.2f} eV to a baseline of {start:.2f} eV, which belongs to no "
            f"atom: {whole:.2f} eV"
        )

    def __repr__(self) -> str:
        table = self.elements.to_string(index=False, float_format=lambda x: f"{x:.4g}")
        return f"{self.title}\n{self.baseline}\n{table}"

    def plot(self) -> Figure:
        """The structure seen along its shortest axis, atoms coloured by their shares."""
        from mofgap.explanation.picture import drawn

        return drawn(self.crystal, self.attribution, self.title, self.baseline)

    def write(self, folder: Path | str, stem: str = "") -> list[Path]:
        """Write a table (.csv), an extended XYZ, a CIF and a picture (.png).

        Args:
            folder: Folder of the files; it is made if it does not exist.
            stem: Beginning of the names of the files; by default the identifier of the structure.

        Returns:
            Paths of the four files.

        Raises:
            OSError: If a file cannot be written.
        """
        from mofgap.explanation.picture import save

        paths = paths_of(Path(folder), stem or self.crystal.structure_id.replace("/", "_"))
        table, xyz, cif, picture = paths
        write_text(table, self.atoms.to_csv(index=False, float_format="%.6g", lineterminator="\n"))
        shared = self.crystal, self.attribution, self.level_of_theory
        write_text(xyz, extended_xyz(*shared))
        write_text(cif, cif_with_shares(*shared))
        with whole_file(picture) as partial:
            save(self.plot(), partial)
        return paths


def explained(
    structure: Any,
    model: GapPredictor | str,
    *,
    disorder: Disorder,
    max_atoms: int,
    preparation: PreparationConfig,
) -> Explanation:
    """The explanation of a structure; its atoms are those of the file, in the same order.

    Guests that are removed are left out, and added hydrogens come last.

    Args:
        structure: A path or a structure, see `crystal_of`.
        model: A loaded model, or an argument of `load_model`.
        disorder: Treatment of partial occupancies in a file.
        max_atoms: Largest number of atoms of a cell.
        preparation: Which steps bring it nearer to that of DFT; the cell stays that of the file.

    Raises:
        ValueError: If the file cannot be read, the structure is refused, or the model cannot be loaded.
        TypeError: If ``structure`` is neither a path nor a structure.
    """
    predictor = model if isinstance(model, GapPredictor) else load_model(model, "cpu")
    how = replace(preparation, primitive_cell=False)
    crystal = crystal_of(structure, disorder=disorder, max_atoms=max_atoms, preparation=how)
    crystal = replace(crystal, structure_id=printable(crystal.structure_id) or "structure")
    found = attribute(predictor.model, crystal, predictor.device)
    # The cell that a screening predicts: two copies of it would hide an odd number of electrons.
    unit = to_primitive(crystal) if preparation.primitive_cell else crystal
    predicted = predictor.estimate([unit])
    return Explanation(
        crystal,
        found,
        float(predicted.gap_ev[0]),
        float(predicted.gap_std_ev[0]),
        predictor.about.level_of_theory,
        predictor.about.name,
        (*_warnings(predictor, crystal, unit, predicted), *predictor.calibration_notes()),
    )


def _warnings(predictor: GapPredictor, crystal: Crystal, unit: Crystal, predicted: Predictions) -> list[str]:
    """Those of the primitive cell; where the file's cell has them too, its words, which name its atoms."""
    of_file, of_unit = (predictor.warnings_of(each, predicted) for each in (crystal, unit))
    known, names = ({text.partition(":")[0] for text in texts} for texts in (of_file, of_unit))
    both = [text for text in of_file if text.partition(":")[0] in names]
    return both + [text for text in of_unit if text.partition(":")[0] not in known]


def paths_of(folder: Path, stem: str) -> list[Path]:
    """The files of an explanation, one for each of `KINDS`."""
    begin = printable(stem).encode()[:LONGEST_STEM].decode(errors="ignore")
    return [folder / f"{begin}-explained{kind}" for kind in KINDS]
