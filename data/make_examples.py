"""Makes the example CIFs and their README from the CoRE MOF collection.

Run ``pip install core-mof`` and ``python data/make_examples.py`` at the top of the repository. Every name is
checked against the composition that it stands for.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import spglib

from mofgap.crystals.checks import NOTES, check_crystal
from mofgap.crystals.crystal import Crystal
from mofgap.crystals.formula import formula_sum, parse_formula, reduced_formula
from mofgap.crystals.inputs import expand_inputs
from mofgap.crystals.item import InputItem, read_input
from mofgap.crystals.write import write_cif
from mofgap.datasets.checksum import SUMS, write_sums
from mofgap.whole_file import sha256_of

FOLDER = Path(__file__).parent / "examples"
COLLECTION_DOI = {
    "2014": "10.1021/cm502594j",
    "2019-ASR": "10.1021/acs.jced.9b00835",
}
# Atoms this near to a lattice translation of another are its repetition, in conventional cells; angstrom.
SYMMETRY_PRECISION = 0.02


@dataclass(frozen=True)
class Example:
    """A framework to ship: its common name, its entry in the collection and its formula unit."""

    name: str
    dataset: str
    entry: str
    formula: str
    remark: str

    @property
    def refcode(self) -> str:
        """The entry's name in the Cambridge Structural Database, or the paper's DOI suffix."""
        return self.entry.split("_")[0]


EXAMPLES = (
    Example("MOF-5", "2019-ASR", "MIBQAR16_clean", "Zn4 O13 C24 H12", "zinc terephthalate"),
    Example("MOF-5-interpenetrated", "2019-ASR", "HIFTOG_clean", "Zn4 O13 C24 H12", "two nets of MOF-5"),
    Example("HKUST-1", "2019-ASR", "FIQCEN_clean", "Cu3 C18 H6 O12", "copper trimesate"),
    Example("UiO-66", "2019-ASR", "RUBTAK01_SL", "Zr6 C48 H28 O32", "zirconium terephthalate"),
    Example("UiO-67", "2019-ASR", "WIZMAV02_auto", "Zr6 C84 H52 O32", "zirconium biphenyldicarboxylate"),
    Example("MOF-801", "2019-ASR", "BOHJOZ_auto", "Zr6 C24 H16 O32", "zirconium fumarate"),
    Example("MIL-140A", "2019-ASR", "ZONBAH_clean", "Zr C8 H4 O5", "zirconium oxide terephthalate"),
    Example("ZIF-8", "2019-ASR", "OFERUN_clean", "Zn C8 H10 N4", "zinc 2-methylimidazolate"),
    Example("ZIF-67", "2019-ASR", "GITTOT_manual", "Co C8 H10 N4", "cobalt 2-methylimidazolate"),
    Example("ZIF-3", "2019-ASR", "VEJYOZ_clean", "Zn C6 H6 N4", "zinc imidazolate"),
    Example("MIL-53-Al-open", "2019-ASR", "SABVUN_clean_h_min", "Al C8 H5 O5", "large-pore form"),
    Example("MIL-53-Al-closed", "2019-ASR", "SABWAU_SL", "Al C8 H5 O5", "narrow-pore form"),
    Example("MIL-53-Cr", "2019-ASR", "MINVUA01_SL", "Cr C8 H5 O5", "chromium terephthalate"),
    Example("MIL-53-Ga", "2019-ASR", "COMDOY_clean", "Ga C8 H5 O5", "gallium terephthalate"),
    Example("MIL-53-Sc", "2019-ASR", "VASKOR_clean", "Sc C8 H5 O5", "scandium terephthalate"),
    Example("MIL-68-In", "2019-ASR", "LOQLEJ_manual", "In C8 H5 O5", "indium terephthalate"),
    Example("MIL-47-V", "2014", "IXODUV_clean", "V C8 H4 O5", "vanadyl terephthalate"),
    Example("Al-fumarate", "2019-ASR", "DOYBEA_clean", "Al C4 H3 O5", "aluminium fumarate"),
    Example("DUT-4", "2019-ASR", "WOJJOV_SL", "Al C12 H7 O5", "aluminium naphthalenedicarboxylate"),
    Example("MOF-74-Mg", "2019-ASR", "VOGTIV_clean_h", "Mg2 C8 H2 O6", "open magnesium sites"),
    Example("MOF-74-Zn", "2019-ASR", "FIJDOS_clean", "Zn2 C8 H2 O6", "open zinc sites"),
    Example("MOF-74-Ni", "2014", "LECQEQ_clean", "Ni2 C8 H2 O6", "open nickel sites"),
    Example("MOF-74-Co", "2014", "SATNOR_clean", "Co2 C8 H2 O6", "open cobalt sites"),
    Example("IRMOF-74-II", "2019-ASR", "RAVVUH_clean", "Mg2 C14 H6 O6", "MOF-74 with a longer linker"),
    Example("MOF-505", "2019-ASR", "LASYOU_clean", "Cu2 C16 H6 O8", "copper biphenyltetracarboxylate"),
    Example("MOF-14", "2019-ASR", "science.1056698_manual", "Cu3 C54 H30 O12", "copper benzenetribenzoate"),
    Example("MOF-76-Tb", "2019-ASR", "FIJFEK_manual", "Tb C9 H3 O6", "terbium trimesate"),
    Example("SBMOF-1", "2019-ASR", "KAXQIL_clean", "Ca C14 H8 O6 S", "calcium sulfonyldibenzoate"),
    Example(
        "SIFSIX-3-Zn", "2019-ASR", "FUDQIF_clean", "Zn Si F6 C8 H8 N4", "pyrazine and hexafluorosilicate"
    ),
    Example(
        "Hofmann-FeNi", "2019-ASR", "LUFQUZ_clean", "Fe Ni C8 H4 N6", "iron pyrazine tetracyanonickelate"
    ),
    Example("Li2-BDC", "2019-ASR", "MOTMAK_clean", "Li2 C8 H4 O4", "lithium terephthalate"),
    Example("Mg-formate", "2014", "REJVOS_clean", "Mg C2 H2 O4", "magnesium formate"),
)


def published(dataset: str) -> dict[str, InputItem]:
    """The CIFs of one collection that become examples, by entry."""
    wanted = {f"{example.entry}.cif": example.entry for example in EXAMPLES if example.dataset == dataset}
    archive = resources.files("CoRE_MOF.data") / f"{dataset}.tar.xz"
    found: dict[str, InputItem] = {}
    for item in expand_inputs([str(archive)]):
        entry = wanted.get(item.source.rsplit("/", 1)[-1].rsplit(":", 1)[-1])
        if entry is not None and isinstance(item, InputItem):
            found[entry] = item
    return found


def paper_doi(example: Example) -> str:
    """The DOI that the collection gives for the structure, empty where it gives none."""
    table = resources.files("CoRE_MOF.data") / f"{example.dataset}.csv"
    with table.open(encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["filename"] == example.entry:
                return (row.get("DOI_public") or "").strip()
    return ""


def primitive(crystal: Crystal) -> Crystal:
    """The crystal in a primitive cell, atoms at their published places."""
    found = spglib.standardize_cell(
        (crystal.cell, crystal.frac_coords, crystal.atomic_numbers),
        to_primitive=True,
        no_idealize=True,
        symprec=SYMMETRY_PRECISION,
    )
    if found is None or len(found[2]) >= crystal.n_atoms:
        return crystal
    cell, frac_coords, numbers = found
    order = np.argsort(numbers, kind="stable")
    return replace(
        crystal,
        cell=cell,
        frac_coords=frac_coords[order] % 1.0,
        atomic_numbers=numbers[order].astype(np.int64),
    )


def make(example: Example, item: InputItem) -> Crystal:
    """The example's structure.

    Raises:
        ValueError: it cannot be read, needs a look, or is not what its name says.
    """
    (entry,) = read_input(item)
    if not isinstance(entry, Crystal):
        raise ValueError(f"{example.entry}: {entry.reason}")
    crystal = replace(primitive(entry), structure_id=f"{example.name}_{example.refcode}")
    found = np.bincount(crystal.atomic_numbers)
    unit = {number: int(count) for number, count in parse_formula(example.formula).items()}
    n_units = crystal.n_atoms // sum(unit.values())
    if {int(number): int(found[number]) for number in np.flatnonzero(found)} != {
        number: n_units * count for number, count in unit.items()
    }:
        raise ValueError(f"{example.entry} is {formula_sum(crystal.atomic_numbers)}, not {example.formula}")
    told = [text for text in check_crystal(crystal) if text.split(":")[0] not in NOTES]
    if told or entry.warnings:
        raise ValueError(f"{example.entry}: {told} {entry.warnings}")
    return crystal


def main() -> None:
    """Writes the CIFs and the README."""
    items = {dataset: published(dataset) for dataset in COLLECTION_DOI}
    rows = []
    for example in EXAMPLES:
        crystal = make(example, items[example.dataset][example.entry])
        doi = paper_doi(example)
        header = {
            "_chemical_name_common": example.name,
            "_database_code_CSD": example.refcode,
            "_citation_doi": COLLECTION_DOI[example.dataset],
        }
        if doi:
            del header["_database_code_CSD"]
            header["_journal_paper_doi"] = doi
        path = FOLDER / f"{crystal.structure_id}.cif"
        path.write_text(write_cif(crystal, header), encoding="utf-8", newline="\n")
        source = f"doi:{doi}" if doi else f"CSD {example.refcode}"
        formula = reduced_formula(crystal.atomic_numbers)
        rows.append(
            f"| `{path.name}` | {example.remark} | {formula} | {crystal.n_atoms} "
            f"| {source} | {example.dataset}, `{example.entry}` |"
        )
    template = (FOLDER.parent / "examples_readme.md").read_text(encoding="utf-8")
    text = template.replace("{rows}", "\n".join(rows))
    (FOLDER / "README.md").write_text(text, encoding="utf-8", newline="\n")
    write_sums(FOLDER / SUMS, {path.name: sha256_of(path) for path in FOLDER.glob("*.cif")})


if __name__ == "__main__":
    main()
