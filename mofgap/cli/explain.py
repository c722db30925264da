"""``mofgap explain``: which atoms a gap and its uncertainty come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mofgap.choices import MAX_ATOMS
from mofgap.cli.exits import NOTHING_DONE, cannot_write, fail, say, told
from mofgap.cli.options import (
    AddHydrogens,
    BondLengths,
    GeometryOption,
    GuestsOption,
    HydrogenLengths,
    MaxAtoms,
    PartialOccupancies,
    needs_file,
    needs_model,
    refuse_taken,
)
from mofgap.cli.tables import AsJson, print_json, show
from mofgap.crystals.prepare.config import PreparationConfig
from mofgap.shipped import DEFAULT_MODEL

if TYPE_CHECKING:
    from mofgap.explanation.explanation import Explanation

_SHARES = {"gap_share_ev": "share of gap / eV", "variance_fraction": "part of variance"}
HEADINGS = {
    False: {"element": "element", "n_atoms": "atoms", **_SHARES},
    True: {"index": "#", "element": "element", **_SHARES},
}
"""Columns on a terminal, by whether each row is an atom."""


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CIF, or another file of one structure.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder for table, extended XYZ, CIF and picture."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FOLDER", help="A shipped model, or a model folder.")
    ] = DEFAULT_MODEL,
    max_atoms: MaxAtoms = MAX_ATOMS,
    disorder: PartialOccupancies = "refuse",
    geometry: GeometryOption = "auto",
    guests: GuestsOption = "keep",
    add_hydrogens: AddHydrogens = False,
    hydrogen_lengths: HydrogenLengths = True,
    bond_lengths: BondLengths = True,
    atoms: Annotated[
        bool, typer.Option("--atoms", help="Print a row for each atom instead of each element.")
    ] = False,
    as_json: AsJson = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Divide a gap and its uncertainty among the atoms.

    Prints one row for each element, or with ``--atoms`` for each atom: the share of the gap in eV, and the
    fraction of the closed-form variance, which may be negative. The shares sum to the gap minus a baseline:
    the gap of no atoms, plus what the other networks and the neighbour correction add. The fractions sum
    to 1. Error bars of ``mofgap screen`` come from a distance instead, which cannot be divided among atoms.
    """
    paths = _outputs(file, output, force)
    needs_model(model)
    needs_file(file)
    from mofgap.explanation.explanation import explained

    how = PreparationConfig(geometry, guests, add_hydrogens, hydrogen_lengths, bond_lengths)
    with told():
        found = explained(file, model, disorder=disorder, max_atoms=max_atoms, preparation=how)
    if output is not None and paths:  # before anything is printed: a reader of the table may leave early
        try:
            found.write(output, _stem(file))
        except OSError as error:
            fail(cannot_write(output, error), NOTHING_DONE)
        names = ", ".join([str(paths[0]), *(path.suffix for path in paths[1:])])
        say(f"wrote {names}; next: OVITO colours the atoms of the .xyz by share")
    _show(found, atoms, as_json)


def _stem(file: Path) -> str:
    from mofgap.crystals.formats import stem_of

    return stem_of(file.name)


def _outputs(file: Path, output: Path | None, force: bool) -> list[Path]:
    """What will be written; refuses to overwrite."""
    if output is None:
        return []
    if output.is_file():
        raise typer.BadParameter(f"{output} is a file; name a folder", param_hint="--output")
    from mofgap.explanation.explanation import paths_of

    paths = paths_of(output, _stem(file))
    refuse_taken(paths, force)
    return paths


def _show(found: Explanation, atoms: bool, as_json: bool) -> None:
    for text in found.warnings:
        typer.echo(f"warning: {text}", err=True)
    rows = (found.atoms if atoms else found.elements).to_dict("records")
    if as_json:
        whole = found.attribution
        print_json(
            {
                "structure_id": found.crystal.structure_id,
                "gap_ev": found.gap_ev,
                "gap_std_ev": found.gap_std_ev,
                "level_of_theory": found.level_of_theory,
                "model": found.model,
                "gap_before_cut_ev": whole.gap_ev,
                "baseline_ev": whole.reference_ev,
                "atoms" if atoms else "elements": rows,
            }
        )
        return
    say(found.title)
    say(found.baseline)
    if "variance_fraction" in found.atoms:
        root = found.attribution.variance_ev2**0.5
        say(f"fractions of the closed-form variance sum to 1; its root is {root:.3f} eV, not calibrated")
    show(rows, HEADINGS[atoms])
