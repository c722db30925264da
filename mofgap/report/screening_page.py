"""A screening as one page that needs nothing else: no network, no other file."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mofgap.choices import N_CARDS
from mofgap.counts import counted
from mofgap.gap.novelty_warnings import KNOWN, NOT_CALIBRATED, NOTES
from mofgap.report import plots
from mofgap.report.elements import colours_of, periodic_table
from mofgap.report.formula import with_subscripts
from mofgap.report.origin import model_origins
from mofgap.report.page import Figure, as_json, drawn, plain, records, render
from mofgap.report.screened import Screened, element_counts
from mofgap.report.structures import Content, Drawing
from mofgap.screening.levels import MODELS, functional, is_pbe, ranking_words
from mofgap.screening.origin import COMMAND, DATE, MODEL_DIGEST, N_ROWS, origin_of
from mofgap.screening.reread import NO_FILE, Key
from mofgap.screening.row import NEAREST_SEPARATOR, named, warnings_of
from mofgap.screening.shard import SECOND_LEVEL_MODEL
from mofgap.screening.table import Window, window_words

N_INTERVALS = 20
MAX_PAGE_ATOMS = 100_000
"""Atoms of the cells whose structures a page carries, some ten megabytes of it."""

MAX_ROWS = 20_000
"""Rows that a page carries, some ten megabytes of it; a browser shows them at once."""

MAX_EXAMPLES = 100
"""Failures listed of one kind; the table has them all."""

_NEIGHBOUR = re.compile(r"(.*?)(?: \((.*?)(?:, )?(-?[\d.]+ eV)?\))?").fullmatch
"""A structure as `mofgap.uncertainty.novelty.NoveltyIndex.known_as` writes it: ``id (name, gap eV)``."""

VIEWER_VERSION = "2.5.5"
_FAR_EV = 1e6
"""Stands for an open end of the window in the page's data."""


def screening_page(
    table: Screened,
    source: str,
    window: Window = None,
    structures: Mapping[Key, Drawing] | None = None,
    n_cards: int = N_CARDS,
    *,
    command: str = "",
    whole: str = "",
) -> str:
    """The page; its table has the first `MAX_ROWS` rows, figures and counts are of all.

    Args:
        table: The screening.
        source: Name of its file; empty for none.
        window: Shaded in the figures, eV.
        structures: Drawings of rows.
        n_cards: Candidates that get a card of their own.
        command: What made the page.
        whole: Name of the file that has all rows, where the page has not; empty for none.
    """
    shown = table.head(MAX_ROWS)
    keys = zip(shown.ranked.file, shown.ranked.structure_id, strict=True)
    place = {key: int(i) for i, key in reversed(list(zip(shown.ranked.index, keys, strict=True)))}
    found = {place[key]: each for key, each in (structures or {}).items() if key in place}
    cards = records(shown.ranked.head(n_cards))
    n_drawn = sum(place[row["file"], row["structure_id"]] in found for row in cards)
    viewer = ["3dmol/3Dmol-min.js", "viewer.js"] if found else []
    levels = ", ".join(table.values_of("level_of_theory")) or "unknown level of theory"
    return render(
        "screening.html",
        [*viewer[:1], "table.js", *viewer[1:]],
        title=f"Screening of {counted(len(table.frame), 'structure')}",
        facts=_facts(table, window, levels),
        notes=notes(table, window, whole),
        figures=_figures(table, window),
        elements=periodic_table(element_counts(table.ranked.formula)),
        has_p=_has(table, "p_in_window"),
        has_pbe=_has(table, "pbe_gap_ev"),
        level=levels,
        coverage=table.coverage,
        cards=[_card(row, table, place, found) for row in cards],
        structures_note=_structures_note(n_drawn, cards),
        n_structures=len(found),
        origins=model_origins(_models(table)),
        command=command,
        made=_made(table),
        note_names=NOTES,
        failures=_failures(table),
        failures_are_rows=len(shown.failed) == len(table.failed),
        viewer_version=VIEWER_VERSION,
        source=source,
        rows_json=_rows_json(shown, window),
        structures_json=as_json({str(i): vars(each) for i, each in sorted(found.items())}),
        colours_json=as_json(colours_of(symbol for each in found.values() for symbol in each.symbols)),
    )


def _made(table: Screened) -> str:
    """The command that made the table, its date and version, as far as the table's record says."""
    found = origin_of(table.frame)
    if not found.get(COMMAND):
        return ""
    version = found.get("mofgap") or "of unknown version"
    words = f"{found[COMMAND]} ({found.get(DATE, 'no date')}, mofgap {version})"
    n_rows, n_here = found.get(N_ROWS, len(table.frame)), len(table.frame)
    if n_here > n_rows:
        return f"{words}; rows of other tables were added to its {n_rows:,}"
    return words if n_rows == n_here else f"{words}; of its {n_rows:,} rows some are missing here"


def _models(table: Screened) -> dict[str, str | None]:
    """The models of all gaps, with digests as far as the table's record says them.

    A table of two levels names the first model alone.
    """
    names, found = table.values_of("model"), origin_of(table.frame)
    models = dict.fromkeys(names, found.get(MODEL_DIGEST) if len(names) == 1 else None)
    if _has(table, "pbe_gap_ev") and MODELS["hse06"] in models:
        models.setdefault(MODELS["pbe"], found.get(SECOND_LEVEL_MODEL))
    return models


def drawn_rows(table: Screened, n_cards: int = N_CARDS) -> dict[Key, Content]:
    """The rows whose structures a page shows: their content by file and structure id.

    They are the best ones, until their cells hold `MAX_PAGE_ATOMS` atoms, and at least the cards.
    """
    n_atoms = table.ranked.get("n_atoms")
    within = 0 if n_atoms is None else int((n_atoms.fillna(0).cumsum() <= MAX_PAGE_ATOMS).sum())
    rows = records(table.ranked.head(max(within, n_cards)))
    return {(row["file"], row["structure_id"]): (row["formula"] or "", row.get("n_atoms")) for row in rows}


def notes(table: Screened, window: Window, whole: str = "") -> list[str]:
    """What a reader must know before believing the page; ``whole`` is the file that has all rows."""
    origins = model_origins(_models(table))
    found = [f"{each.name} {NOT_CALIBRATED}." for each in origins if each.is_raw]
    found += [
        f"The table was made with another model of the name {each.name} than is here: its card is left out."
        for each in origins
        if each.is_other
    ]
    if len(table.frame) > MAX_ROWS:
        rest = f" All rows are in {whole}." if whole else ""
        what = f"The table on this page has the first {MAX_ROWS:,} of {len(table.frame):,} rows."
        found.append(f"{what}{rest} Figures and counts are of all rows.")
    two = table.ranked.dropna(subset=["pbe_gap_ev"]) if _has(table, "pbe_gap_ev") else table.ranked.head(0)
    of_two = set(two.get("level_of_theory", ()))
    for level in table.values_of("level_of_theory"):
        if level in of_two:
            words = ranking_words(level)
            found.append(
                f"{words[0].upper()}{words[1:]}. Both are gaps of DFT: do not quote them as measured."
            )
        elif is_pbe(level):
            found.append(
                "Some PBE gaps lie above and some lie below measured ones. Rank by them; do not quote them "
                "as measured. mofgap screen --level hse06 predicts HSE06 gaps."
            )
    if len(models := table.values_of("model")) > 1:
        found.append(f"The rows come from several models ({', '.join(models)}); their ranks do not compare.")
    own = table.window
    if window is None and _has(table, "p_in_window"):
        found.append(
            "The table has probabilities for a window, but does not say which, or several: "
            "--window LO HI shades one."
        )
    elif window is not None and window != own and _has(table, "p_in_window"):
        which = (
            f"{window_words(own)}, the window screened for" if own else "a window that the table does not say"
        )
        found.append(f"“In window” is for {which}; shaded is {window_words(window)}.")
    return found


def _facts(table: Screened, window: Window, levels: str) -> list[tuple[str, str]]:
    status = table.ranked.status.value_counts()
    shade = [] if window is None else [("window shaded", window_words(window))]
    return [
        ("model", ", ".join(table.values_of("model")) or "unknown"),
        ("level of theory", levels),
        *shade,
        ("ok", f"{status.get('ok', 0):,}"),
        ("with warnings", f"{status.get('warning', 0):,}"),
        ("failed", f"{len(table.failed):,}"),
    ]


def _figures(table: Screened, window: Window) -> list[Figure]:
    if table.ranked.empty:
        return []
    names = set(map(functional, table.values_of("level_of_theory")))
    common: Any = {"df": table.ranked, "window": window, "functional": names.pop() if len(names) == 1 else ""}
    found = {
        "gap-spread": plots.gap_vs_std("gap_ev", "gap_std_ev", names="structure_id", **common),
        "distribution": plots.gap_histogram("gap_ev", **common),
    }
    if table.coverage:
        intervals = plots.top_intervals(
            "structure_id", "gap_ev", *table.ends, n_top=N_INTERVALS, coverage=f"{table.coverage} %",
            rank="rank", **common,
        )  # fmt: skip
        found = {"intervals": intervals, **found}
    return [drawn(name, each) for name, each in found.items()]


def _card(
    row: Mapping[str, Any], table: Screened, place: Mapping[Key, int], found: Mapping[int, Drawing]
) -> dict[str, Any]:
    i = place[row["file"], row["structure_id"]]
    gap = f"{row['gap_ev']:.2f} ± {row['gap_std_ev']:.2f} eV"
    facts = [("gap ± spread", gap)]
    if table.coverage and row[table.ends[0]] is not None:
        low, high = (row[end] for end in table.ends)
        facts.append((f"{table.coverage} % interval", f"{low:.2f} to {high:.2f} eV"))
    if row.get("p_in_window") is not None:
        facts.append(("in window", f"{100 * row['p_in_window']:.0f} %"))
    if row.get("pbe_gap_ev") is not None and row.get("pbe_gap_std_ev") is not None:
        facts.append(("PBE gap ± spread", f"{row['pbe_gap_ev']:.2f} ± {row['pbe_gap_std_ev']:.2f} eV"))
    if row.get("epistemic_std_ev") is not None and row.get("aleatoric_std_ev") is not None:
        facts.append(("epistemic std", f"{row['epistemic_std_ev']:.2f} eV"))
        facts.append(("aleatoric std", f"{row['aleatoric_std_ev']:.2f} eV"))
    if row.get("novelty") is not None:
        facts.append(("novelty", f"{100 * row['novelty']:.0f} %"))
    return {
        "rank": row["rank"],
        "name": row["structure_id"],
        "formula": with_subscripts(row["formula"] or ""),
        "n_atoms": row.get("n_atoms"),
        "file": row["file"],
        "facts": facts,
        "nearest": neighbours_of(row.get("nearest")),
        "warnings": warnings_of(row["warnings"]),
        "structure": str(i) if i in found else "",
    }


def neighbours_of(text: object) -> list[tuple[str, str, str]]:
    """The name, identifier and known gap of each structure of a cell ``nearest``; empty where unknown."""
    parts = text.split(NEAREST_SEPARATOR) if isinstance(text, str) and text else []
    found = (match.groups(default="") for part in parts if (match := _NEIGHBOUR(part)))
    return [(name or identifier, identifier if name else "", gap) for identifier, name, gap in found]


def _structures_note(n_found: int, cards: Sequence[Mapping[str, Any]]) -> str:
    n_cards = len(cards)
    if n_found == n_cards:
        return "Each picture is one unit cell as the model read it, with the linkers that leave it completed."
    if n_found == 0 and len(files := {row["file"] for row in cards}) == 1 and (why := NO_FILE.get(*files)):
        return f"No structure is shown: {why}."
    if n_found == 0:
        return "The CIF files were not found, so no structure is shown; run from the folder screened from."
    missing = n_cards - n_found
    return f"{missing} of {n_cards} CIF files were not found, or changed since, and are not shown."


def _failures(table: Screened) -> list[dict[str, Any]]:
    """Failures by the name of their reason, the most frequent first."""
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in records(table.failed):
        name, _, words = (row["reason"] or "unknown").partition(":")
        groups[name].append((named(row["file"] or "", str(row["structure_id"])), words.strip()))
    return [
        {"name": name, "count": len(rows), "examples": rows[:MAX_EXAMPLES]}
        for name, rows in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    ]


def _has(table: Screened, column: str) -> bool:
    return column in table.ranked and bool(table.ranked[column].notna().any())


def _rows_json(table: Screened, window: Window) -> Markup:
    columns = [plain(table.frame[name]) for name in table.frame.columns]
    ends = list(table.ends) if table.coverage else []
    shaded = window and [min(_FAR_EV, max(-_FAR_EV, end)) for end in window]
    content = {"columns": list(table.frame.columns), "values": columns, "window": shaded, "ends": ends}
    return as_json(content | {"notes": sorted(NOTES), "known": sorted(KNOWN)})
