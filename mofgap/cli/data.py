"""``mofgap data``: datasets by name, downloads, imports and checks."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mofgap.choices import MAX_ATOMS
from mofgap.cli.exits import INTERRUPTED, NOTHING_DONE, SOME_FAILED, WRONG_USAGE, fail, told
from mofgap.cli.options import MaxAtoms, PartialOccupancies, refuse_taken
from mofgap.cli.skipped import MAX_SHOWN
from mofgap.cli.tables import AsJson, command_line, print_json, print_lines, show

if TYPE_CHECKING:
    from mofgap.datasets.importing import Skip
    from mofgap.datasets.registry import Dataset

data = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="List, fetch, import and verify datasets.",
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="Folder of fetched data. By default $MOFGAP_DATA, or one in the user's data folder."
    ),
]


@data.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the datasets that mofgap knows, and where each is on this machine."""
    from mofgap.datasets.registry import data_folder, read_registry

    with told():
        rows = [_listed(name, dataset, data_folder()) for name, dataset in read_registry().items()]
    if as_json:
        print_json(rows)
        return
    show(rows, {"name": "name", "title": "title", "size": "size", "licence": "licence"}, header=False)
    if sys.stdout.isatty():  # a path on a line of its own can be copied
        print_lines(["", *(f"{row['name']}: {row['place']}" for row in rows)])


def _listed(name: str, dataset: Dataset, folder: Path) -> dict[str, str]:
    from mofgap.datasets.record import DatasetError

    try:
        path = dataset.location(folder)
        place = str(path) if path.exists() else f"not here; mofgap data fetch {name}"
    except DatasetError:
        place = f"not here; pip install {dataset.package}"
    size = f"{dataset.n_bytes / 1e6:.0f} MB" if dataset.n_bytes else "-"
    about = {"title": dataset.title, "size": size, "licence": dataset.licence}
    return {"name": name, **about, "place": place}


@data.command(no_args_is_help=True)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a dataset, see mofgap data list.")],
    folder: Folder = None,
    url: Annotated[str | None, typer.Option(help="Another address of the same file.")] = None,
    attempts: Annotated[int, typer.Option(min=1, help="How often to try before giving up.")] = 5,
) -> None:
    """Download a dataset. The same command continues a stopped download.

    The file gets its name once it is complete and has the expected sha256. If none is known, the sha256 found
    is written next to the file, for mofgap data verify.
    """
    from mofgap.datasets.checksum import lock_of, write_sums
    from mofgap.datasets.download import Remote, download
    from mofgap.datasets.registry import data_folder, find_dataset
    from mofgap.datasets.verify import check_fetched

    folder = folder or data_folder()
    try:
        dataset = find_dataset(name)
        path = dataset.location(folder)
        _notice(dataset)
        if dataset.access != "download":
            if not path.exists():
                fail(f"{path} is missing from this installation; install it again", NOTHING_DONE)
            typer.echo(f"{path}: here already")
            return
        if path.exists():
            found = check_fetched(dataset, folder)
            if found.verdict == "changed":
                fail(f"{path} has sha256 {found.found}, not {found.expected}; remove it", NOTHING_DONE)
        else:
            remote = Remote(url or dataset.url or "", dataset.sha256, dataset.n_bytes)
            with _meter(path.name) as show:
                sha256 = download(remote, path, attempts=attempts, progress=show)
            write_sums(lock_of(path), {path.name: sha256})
            typer.echo(f"sha256 {sha256}", err=True)
    except (ValueError, OSError) as error:
        fail(error, NOTHING_DONE)
    except KeyboardInterrupt:
        fail("interrupted; what has come is kept, run it again to go on", INTERRUPTED)
    typer.echo(f"{path}: mofgap data import {name} -o {name}.parquet")


SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Folder or archive of CIFs, QMOF download, JSON of JARVIS or matminer, ASE database or xyz, "
        "or the name of a dataset.",
    ),
]
LabelsArgument = Annotated[
    Path | None, typer.Argument(metavar="[LABELS]", help="CSV of labels, joined by identifier.")
]
OutputOption = Annotated[Path, typer.Option("-o", "--output", help="Parquet table to write.")]
TargetOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[=COLUMN]", help="Gap in eV: its name in the source, and its column in the table."
    ),
]
WithoutLabelsOption = Annotated[bool, typer.Option("--without-labels", help="Import only the structures.")]
IdentifierOption = Annotated[
    str | None,
    typer.Option(
        "--id", metavar="NAME", help="Name of the identifier in the source, if it is not found by itself."
    ),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[=COLUMN]", help="Text to keep, besides split, group, name, source and doi."),
]
KindOption = Annotated[
    Literal["auto", "cifs", "qmof", "json", "ase"],
    typer.Option(
        "--format", help="Format of SOURCE: cifs, qmof, json or ase; auto looks at its name and content."
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite the table.")]


@data.command("import", no_args_is_help=True)
def import_(
    source: SourceArgument,
    labels: LabelsArgument = None,
    output: OutputOption = Path("data.parquet"),
    target: TargetOption = None,
    without_labels: WithoutLabelsOption = False,
    identifier: IdentifierOption = None,
    keep: KeepOption = None,
    kind: KindOption = "auto",
    max_atoms: MaxAtoms = MAX_ATOMS,
    disorder: PartialOccupancies = "refuse",
    folder: Folder = None,
    force: ForceOption = False,
) -> None:
    """Turn labelled structures of the usual formats into a table for mofgap train.

    Labels are joined by identifier, never by the order of rows. What is left out is listed with its reason in
    NAME.skipped.csv next to the table, and the exit code is then 3.
    """
    from rich.console import Console

    from mofgap.cli.progress import tracked
    from mofgap.datasets.importing import import_table, write_skipped
    from mofgap.datasets.plan import ImportChoices, make_plan
    from mofgap.datasets.registry import data_folder

    if output.suffix != ".parquet":
        fail(f"{output}: the table is parquet, name it so", WRONG_USAGE)
    skipped_path = output.with_suffix(".skipped.csv")
    refuse_taken([output, skipped_path], force)
    if without_labels and (target or labels):
        fail("--without-labels takes neither LABELS nor --target", WRONG_USAGE)
    known = None if kind == "auto" else kind
    wanted = ImportChoices(target or (), keep or (), identifier, known, labels, without_labels)
    with told():
        plan = make_plan(source, wanted, folder or data_folder())
        done = import_table(
            tracked(plan.records(max_atoms, disorder), None, Console(stderr=True), "importing"),
            plan.label_table(),
            output,
            plan.targets,
            texts=plan.texts,
            about=plan.about(command_line()),
        )
        write_skipped(skipped_path, done.skipped)
    _say(done.skipped, skipped_path)
    if not done.n_structures:
        fail(f"{source}: no structure could be imported", NOTHING_DONE)
    typer.echo(f"{output}: {done}")
    if done.skipped:
        raise typer.Exit(SOME_FAILED)


@data.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|PATH]...", help="Datasets, models, folders or files; by default all."),
    ] = None,
    folder: Folder = None,
) -> None:
    """Recompute the sha256 of shipped models and of shipped and fetched data, and compare.

    The exit code is 3 if a file is missing or changed, or if a dataset has no sum. It is 1 for any other
    name or path without sums.
    """
    from mofgap.datasets.registry import data_folder
    from mofgap.datasets.verify import check_all, check_named

    folder = folder or data_folder()
    n_wrong = n_checked = 0
    with told():
        for checks in [check_named(name, folder) for name in names] if names else [check_all(folder)]:
            for found in checks:
                n_checked += 1
                n_wrong += found.verdict != "ok"
                detail = f"\t{found.found}, not {found.expected}" if found.verdict == "changed" else ""
                typer.echo(f"{found.verdict}\t{found.path}{detail}")
    typer.echo(f"{n_checked - n_wrong} of {n_checked} files are as they should be", err=True)
    if n_wrong:
        raise typer.Exit(SOME_FAILED)


def _notice(dataset: Dataset) -> None:
    """Licence and citation, before anything is taken."""
    typer.echo(f"{dataset.title}\nLicence: {dataset.licence}. Cite:", err=True)
    for line in dataset.citation:
        typer.echo(f"  {line}", err=True)
    if dataset.note:
        typer.echo(dataset.note, err=True)


def _say(skipped: Sequence[Skip], path: Path) -> None:
    for skip in skipped[:MAX_SHOWN]:
        typer.echo(f"skipped {skip}", err=True)
    if skipped:
        kinds = Counter(skip.reason.split(":")[0] for skip in skipped)
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        typer.echo(f"{len(skipped)} listed in {path}: {text}", err=True)


@contextmanager
def _meter(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """What shows the progress of a download on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
