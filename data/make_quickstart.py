"""Makes the quickstart set: small frameworks of CoRE MOF 2019 with GFN1-xTB gaps computed by tblite.

Run ``pip install core-mof tblite`` and ``OMP_NUM_THREADS=1 python data/make_quickstart.py`` at the top of the
repository. Every result is kept in a journal as soon as it is there, so that a killed run goes on where it
stopped; the same versions give the same files.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any

import gemmi
import numpy as np
from make_examples import COLLECTION_DOI, EXAMPLES, primitive
from numpy.typing import NDArray

from mofgap.crystals.bonds import IS_METAL
from mofgap.crystals.checks import NOTES, OPEN_SHELL, check_crystal
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.formula import reduced_formula
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.write import write_cif
from mofgap.datasets.checksum import SUMS, write_sums
from mofgap.datasets.groups import group_names, refcode_family
from mofgap.whole_file import sha256_of

FOLDER = Path(__file__).parent / "quickstart"
COLLECTION = "2019-ASR"
SPLIT_SIZES = {"test": 50, "val": 50}
MAX_ATOMS = 80
# GFN1-xTB has parameters up to radon.
MAX_ATOMIC_NUMBER = 86
# With the Gamma point alone, the narrower a cell the farther its gap is from that of the bands; angstrom.
MIN_CELL_HEIGHT = 5.0
MAX_OF_A_GROUP = 2
BOHR_ANGSTROM = 0.529177210903
HARTREE_EV = 27.211386245988
# An orbital this near to 0 or 2 electrons counts as empty or full; the smearing is that of 300 K.
OCCUPATION_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Candidate:
    """A structure that may be labelled.

    Attributes:
        crystal: In its primitive cell, named by its entry in the collection.
        formula: The empirical formula.
        metals: Symbols joined by hyphens.
        family: What all determinations of one substance share.
    """

    crystal: Crystal
    formula: str
    metals: str
    family: str


def candidates() -> list[Candidate]:
    """Sound small structures of the collection; metals take turns in an order that depends on names alone."""
    shipped = {example.refcode[:6] for example in EXAMPLES}
    by_metals: dict[str, list[Candidate]] = defaultdict(list)
    for crystal in small_crystals():
        numbers = np.unique(crystal.atomic_numbers)
        metals = "-".join(gemmi.Element(int(number)).name for number in numbers[IS_METAL[numbers]])
        family = refcode_family(crystal.structure_id)
        candidate = Candidate(crystal, reduced_formula(crystal.atomic_numbers), metals, family)
        if candidate.family not in shipped:
            by_metals[metals].append(candidate)
    queues = [
        sorted(queue, key=lambda candidate: _draw(candidate.crystal.structure_id))
        for _, queue in sorted(by_metals.items())
    ]
    return [candidate for turn in zip_longest(*queues) for candidate in turn if candidate is not None]


def small_crystals() -> Iterator[Crystal]:
    """The structures that are small enough, closed-shell by their elements and have no warnings."""
    archive = resources.files("CoRE_MOF.data") / f"{COLLECTION}.tar.xz"
    for item in expand_inputs([str(archive)]):
        for entry in read_input(item) if isinstance(item, InputItem) else []:
            if not isinstance(entry, Crystal) or entry.warnings or entry.n_atoms > 8 * MAX_ATOMS:
                continue
            crystal = primitive(entry)
            if crystal.n_atoms > MAX_ATOMS or crystal.atomic_numbers.max() > MAX_ATOMIC_NUMBER:
                continue
            if crystal.atomic_numbers.sum() % 2 or OPEN_SHELL & set(crystal.atomic_numbers.tolist()):
                continue
            if cell_heights(crystal.cell).min() < MIN_CELL_HEIGHT:
                continue
            if not any(text.split(":")[0] not in NOTES for text in check_crystal(crystal)):
                yield crystal


def cell_heights(cell: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) distances between opposite faces of a cell, angstrom."""
    heights: NDArray[np.float64] = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    return heights


def _draw(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def single_point(crystal: Crystal) -> Any:
    """GFN1-xTB of a crystal at the Gamma point: a result of tblite."""
    from tblite.interface import Calculator

    calculator = Calculator(
        "GFN1-xTB",
        crystal.atomic_numbers,
        crystal.cart_coords / BOHR_ANGSTROM,
        lattice=crystal.cell / BOHR_ANGSTROM,
        periodic=np.array([True, True, True]),
    )
    calculator.set("verbosity", 0)
    return calculator.singlepoint()


def compute(crystal: Crystal) -> dict[str, float | str]:
    """Frontier orbitals of a crystal at the Gamma point, or the reason why it has none.

    Returns:
        ``homo_ev``, ``lumo_ev`` and ``seconds``, or ``reason``.
    """
    from tblite.exceptions import TBLiteRuntimeError

    start = time.perf_counter()
    try:
        result = single_point(crystal)
    except TBLiteRuntimeError as error:
        return {"reason": f"xtb-failed: {' '.join(str(error).split())}"}
    energies = np.asarray(result.get("orbital-energies")) * HARTREE_EV
    occupations = np.asarray(result.get("orbital-occupations"))
    full, empty = occupations > 2 - OCCUPATION_TOLERANCE, occupations < OCCUPATION_TOLERANCE
    if not (full | empty).all():
        return {"reason": "partly-filled: orbitals at the Fermi level hold neither 0 nor 2 electrons"}
    return {
        "homo_ev": round(float(energies[full].max()), 4),
        "lumo_ev": round(float(energies[empty].min()), 4),
        "seconds": round(time.perf_counter() - start, 2),
    }


def label(pool: list[Candidate], journal: Path) -> tuple[list[tuple[Candidate, float]], Counter[str]]:
    """Labels the candidates in order, few of a kind.

    Args:
        pool: What `candidates` gives.
        journal: File of results, a JSON object a line; what stands there is not computed again.

    Returns:
        The labelled structures with their gaps, eV, and how often each reason left one out.
    """
    known = {}
    if journal.exists():
        lines = journal.read_text(encoding="utf-8").split("\n")
        # A killed run may leave half a line, which lacks its end.
        known = {row["id"]: row for row in map(json.loads, lines[:-1])}
        journal.write_text("".join(line + "\n" for line in lines[:-1]), encoding="utf-8")
    labelled: list[tuple[Candidate, float]] = []
    taken, reasons = Counter[str](), Counter[str]()
    journal.parent.mkdir(parents=True, exist_ok=True)
    with journal.open("a", encoding="utf-8") as file:
        for candidate in pool:
            kin = (candidate.formula, candidate.family)
            if max(taken[name] for name in kin) >= MAX_OF_A_GROUP:
                continue
            name = candidate.crystal.structure_id
            if name not in known:
                known[name] = {"id": name, **compute(candidate.crystal)}
                file.write(json.dumps(known[name]) + "\n")
                file.flush()
            if "reason" in known[name]:
                reasons[known[name]["reason"].split(":")[0]] += 1
            else:
                taken.update(kin)
                labelled.append((candidate, known[name]["lumo_ev"] - known[name]["homo_ev"]))
    return labelled, reasons


def splits(group: list[str]) -> list[str]:
    """A split for each structure, whole groups at a time in the order of their hashes."""
    sizes = Counter(group)
    split, filled = {}, Counter[str]()
    for name in sorted(sizes, key=_draw):
        room = (part for part, n in SPLIT_SIZES.items() if filled[part] + sizes[name] <= n)
        split[name] = chosen = next(room, "train")
        filled[chosen] += sizes[name]
    return [split[name] for name in group]


def dois() -> dict[str, str]:
    """The DOI of the paper behind each entry, where the collection gives it."""
    table = resources.files("CoRE_MOF.data") / f"{COLLECTION}.csv"
    with table.open(encoding="utf-8", newline="") as rows:
        return {row["filename"]: (row.get("DOI_public") or "").strip() for row in csv.DictReader(rows)}


def write(labelled: list[tuple[Candidate, float]], reasons: Counter[str]) -> None:
    """Writes the archive of CIFs, the table of labels, their hashes and the card."""
    labelled = sorted(labelled, key=lambda pair: pair[0].crystal.structure_id)
    members = [candidate for candidate, _ in labelled]
    group = group_names([member.formula for member in members], [member.family for member in members])
    split = splits(group)
    paper = dois()
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["structure_id", "gap_ev", "split", "group", "formula", "metals", "n_atoms", "doi"])
    archive = FOLDER / "structures.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as cifs:
        for (candidate, gap), its_group, its_split in zip(labelled, group, split, strict=True):
            crystal = candidate.crystal
            doi = paper.get(crystal.structure_id, "")
            header = {"_citation_doi": COLLECTION_DOI[COLLECTION]}
            header |= {"_journal_paper_doi": doi} if doi else {}
            # A fixed date, so that the same structures give the same bytes.
            info = zipfile.ZipInfo(f"{crystal.structure_id}.cif", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            cifs.writestr(info, write_cif(replace(crystal, frac_coords=crystal.frac_coords % 1.0), header))
            chemistry = (candidate.formula, candidate.metals, crystal.n_atoms, doi)
            rows.writerow([crystal.structure_id, f"{gap:.4f}", its_split, its_group, *chemistry])
    (FOLDER / "labels.csv").write_text(table.getvalue(), encoding="utf-8", newline="\n")
    write_sums(
        FOLDER / SUMS,
        {name: sha256_of(FOLDER / name) for name in ("atoms.parquet", "labels.csv", archive.name)},
    )
    template = (FOLDER.parent / "quickstart_readme.md").read_text(encoding="utf-8")
    for key, value in facts(labelled, split, group, reasons).items():
        template = template.replace(f"{{{key}}}", value)
    (FOLDER / "README.md").write_text(template, encoding="utf-8", newline="\n")


def facts(
    labelled: list[tuple[Candidate, float]], split: list[str], group: list[str], reasons: Counter[str]
) -> dict[str, str]:
    """What the card says of the set, by placeholder."""
    gaps = np.array([gap for _, gap in labelled])
    metals = Counter(symbol for candidate, _ in labelled for symbol in candidate.metals.split("-"))
    sizes = [candidate.crystal.n_atoms for candidate, _ in labelled]
    quantiles = zip((5, 25, 50, 75, 95), np.percentile(gaps, (5, 25, 50, 75, 95)), strict=True)
    return {
        "n": str(len(labelled)),
        "n_groups": str(len(set(group))),
        "splits": ", ".join(f"{split.count(name)} {name}" for name in ("train", "val", "test")),
        "gap_range": f"{gaps.min():.2f} to {gaps.max():.2f}",
        "gap_mean": f"{gaps.mean():.2f}",
        "gap_std": f"{gaps.std():.2f}",
        "quantiles": ", ".join(f"{q} %: {value:.2f}" for q, value in quantiles),
        "n_metals": str(len(metals)),
        "metals": ", ".join(f"{symbol} {count}" for symbol, count in metals.most_common()),
        "atoms": f"{min(sizes)} to {max(sizes)}, median {median(sizes):.0f}",
        "left_out": ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()),
        "versions": ", ".join(f"{name} {version(name)}" for name in ("core-mof", "tblite")),
    }


def main() -> None:
    """Computes what is missing and writes the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--journal", type=Path, default=Path("quickstart.jsonl"), help="results so far")
    arguments = parser.parse_args()
    labelled, reasons = label(candidates(), arguments.journal)
    FOLDER.mkdir(exist_ok=True)
    write(labelled, reasons)


if __name__ == "__main__":
    main()
