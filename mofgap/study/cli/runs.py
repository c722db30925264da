"""``mofgap runs``: which runs there are, what they did, in what they differ, and whether they are intact."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mofgap.cli.exits import SOME_FAILED, say, told
from mofgap.cli.tables import AsJson, print_json
from mofgap.cli.tables import show as show_rows
from mofgap.counts import counted
from mofgap.shipped import METRICS

runs = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="List, show, compare and verify run folders.",
)

LISTED = ("run", "finished", "ended", "seconds of jobs", "mofgap", "commit", "configuration")

RUNS = Path("runs")
"""The folder that is looked in by default. Before the first run it is not there."""

Folder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]


@runs.command("list")
def list_runs(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to look in, at any depth.")] = RUNS,
    as_json: AsJson = False,
) -> None:
    """List the runs below a folder, newest first."""
    from mofgap.study.engine.runs import find_runs

    with told():
        found = find_runs(root) if root != RUNS or root.exists() else {}
    if not found:
        say(f"no runs in {root}")
    rows = [_listed(run, manifest) for run, manifest in found.items()]
    if as_json:
        print_json(rows)
    else:
        show_rows(rows, {name: name for name in LISTED})


def _listed(run: Path, manifest: Mapping[str, Any]) -> dict[str, str]:
    values = (
        str(run),
        "yes" if manifest["finished"] else "no",
        manifest["end"] or "",
        f"{manifest['seconds']:.0f}",
        manifest["mofgap"],
        ((manifest.get("git") or {}).get("commit") or "")[:10],
        manifest["config_digest"][:10],
    )
    return dict(zip(LISTED, values, strict=True))


@runs.command(no_args_is_help=True)
def show(run: Folder) -> None:
    """Show command, versions, inputs, cost and metrics of a run."""
    from mofgap.study.engine.runs import flat, manifest_of
    from mofgap.study.engine.training import CALIBRATE
    from mofgap.whole_file import read_json

    with told():
        manifest = manifest_of(run)
    git = manifest.get("git") or {}
    changed = f" and {counted(len(git['changed']), 'changed file')}" if git.get("changed") else ""
    _print(
        [
            ["name", manifest["name"]],
            ["finished", "yes" if manifest["finished"] else "no"],
            ["command", manifest["command"]],
            ["started, ended", f"{manifest['start'] or '-'}, {manifest['end'] or '-'}"],
            ["mofgap", f"{manifest['mofgap']}, commit {git.get('commit', 'unknown')}{changed}"],
            ["python", f"{manifest['python']} on {manifest['platform']}"],
            ["processor", f"{manifest['machine']['processor']}, {manifest['machine']['cores']} cores"],
            ["inputs", ", ".join(manifest["inputs"])],
        ]
    )
    rows = [["stage", "seconds", "CPU seconds", "peak MB", "threads", "host"]]
    for name, stage in manifest["stages"].items():
        cost = [f"{stage[key]:.1f}" for key in ("seconds", "cpu_seconds", "peak_memory_mb")]
        rows.append([name, *cost, str(stage["threads"]), stage["host"]])
    typer.echo()
    _print(rows)
    if metrics := flat(read_json(run / METRICS)):
        typer.echo()
        before = " (before the calibration)" if CALIBRATE in manifest["stages"] else ""
        _print([[f"metric{before}", "value"], *([key, _short(value)] for key, value in metrics.items())])


@runs.command(no_args_is_help=True)
def diff(
    one: Folder,
    two: Annotated[Path, typer.Argument(metavar="OTHER", help="Another run folder.")],
) -> None:
    """Show how two runs differ: settings, inputs, versions, code, metrics, outputs."""
    from mofgap.study.engine.runs import compare_runs

    with told():
        found = compare_runs(one, two)
    for title, pairs in found.items():
        if pairs:
            rows = [[title, str(one), str(two)]]
            rows += [[key, _short(here), _short(there)] for key, (here, there) in pairs.items()]
            _print(rows)
            typer.echo()
    if not any(found.values()):
        typer.echo("no difference")


@runs.command(no_args_is_help=True)
def verify(run: Folder) -> None:
    """Recompute the sha256 of every input and output of a run, and compare. Exit code 3 if one differs.

    Of folders, patterns and lists, the names, sizes and times of the files are compared.
    """
    from mofgap.study.engine.manifest import verify as verify_run
    from mofgap.study.engine.runs import manifest_of

    with told():
        manifest = manifest_of(run)
        wrong = verify_run(run)
    for line in wrong:
        typer.echo(line)
    n_files = len(manifest["inputs"]) + len(manifest["outputs"])
    typer.echo(f"{n_files - len(wrong)} of {n_files} inputs and outputs are as they were", err=True)
    if not manifest["finished"]:
        say(f"{run} is not finished")
    if wrong:
        raise typer.Exit(SOME_FAILED)


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _print(rows: list[list[str]]) -> None:
    """Aligned columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
