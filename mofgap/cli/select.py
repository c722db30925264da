"""``mofgap select``: which structures to compute next."""

from __future__ import annotations

import re
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mofgap.choices import DftInput, Disorder, Goal, Warned
from mofgap.cli.exits import NOTHING_DONE, cannot_write, fail, say, told
from mofgap.cli.options import checked_window, needs_file, refuse_input
from mofgap.cli.skipped import tell_skipped
from mofgap.cli.tables import AsJson, print_json, show
from mofgap.counts import counted

if TYPE_CHECKING:
    from mofgap.crystals.crystal import Crystal
    from mofgap.selection.select import Selection

SHOWN = (
    "order",
    "structure_id",
    "file",
    "formula",
    "n_atoms",
    "gap_ev",
    "gap_std_ev",
    "p_in_window",
    "novelty",
    "quality",
    "distinct",
    "gain",
    "level_of_theory",
)

HEADINGS = {
    "order": "#",
    "structure_id": "structure",
    "gap": "gap / eV",
    "p_in_window": "in window",
    "novelty": "novelty",
    "n_atoms": "atoms",
    "gain": "gain",
}
"""Columns on a terminal."""


CandidatesArgument = Annotated[
    Path, typer.Argument(metavar="TABLE", help="What mofgap screen wrote: .csv, .parquet, .json or .xlsx.")
]
BudgetOption = Annotated[int, typer.Option(min=1, metavar="N", help="Number of structures to select.")]
GoalOption = Annotated[
    Goal,
    typer.Option(
        help="What to compute: gaps in the window, structures that the model knows least (explore), or both."
    ),
]
WindowOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LO HI", callback=checked_window, help="Gap window in eV; by default that of the table."
    ),
]
WithoutOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A table of labels, or an earlier selection.csv: structures that it names are left out.",
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FOLDER",
        help="The model that made the table, to tell how unlike the structures are; it predicts no new gaps. "
        "Name its folder if it is neither shipped nor in the working folder.",
        show_default="the one that the table names",
    ),
]
WarningsOption = Annotated[
    Warned,
    typer.Option(
        "--warnings",
        help="last: structures whose file is probably faulty come after all others; keep: they do not; drop: "
        "all with a warning (not a note) are left out.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder for selection.csv and the inputs. By default inputs go to ./selection.",
    ),
]
WriteInputsOption = Annotated[
    DftInput | None,
    typer.Option(
        help="CIF or POSCAR files, or VASP folders with the settings of the QMOF database. POSCAR and VASP "
        "get the primitive cell."
    ),
]
DisorderOption = Annotated[
    Disorder | None,
    typer.Option(
        help="As given to mofgap screen. The structures are read again.",
        show_default="what the table's record says",
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Write into a folder that holds files.")]


def select(
    candidates: CandidatesArgument,
    budget: BudgetOption = 20,
    goal: GoalOption = "both",
    window: WindowOption = None,
    warned: WarningsOption = "last",
    without: WithoutOption = None,
    model: ModelOption = None,
    output: OutputOption = None,
    write_inputs: WriteInputsOption = None,
    disorder: DisorderOption = None,
    force: ForceOption = False,
    as_json: AsJson = False,
) -> None:
    """Select different, promising structures for the next DFT calculations.

    They are chosen one after the other, each for the largest gain: its quality times how much it differs from
    those before. Quality is the probability to lie in the window, or standard deviation and novelty, or both.
    """
    if write_inputs is not None and output is None:
        output = Path("selection")
    if output is not None:
        _check_output(output, force)
        refuse_input(output / "selection.csv", [candidates, *([without] if without else [])])
    needs_file(candidates)
    if without is not None:
        needs_file(without)
    from mofgap.selection.candidates import candidates_for

    with told():
        # What is wrong is said before torch loads.
        frame = candidates_for(candidates, goal, window, warned, without)
        from mofgap.selection.select import select_from

        found = select_from(frame, budget, goal, window, model, disorder, warned)
    _show(found, min(budget, len(frame)), as_json)
    if len(frame) < budget:
        say(f"the table has only {counted(len(frame), 'candidate')}")
    if output is not None:
        try:
            _write(output, found, write_inputs)
        except OSError as error:
            fail(cannot_write(output, error), NOTHING_DONE)


def _check_output(output: Path, force: bool) -> None:
    """Refuse a folder with files that could be mixed up with this selection, or overwritten."""
    from mofgap.screening.table import FORMATS

    if output.suffix.lower() in FORMATS:
        words = f"{output} looks like a file; name a folder, in which selection.csv is written"
        raise typer.BadParameter(words, param_hint="--output")
    names = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if output.is_file():
        raise typer.BadParameter(f"{output} is a file; name a folder", param_hint="--output")
    if names and not force:
        words = f"{output} holds files; --force writes into it all the same"
        raise typer.BadParameter(words, param_hint="--output")
    earlier = next((name for name in names if re.match(r"\d+_", name)), None)
    if earlier is not None:
        what = f"{output} holds inputs of an earlier selection ({earlier} ...)"
        raise typer.BadParameter(f"{what}; remove them, or name another folder", param_hint="--output")


def _show(found: Selection, budget: int, as_json: bool) -> None:
    from mofgap.gap.novelty_warnings import NOTES, SAME_REFCODE
    from mofgap.screening.row import warnings_of

    tell_skipped(found.skipped)
    rows = found.table[list(SHOWN)].to_dict("records")
    if as_json:
        print_json(rows)
    elif sys.stdout.isatty():
        _show_table(rows, found.levels)
    else:
        show(rows, HEADINGS)
    for row in found.table.to_dict("records"):
        told = [text for text in warnings_of(row.get("warnings")) if text[0] not in NOTES - {SAME_REFCODE}]
        if told:
            words = " | ".join(": ".join(text) for text in told)
            kind = "warning" if row["status"] == "warning" else "note"
            typer.echo(f"{kind}: {row['structure_id']}: {words}", err=True)
    if len(rows) < budget:
        n_skipped = len(found.skipped)
        why = [f"{counted(n_skipped, 'candidate')} skipped, see above"] if n_skipped else []
        if len(rows) + n_skipped < budget:
            why.append("nothing else is worth a calculation, or all that is left are copies")
        say(f"only {len(rows)} of {budget}: {'; '.join(why)}")


def _show_table(rows: list[dict[Hashable, Any]], levels: str) -> None:
    for row in rows:
        row["gap"] = f"{row['gap_ev']:.2f} ± {row['gap_std_ev']:.2f}"
        for name in ("p_in_window", "novelty"):
            row[name] = "" if row[name] != row[name] else f"{row[name]:.0%}"
        row |= {name: f"{row[name]:.2f}" for name in ("distinct", "gain")}
    headings = HEADINGS if any(row["p_in_window"] for row in rows) else HEADINGS | {"p_in_window": ""}
    show(rows, headings)
    words = "gain: value of a structure, times how unlike it is those above it"
    typer.echo(f"gaps: {levels}; {words}", err=True)


def _warn_of_settings(crystals: Sequence[Crystal], levels: str) -> None:
    """Tell where the inputs for VASP are not what the table needs."""
    from mofgap.selection.dft import without_potential

    if not re.search("PBE|HSE06", levels):
        typer.echo(f"warning: the table's gaps are of {levels}, the inputs of PBE-D3(BJ)", err=True)
    for crystal in crystals:
        if unknown := without_potential(crystal):
            words = f"no usual potential of {', '.join(unknown)}; choose one in POTCAR.spec"
            typer.echo(f"warning: {crystal.structure_id}: {words}", err=True)


def _write(output: Path, found: Selection, inputs: DftInput | None) -> None:
    written = found.write(output, inputs)
    if inputs == "vasp":
        _warn_of_settings(found.crystals, found.levels)
    what_next = (
        "compute them; with 25 gaps of one level, mofgap calibrate MODEL LABELS.csv CIFS fits error bars"
        if inputs
        else "--write-inputs cif, poscar or vasp makes inputs of calculations"
    )
    what = f"selection.csv and {counted(len(written), 'input')}"
    say(f"wrote {output}: {what}; next: {what_next}")
