"""``mofgap explain``: which atoms a gap and its uncertainty come from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mofgap.cli.exits import NOTHING_DONE, fail
from mofgap.cli.options import MaxAtoms, PartialOccupancies, refuse_taken

if TYPE_CHECKING:
    from mofgap.crystals.crystal import Crystal
    from mofgap.gap.attribution import Attribution
    from mofgap.gap.predictor import GapPredictor


def explain(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A CIF, or another file of one structure.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Write table, extended XYZ, CIF and picture here."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FOLDER", help="A shipped model, or a model folder.")
    ] = "qmof-hse06",
    max_atoms: MaxAtoms = 1000,
    disorder: PartialOccupancies = "refuse",
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
) -> None:
    """Show which atoms carry the gap and its uncertainty.

    Prints a row an atom: its share of the gap in eV, and its fraction of the closed-form variance, which may
    be negative. That variance is the adapters' posterior's own, not the distance that error bars go by. The
    shares of the gap sum to its difference from the model's constant, the fractions to 1.
    """
    from mofgap.crystals.prepare.config import PreparationConfig
    from mofgap.gap.attribution import attribute
    from mofgap.gap.predictor import crystal_of, load_model

    paths = _outputs(file, output, force)
    try:
        predictor = load_model(model, "cpu")
        # The atoms of the file, one for one: the cell stays.
        how = PreparationConfig(primitive_cell=False)
        crystal = crystal_of(file, disorder=disorder, max_atoms=max_atoms, preparation=how)
    except (ValueError, OSError) as error:
        fail(str(error), NOTHING_DONE)
    found = attribute(predictor.model, crystal)
    if paths:  # before anything is printed: a reader of the table may close the pipe early
        try:
            _write(paths, crystal, found, predictor)
        except OSError as error:
            fail(f"cannot write {output}: {error.strerror}", NOTHING_DONE)
        typer.echo(f"mofgap: wrote {', '.join(map(str, paths.values()))}", err=True)
    _show(crystal, found, predictor)


def _outputs(file: Path, output: Path | None, force: bool) -> dict[str, Path]:
    """What will be written, by extension; refuses to overwrite."""
    if output is None:
        return {}
    if output.is_file():
        raise typer.BadParameter(f"not a folder: {output}", param_hint="--output")
    from mofgap.crystals.formats import stem_of

    paths = {
        kind: output / f"{stem_of(file.name)}-explained{kind}" for kind in (".csv", ".xyz", ".cif", ".png")
    }
    refuse_taken(paths.values(), force)
    return paths


def _show(crystal: Crystal, found: Attribution, predictor: GapPredictor) -> None:
    from mofgap.explain.files import atom_table, element_table

    atoms = atom_table(crystal, found)
    typer.echo(atoms.to_csv(sep="\t", index=False, float_format="%.6g", lineterminator="\n"), nl=False)
    predicted = predictor.estimate([crystal])
    about = predictor.about
    for text in predictor.warnings_of(crystal, predicted):
        typer.echo(f"warning: {text}", err=True)
    variance = (
        f", fractions of the closed-form variance to 1 (its root is {found.variance_ev2**0.5:.3f} eV before "
        "calibration)"
    )
    typer.echo(
        f"mofgap: {crystal.structure_id}: gap {predicted.gap_ev[0]:.2f} ± {predicted.gap_std_ev[0]:.2f} eV "
        f"({about.level_of_theory}, {about.name}); shares of the gap sum to {found.gap_ev:.2f} - "
        f"{found.reference_ev:.2f} eV{variance if 'variance_fraction' in atoms else ''}. By element:",
        err=True,
    )
    elements = element_table(atoms)
    typer.echo(elements.to_string(index=False, float_format=lambda x: f"{x:.4g}"), err=True)


def _write(paths: dict[str, Path], crystal: Crystal, found: Attribution, predictor: GapPredictor) -> None:
    from mofgap.explain.files import atom_table, cif_with_shares, extended_xyz
    from mofgap.explain.picture import draw

    level = predictor.about.level_of_theory
    paths[".csv"].parent.mkdir(parents=True, exist_ok=True)
    atom_table(crystal, found).to_csv(paths[".csv"], index=False, float_format="%.6g", lineterminator="\n")
    paths[".xyz"].write_text(extended_xyz(crystal, found, level), encoding="utf-8")
    paths[".cif"].write_text(cif_with_shares(crystal, found, level), encoding="utf-8")
    caption = f"{crystal.structure_id}: gap {max(found.gap_ev, 0.0):.2f} eV, {level}"
    draw(paths[".png"], crystal, found, caption)
