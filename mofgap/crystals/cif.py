"""Reading CIFs, damaged ones too, and a named reason whenever one gives no structure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, pairwise

from gemmi import cif

from mofgap.choices import MAX_ATOMS, Disorder
from mofgap.crystals.block import n_rows, small_structure
from mofgap.crystals.crowding import MOST_SITES_OF_ATOM
from mofgap.crystals.crystal import MEMORY, Crystal
from mofgap.crystals.disorder import put_together, refuse
from mofgap.crystals.entry import Entry, ReadFailure, unforeseen
from mofgap.crystals.formats import LONGEST_NAME, stem_of
from mofgap.crystals.lattice import cell_of, volume_of
from mofgap.crystals.reasons import StructureError, one_line
from mofgap.crystals.repair import GEMMI_ERRORS, quoted, readable, repaired
from mofgap.crystals.sites import formula_of, sites_of
from mofgap.crystals.symmetry import by_rotation, expand, n_places, operations
from mofgap.crystals.unit_cell import check_size, settle

MOST_SMALL = 30_000
SMALL_BYTES = 1_000
"""How many structures of so few bytes are read of one CIF: these take 5 seconds, and a MOF has more bytes."""

MOST_BLOCKS = 100_000
"""How many data blocks are parsed of one CIF, with atoms or without: these take 5 seconds."""

# Names of DDLm dictionaries and mmCIF have a dot where those of the core dictionary have an underscore.
_DOTTED_NAME = re.compile(r"^([ \t]*_\w+)\.", re.MULTILINE)
_CIF_2 = "#\\#CIF_2.0"
# A text field, a comment, or a value in quotes, of which the first group are three.
_FIELD_OR_TRIPLE = re.compile(
    r"""^;.*?^;|(?<!\S)(?:#[^\n]*|('{3}|"{3})(.*?)\1|'[^'\n]*'|"[^"\n]*")""", re.MULTILINE | re.DOTALL
)
_BLOCK_START = re.compile(r"^(?:;|[ \t]*data_)", re.IGNORECASE | re.MULTILINE)
_BLOCK_NAME = re.compile(r"(?<!\S)data_", re.IGNORECASE)
_CELL_TAG = "_cell_length_a"
VOLUME_TOLERANCE = 0.01
"""Part by which the volume that a file states may differ from that of its cell."""
# Ends of lines of old Macs, control characters, and what pages and word processors write for blank and
# minus, and the mark at the start of a file that was appended.
_PLAIN = {"\r\n": "\n", "\r": "\n", "\x00": " ", "\x1a": " ", "\u00a0": " ", "\u2212": "-", "\ufeff": ""}
# The first words of SHELX and PDB files, of which a conversion by ASE fails or loses the symmetry.
_WITH_SYMMETRY = ("TITL", "CELL", "CRYST1", "HEADER", "HETATM")


def read_cif_bytes(
    data: bytes, source: str, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS
) -> list[Entry]:
    """Reads the bytes of a CIF in UTF-8, UTF-16, Windows-1252 or Latin-1, see `read_cif`."""
    try:
        text, warnings = decode(data)
    except StructureError as error:
        return [ReadFailure(source, stem_of(source), str(error))]
    entries = read_cif(text, source, disorder=disorder, max_atoms=max_atoms)
    if not warnings:
        return entries
    return [
        replace(entry, warnings=warnings + entry.warnings) if isinstance(entry, Crystal) else entry
        for entry in entries
    ]


def decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    """Text of a CIF's bytes, and a warning if its encoding had to be guessed.

    Raises:
        StructureError: If ``data`` are not text.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif len(data) > 1 and 0 in data[:2]:
        encodings = ["utf-16-be" if data[0] == 0 else "utf-16-le"]
    else:
        encodings = ["utf-8-sig", "cp1252", "latin-1"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Control characters and C1 codes do not occur in text; one stray is forgiven.
        n_unprintable = sum(
            not (c.isprintable() or c in "\t\r\n\f\v\u00a0\u00ad\ufeff") for c in set(text[:4096])
        )
        if n_unprintable > 2 and _CELL_TAG not in text:  # names in another encoding do not matter
            break
        for old, new in _PLAIN.items():
            text = text.replace(old, new)
        return text, () if encoding == "utf-8-sig" else (f"encoding: the file is {encoding}, not UTF-8",)
    raise StructureError("bad-encoding: the bytes are not text; a CIF is plain text in UTF-8")


def read_cif(
    text: str, source: str = MEMORY, *, disorder: Disorder = "refuse", max_atoms: int = MAX_ATOMS
) -> list[Entry]:
    """Reads every structure of a CIF.

    Args:
        text: Content of the file.
        source: Its path or name, kept with each structure. The ``structure_id`` is the file's stem, and
            the name of the data block where the file holds several structures.
        disorder: What to do about partial occupancies: fail, or keep the majority occupants.
        max_atoms: Largest cell, in atoms, that is accepted.

    Returns:
        A `Crystal` or a `ReadFailure` for each data block with atom sites; at least one entry.
    """
    stem = stem_of(source)
    try:
        parts = _parts(text)
    except StructureError as error:
        return [ReadFailure(source, stem, str(error))]
    n_parts = len(parts)
    if len(text) < n_parts * SMALL_BYTES:
        del parts[MOST_SMALL:]
    names = _unique([part.name for part in parts]) if n_parts > 1 else [stem]
    entries: list[Entry] = []
    for part, name in zip(parts, names, strict=True):
        try:
            entries.append(_structure(part, source, name, disorder, max_atoms))
        except StructureError as error:
            entries.append(ReadFailure(source, name, str(error)))
        except Exception as error:  # one block that no reader was ready for must not cost the others
            entries.append(ReadFailure(source, name, unforeseen(error)))
    if n_parts > len(parts):
        what = f"too-many-structures: {n_parts} small ones in one CIF, of which {len(parts)} were read"
        entries.append(ReadFailure(source, stem, f"{what}; give the others in files of their own"))
    return entries


@dataclass(frozen=True, eq=False)
class _Part:
    """A data block with atom sites, or why it cannot be read."""

    name: str
    block: cif.Block | StructureError
    notes: tuple[str, ...] = ()


def _parts(text: str) -> list[_Part]:
    """The data blocks of a text that hold atom sites.

    Raises:
        StructureError: If the text is empty, is not a CIF, lists no atom sites, or has far too many blocks.
    """
    if not text.strip():
        raise StructureError("empty-file: the file is empty; download or export it again")
    if any(n >= MOST_BLOCKS for n, _ in enumerate(_BLOCK_NAME.finditer(text))):
        what = f"too-many-structures: more than {MOST_BLOCKS} data blocks in one CIF"
        raise StructureError(f"{what}; split the file")
    text = _DOTTED_NAME.sub(r"\1_", _without_triple_quotes(text))
    starts = _block_starts(text)
    if not starts:
        raise _no_cif(text)
    try:
        parts = _parse(text)
    except GEMMI_ERRORS:
        # One damaged block must not take the others with it; each keeps the numbers of its lines.
        parts, lines_above = [], text.count("\n", 0, starts[0])
        for start, end in pairwise([*starts, len(text)]):
            parts += _parse_damaged(text[start:end], lines_above)
            lines_above += text.count("\n", start, end)
    parts = [part for part in parts if isinstance(part.block, StructureError) or n_rows(part.block)]
    if not parts:
        raise StructureError("no-atoms: the file lists no atom sites; export it again with its coordinates")
    return parts


def _without_triple_quotes(text: str) -> str:
    """CIF 2's values in triple quotes as text fields, which gemmi reads; text fields stay as they are."""
    if not text.startswith(_CIF_2):
        return text
    return _FIELD_OR_TRIPLE.sub(lambda found: f"\n;{found[2]}\n;\n" if found[1] else found[0], text)


def _block_starts(text: str) -> list[int]:
    """Where data blocks begin; not inside text fields, unless one does not end: they may hold whole files."""
    starts, outside, in_text = [], [], False
    for match in _BLOCK_START.finditer(text):
        if match[0] == ";":
            in_text = not in_text
            continue
        starts.append(match.start())
        if not in_text:
            outside.append(match.start())
    return starts if in_text else outside


def _no_cif(text: str) -> StructureError:
    """Why a text is no CIF, and what to do."""
    if text.lstrip().startswith("<"):
        return StructureError("not-a-cif: a web page; download the structure again")
    if text.split(maxsplit=1)[0].upper() in _WITH_SYMMETRY:
        return StructureError(
            "not-a-cif: a file of SHELX or PDB; export a CIF with its symmetry (SHELXL, Olex2, Mercury)"
        )
    return StructureError(
        "not-a-cif: it has no data_ block; give the file the ending of its format, or convert it "
        "(ase convert NAME NAME.cif)"
    )


def _parse(text: str, lines_above: int = 0) -> list[_Part]:
    """The data blocks that gemmi finds in ``text``, which has ``lines_above`` lines above it in its file.

    Raises:
        ValueError: If the syntax of ``text`` is wrong.
        RuntimeError: If the syntax of ``text`` is wrong in a way that gemmi reports with this class.
    """
    notes: tuple[str, ...] = ()
    try:
        document = cif.read_string(text)
    except GEMMI_ERRORS as error:
        if "duplicate" not in str(error):
            raise
        document = cif.read_string(text, 0)
        if "block name" not in str(error):  # blocks of one name are all read
            notes = (f"duplicate-tag: {readable(error, lines_above)}; the first was used",)
    return [_Part(block.name[:LONGEST_NAME], block, notes) for block in document]


def _parse_damaged(text: str, lines_above: int) -> list[_Part]:
    """A data block that gemmi may refuse, by what a structure takes of it."""
    try:
        return _parse(text, lines_above)
    except GEMMI_ERRORS as refused:
        error = refused
    words = readable(error, lines_above)
    try:  # a value of several words, as in P 1, says what it says without its quotes
        place = words.partition(":")[0]
        note = f"unquoted-value: {place} has several words without quotes; they were read as one value"
        return [replace(part, notes=(note, *part.notes)) for part in _parse(quoted(text), lines_above)]
    except GEMMI_ERRORS:
        pass
    name = text.split(maxsplit=1)[0][len("data_") :][:LONGEST_NAME]
    try:
        block = repaired(text, error, lines_above)
    except StructureError as reason:
        return [_Part(name, reason)] if "_atom_site_" in text.lower() else []
    return [_Part(name, block, (f"lenient-reading: {words}; compare the structure with the file",))]


def _unique(names: list[str]) -> list[str]:
    """Names of data blocks, repeated ones numbered."""
    taken, met = set(names), set[str]()
    numbers: dict[str, Iterator[int]] = {}
    result: list[str] = []
    for name in names:
        if name in met:
            numbered = (f"{name}-{i}" for i in numbers.setdefault(name, count(2)))
            name = next(n for n in numbered if n not in taken)
        taken.add(name)
        met.add(name)
        result.append(name)
    return result


def _volume_mismatch(block: cif.Block, volume: float) -> list[str]:
    """A warning of a cell that does not have the volume that the file states, or nothing."""
    stated = cif.as_number(block.find_value("_cell_volume") or "?")
    if not stated > 0 or abs(stated / volume - 1) <= VOLUME_TOLERANCE:
        return []
    what = f"the file states {stated:.0f} Å³, but its lengths and angles give {volume:.0f}"
    return [f"cell-volume: {what}; correct them"]


def _structure(part: _Part, source: str, name: str, disorder: Disorder, max_atoms: int) -> Crystal:
    """The structure of one block.

    Raises:
        StructureError: If ``part`` holds no structure, or its structure is refused.
    """
    if isinstance(part.block, StructureError):
        raise part.block
    block = part.block
    if (n := n_rows(block)) > MOST_SITES_OF_ATOM * max_atoms:  # dummies and alternatives among them
        check_size(n, max_atoms)
    structure = small_structure(block)
    cell = cell_of(structure)
    sites, notes = sites_of(block, structure, cell, disorder == "majority")
    check_size(len(sites), max_atoms)
    ops, more = operations(block, structure.cell)
    sites, split = put_together(sites, n_places(ops, sites.frac_coords, cell))
    if disorder == "refuse":
        refuse(sites)
    elif sites.partial.any():
        ops = by_rotation(ops)
    site_index, op_index, frac_coords = expand(ops, sites.frac_coords, cell)
    if len(ops) > 1:
        sites = replace(sites.take(site_index), frac_coords=frac_coords)
    warnings = (*part.notes, *_volume_mismatch(block, volume_of(cell)), *notes, *more, *split)
    crystal = Crystal(cell, sites.frac_coords, sites.atomic_numbers, name, source, warnings)
    crystal = settle(crystal, sites, op_index, formula_of(block), disorder, max_atoms)
    return replace(crystal, warnings=tuple(map(one_line, crystal.warnings)))
